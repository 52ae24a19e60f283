"""Explore: what does the model predict, and from which layer on?"""

from ui.page import method_page

method_page("logit_lens")
