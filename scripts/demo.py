"""Run recipes/demo.sh: python -m scripts.demo"""

import os
import sys
from pathlib import Path

RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "demo.sh"

if __name__ == "__main__":
    os.environ["PYTHON"] = sys.executable
    os.execv(RECIPE, [str(RECIPE), *sys.argv[1:]])
