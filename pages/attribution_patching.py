"""Attribution patching: which activations matter, as gradients estimate it?"""

from ui.page import method_page

method_page("attribution_patching")
