"""Self-contained HTML pages: a template, a style sheet, a script and data in one file.

A page works from the file system without network. Its Content-Security-Policy allows exactly its
own script and style, by their hashes, and images inside the file: even a name that got past the
escaping could not run anything.
"""

import base64
import hashlib
import html
import json
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any

from src.io import write_atomic

FOLDER = Path(__file__).parent


def write_page(
    path: Path, name: str, title: str, data: Any, parts: Sequence[str] = ("common",)
) -> None:
    """Write the page `name` with `data` in it.

    Its .html, .css and .js lie in this folder; the styles and scripts of `parts` come first.

    The template names $policy, $title, $style, $script and $data; the script reads the data from
    the element with id `data`. NaN in the data raises ValueError.
    """
    style, script = (
        "".join((FOLDER / f"{part}.{kind}").read_text() for part in (*parts, name))
        for kind in ("css", "js")
    )
    policy = "; ".join(
        [
            "default-src 'none'",
            f"script-src '{_hash(script)}'",
            f"style-src '{_hash(style)}'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
    template = Template((FOLDER / f"{name}.html").read_text())
    page = template.substitute(
        policy=policy, title=html.escape(title), style=style, script=script, data=embed(data)
    )
    write_atomic(path, page)


def embed(data: Any) -> str:
    """Return data as JSON for a <script> element: without < > and &."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
