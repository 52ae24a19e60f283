"""Every analysis that was asked: open, cancel, delete."""

from ui.keep import analyses_page

analyses_page()
