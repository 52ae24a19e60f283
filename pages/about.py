"""About: versions, devices, and how each method was checked."""

from ui.start import about_page

about_page()
