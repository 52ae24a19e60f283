"""Does the number matter: does a higher scrubbed score mean that the explanation buys more?"""

from ui.page import method_page

method_page("does_the_number_matter")
