"""Why A, not B: what does each component write directly towards one output over another?"""

from ui.page import method_page

method_page("direct_logit_attribution")
