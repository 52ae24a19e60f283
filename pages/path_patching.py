"""Path patching: who writes into what matters here?"""

from ui.page import method_page

method_page("path_patching")
