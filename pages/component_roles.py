"""Component roles: what does each do to the loss directly, and what is it a sign of?"""

from ui.page import method_page

method_page("component_roles")
