"""Causal scrubbing: how much is left when all that a hypothesis allows is exchanged?"""

from ui.page import method_page

method_page("causal_scrubbing")
