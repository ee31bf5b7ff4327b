import os
from importlib.util import find_spec

# Shells inside Jupyter name a backend of matplotlib that this environment may lack, and matplotlib
# then cannot be imported. We only write files, so any backend will do.
_backend = os.environ.get("MPLBACKEND", "")
if _backend.startswith("module://") and not find_spec(_backend[9:].partition(".")[0]):
    del os.environ["MPLBACKEND"]
