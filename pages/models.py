"""Models: what there is to ask, with cards."""

from ui.start import models_page

models_page()
