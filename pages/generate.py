"""Generate: what does the model write after this prompt?"""

from ui.page import method_page

method_page("generate")
