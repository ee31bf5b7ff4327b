"""What may be installed is stated once, the oldest versions are pinned, and an audit never lies."""

import re
import subprocess
from pathlib import Path

import pytest

from scripts import audit
from src.io import UserError

ROOT = Path(__file__).parent.parent
PACKAGE = re.compile(r"([a-z0-9-]+)>=([0-9.]+)(,<[0-9.]+)?")


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


def test_an_audit_that_got_no_answer_says_so_and_fails(monkeypatch):
    failed = subprocess.CompletedProcess([], 1, "", "Traceback\nConnectionError: no route")
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: failed)
    with pytest.raises(UserError, match=r"NOT audited: the service .*ConnectionError: no route"):
        audit.run(["pip-audit"], "the service")


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"dependencies": []}', '{"dependencies": [{"name": "a", "skip_reason": "x"}]}'],
)
def test_an_audit_that_looked_at_nothing_or_not_at_all_is_none(text):
    with pytest.raises(UserError, match="NOT audited"):
        audit.parse(text)


def test_a_finding_is_named_with_its_fix_and_ends_with_1(capsys):
    package = {"name": "a", "version": "1", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2"]}]}
    assert audit.tell([package], 1) == 1
    assert "a 1: PYSEC-1, fixed in 2" in capsys.readouterr().out
    assert audit.tell([{**package, "vulns": []}], 1) == 0
