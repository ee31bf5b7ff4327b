"""`~` means the home folder on every command line."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
OF_A_PATH = re.compile(r"--(\w+_)?(dir|root|out|json|config|file|cache)")


def path_flags() -> dict[str, str | None]:
    """Return the type of each flag that takes a path, by file and flag."""
    found = {}
    for file in [*ROOT.glob("*.py"), *(ROOT / "scripts").rglob("*.py")]:
        for call in ast.walk(ast.parse(file.read_text())):
            if not isinstance(call, ast.Call) or not call.args:
                continue
            flag = getattr(call.args[0], "value", None)
            if isinstance(flag, str) and OF_A_PATH.fullmatch(flag):
                kinds = [word.value for word in call.keywords if word.arg == "type"]
                found[f"{file.name} {flag}"] = ast.unparse(kinds[0]) if kinds else None
    return found


def test_every_flag_of_a_path_expands_home():
    flags = path_flags()
    assert len(flags) >= 20
    assert {name: kind for name, kind in flags.items() if kind != "expand"} == {}
