"""Hypothesis search: which hypothesis explains most for the fewest bits?"""

from ui.page import method_page

method_page("hypothesis_search")
