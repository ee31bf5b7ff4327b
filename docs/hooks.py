"""Fill in what pages take from the code; MkDocs calls these functions."""

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def on_page_markdown(markdown: str, **_: object) -> str:
    """Replace the mark of a generated part."""
    mark = "<!-- configuration reference -->"
    if mark not in markdown:
        return markdown
    sys.path.insert(0, str(ROOT))
    from src.config.help import reference

    return markdown.replace(mark, reference())
