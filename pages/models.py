"""Models: what there is to ask, with cards."""

from ui.models import models_page

models_page()
