"""Mechanisms: does an explanation tell which inputs are answered because of it?"""

from ui.page import method_page

method_page("mechanism_distinction")
