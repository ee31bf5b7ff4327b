"""Lower bounds of packages match the pinned oldest versions; upper bounds have reasons."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = re.compile(r"([a-z0-9-]+)(?:\[[a-z_]+\])?>=([0-9.]+)(,<[0-9.]+)?")


def lines(name: str) -> list[str]:
    return (ROOT / name).read_text().splitlines()


def bounds() -> dict[str, str]:
    texts = lines("requirements.txt") + lines("requirements-dev.txt")
    packages = [line for line in texts if line and not line.startswith(("#", "-r"))]
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


def test_an_upper_bound_has_its_reason_in_the_line_above():
    for name in ("requirements.txt", "requirements-dev.txt"):
        text = ["", *lines(name)]
        bounded = [place for place, line in enumerate(text) if "<" in line and line[0] != "#"]
        assert all(text[place - 1].startswith("#") for place in bounded)
