"""The table of methods is complete, and the docs show it as it is."""

from pathlib import Path

from src.config.overrides import CONFIG_DIR
from src.report.methods import METHODS, markdown, text

ROOT = Path(__file__).parents[2]


def test_every_method_has_a_row():
    assert set(METHODS) == {path.stem for path in (CONFIG_DIR / "exp").glob("*.yaml")}


def test_the_docs_hold_the_table():
    assert markdown() in (ROOT / "docs" / "methods.md").read_text()


def test_the_list_names_labels_and_published_figures():
    (line,) = [line for line in text().splitlines() if line.startswith("dfr ")]
    assert line.split()[1:6] == ["Kirichenko", "et", "al.", "2023", "val"] and "88.3" in line
