"""What a link opens: one question, its answer, and where they come from."""

from ui.keep import record_page

record_page()
