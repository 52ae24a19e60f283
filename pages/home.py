"""Home: what this is, three worked records, what was asked last."""

from ui.start import home_page

home_page()
