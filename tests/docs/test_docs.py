"""The site: complete navigation, sound links, a reference of every key, a notebook that runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from src.config.help import reference, schema_text
from src.config.overrides import ALIASES
from src.config.schema import Config, schema_keys, section_of

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def navigation() -> set[str]:
    """Return the pages that mkdocs.yml lists."""

    def pages(entry) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        parts = entry.values() if isinstance(entry, dict) else entry
        return [page for part in parts for page in pages(part)]

    return set(pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))


def test_every_page_is_in_the_navigation():
    files = [*DOCS.glob("*.md"), *DOCS.glob("notebooks/*.ipynb")]
    assert navigation() == {file.relative_to(DOCS).as_posix() for file in files}


def test_links_between_pages_lead_somewhere():
    links = [
        (page, link)
        for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.glob("*.md")]
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    ]
    assert len(links) > 15
    assert [link for page, link in links if not (page.parent / link).exists()] == []


def test_the_reference_has_every_key_with_type_and_default():
    text = reference()
    keys = [key for key, field in schema_keys(Config) if section_of(field) is None]
    assert text.count("\n| `") == len(keys) > 150
    assert "| `lr` | number, > 0 | `0.0001` | learning rate (or `exp.lr`) |" in text
    assert "| `name` | `sgd`, `adam`, `adamw` | `sgd` |" in text
    assert text.index("## exp.train") < text.index("## exp.dfr")


def test_every_key_that_a_text_names_exists():
    known = {key for key, _ in schema_keys(Config)} | set(ALIASES)
    open_ended = ("exp.stage_1.", "exp.stage_2.", "exp.dataset.bins.")
    texts = [ROOT / "README.md", *DOCS.glob("*.md"), *(ROOT / "recipes").iterdir()]
    texts += [path for name in ("configs", "src", "scripts") for path in (ROOT / name).rglob("*.*")]
    unknown = {
        (path.relative_to(ROOT), key)
        for path in texts
        if path.suffix in {".md", ".py", ".yaml", ".sh"}
        for key in re.findall(r"\bexp(?:\.[a-z_0-9]+)+", path.read_text())
        if key not in known and not key.startswith(open_ended)
    }
    assert unknown == set()


def test_types_are_described_in_words():
    assert schema_text({"type": "array", "items": {"type": "integer", "minimum": 1}}) == (
        "list of: whole number, >= 1"
    )
    assert schema_text({"anyOf": [{"const": "auto"}, {"type": "boolean"}, {"type": "null"}]}) == (
        "`auto` or `true` or `false` or `null`"
    )


@pytest.mark.slow
def test_the_site_builds_without_warnings(tmp_path):
    pytest.importorskip("mkdocs_jupyter")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr[-2000:]
    page = (tmp_path / "site" / "configuration" / "index.html").read_text()
    assert "learning rate" in page


@pytest.mark.slow
def test_the_notebook_runs(tmp_path, monkeypatch):
    pytest.importorskip("nbclient")
    pytest.importorskip("captum")
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(DOCS / "notebooks" / "first_look.ipynb", as_version=4)
    monkeypatch.setenv("FIRST_LOOK", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    place = {"metadata": {"path": str(DOCS / "notebooks")}}
    NotebookClient(notebook, timeout=800, resources=place, kernel_name="python3").execute()
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    pictures = [out for out in outputs if "image/png" in out.get("data", {})]
    assert len(pictures) >= 3
