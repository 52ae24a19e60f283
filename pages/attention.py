"""Attention: where does each head look, and which heads are of a known type?"""

from ui.page import method_page

method_page("attention")
