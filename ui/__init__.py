"""What people see: with ``app.py`` and ``pages/`` the only importer of streamlit."""
