"""Lower bounds of packages match the pinned oldest versions."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = re.compile(r"([a-z0-9-]+)(?:\[[a-z_]+\])?>=([0-9.]+)(,<[0-9.]+)?")
EXTRAS = ("dev", "torchjd-gpl", "parquet", "explain", "launcher")


def lines(name: str) -> list[str]:
    return (ROOT / name).read_text().splitlines()


def bounds() -> dict[str, str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    packages = [line for line in lines("requirements.txt") if line and line[0] != "#"]
    packages += [text for name in EXTRAS for text in extras[name] if "-mtl[" not in text]
    found = [PACKAGE.fullmatch(line) for line in packages]
    assert all(found), packages
    return {match[1]: match[2] for match in found}


def test_the_oldest_versions_are_the_lower_bounds_and_no_package_is_missing():
    pins = dict(line.split("==") for line in lines("requirements-oldest.txt") if "==" in line)
    lower = bounds()
    assert pins.keys() == lower.keys() and len(pins) > 20
    for name, version in lower.items():
        parts, wanted = pins[name].split("."), version.split(".")
        assert parts[: len(wanted)] == wanted, name
        assert set(parts[len(wanted) :]) <= {"0"}, name
