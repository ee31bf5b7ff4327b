"""Pages: data cannot leave its element, and only the page's own script may run."""

import base64
import hashlib
import json
import re

import pytest

from src.pages import embed, write_page


def test_embedded_data_holds_no_markup_and_reads_back():
    data = {"name": "</script><!-- & é", "values": [1, None, 0.5]}
    text = embed(data)
    assert not set("<>&") & set(text)
    assert json.loads(text) == data


def test_data_that_is_no_json_is_refused():
    with pytest.raises(ValueError):
        embed({"x": float("nan")})


def test_the_policy_allows_the_script_and_style_of_the_page_and_nothing_else(tmp_path):
    write_page(tmp_path / "page.html", "A & B", ["common", "explorer"], {"x": "$script"})
    page = (tmp_path / "page.html").read_text()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "http" not in policy
    for tag in ("script", "style"):
        (body,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "<title>A &amp; B</title>" in page
    assert json.loads(re.search(r'id="data">(.*?)</script>', page)[1]) == {"x": "$script"}
