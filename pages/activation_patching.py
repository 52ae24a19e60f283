"""Patching: which activations carry the difference between two prompts?"""

from ui.page import method_page

method_page("activation_patching")
