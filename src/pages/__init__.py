"""Self-contained HTML pages: a body, style sheets, scripts and data in one file.

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
    path: Path, title: str, parts: Sequence[str], data: Any = None, body: str | None = None
) -> None:
    """Write a page.

    Args:
        parts: styles and scripts of this folder, in this order; the last one may have a body.
        data: the scripts read it from the element with id `data`. NaN raises ValueError.
        body: HTML; None takes that of the last part.
    """

    def read(kind: str) -> str:
        files = [FOLDER / f"{part}.{kind}" for part in parts]
        return "".join(file.read_text() for file in files if file.exists())

    style, script = read("css"), read("js")
    page = Template((FOLDER / "page.html").read_text()).substitute(
        title=html.escape(title),
        style=style,
        style_hash=_hash(style),
        body=read("html") if body is None else body,
        data=embed(data),
        script=script,
        script_hash=_hash(script),
    )
    write_atomic(path, page)


def embed(data: Any) -> str:
    """Return data as JSON for a <script> element: without < > and &."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def data_url(content: bytes, kind: str) -> str:
    """Return an image, such as image/png, as a URL that a page may show."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
