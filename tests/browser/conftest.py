"""A real Chromium for the tests of our pages: Debian's, driven by playwright, without network."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    """A browser context with an empty profile, offline."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"no {CHROMIUM}: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        context = driver.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("profile"),
            executable_path=CHROMIUM,
            args=ARGUMENTS,
            offline=True,
            viewport={"width": 1400, "height": 1000},
        )
        yield context
        context.close()


@pytest.fixture
def open_page(browser) -> Iterator[Callable[[Path], object]]:
    """Open a file as a page; at the end of the test it must have had no error and no request.

    Console errors (a policy that blocks the page's own script is one), exceptions and requests for
    anything but the file itself and inlined data fail the test.
    """
    opened, problems = [], []

    def open_file(path: Path):
        page = browser.new_page()
        opened.append(page)
        url = Path(path).resolve().as_uri()

        def note_request(request):
            if request.url.partition("#")[0] != url and not request.url.startswith("data:"):
                problems.append(f"request for {request.url[:100]}")

        def note_message(message):
            if message.type in ("error", "warning"):
                problems.append(f"{message.type}: {message.text}")

        page.on("request", note_request)
        page.on("console", note_message)
        page.on("pageerror", lambda error: problems.append(f"exception: {error}"))
        page.goto(url)
        return page

    yield open_file
    for page in opened:
        page.close()
    assert problems == []
