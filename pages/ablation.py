"""Ablation: what breaks when a component is taken out, and does it depend on the way?"""

from ui.page import method_page

method_page("ablation")
