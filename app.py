"""The entry. As a Streamlit script it draws; imported as a module it is the server's application.

`streamlit run app.py` finds ``app`` and serves pages, routes and the supervisor in one process,
which never imports torch.
"""

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

if get_script_run_ctx(suppress_warning=True) is None:
    from ui.routes import ROUTES, lifespan

    app = st.App(__file__, routes=ROUTES, lifespan=lifespan)
else:
    from ui.shell import draw

    draw()
