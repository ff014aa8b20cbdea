"""The command line; `app.py` names the commands."""
