"""A headless Chromium of the system, driven by Playwright: for tests of pages and for their pictures."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDE, NARROW = (1280, 900), (390, 844)
_WAIT = 60_000


def program() -> str | None:
    """The browser of this machine."""
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


def skip_without_browser() -> None:
    """Skip with one line that says what is missing."""
    pytest.importorskip("playwright", reason="no browser test: Playwright is missing; `pip install -e .[browser]`")
    if program() is None:
        pytest.skip("no browser test: no Chromium on this machine; Debian's is `apt-get install chromium`")


@contextmanager
def opened(address: str, size: tuple[int, int] = WIDE, scheme: str = "light") -> Iterator[Any]:
    """A page of an address; `page.requests` and `page.complaints` list where it asked and what its console said."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as library:
        # Inside a container there is no sandbox to be had.
        browser = library.chromium.launch(executable_path=program(), args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(
            viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, reduced_motion="reduce"
        )
        page.set_default_timeout(_WAIT)
        page.requests, page.complaints = [], []
        page.on("request", lambda request: page.requests.append(request.url))
        page.on("console", lambda said: page.complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.goto(address)
        try:
            yield page
        finally:
            browser.close()


def open_screen(page: Any, name: str) -> None:
    """Go to a screen of the demo app by its tab."""
    page.get_by_role("tab", name=name, exact=True).click()
