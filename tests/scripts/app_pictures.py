"""The pictures of docs/demo.md: every screen of the demo app with a run of `make demo`.

    python tests/scripts/app_pictures.py runs/demo docs/images

It needs the extra `browser` and a Chromium.
"""

import argparse
import sys
from pathlib import Path
from typing import Any


sys.path.insert(0, str(Path(__file__).parents[1]))

from browsing import NARROW, WIDE, open_screen, opened  # noqa: E402

from codebind_hf.serving import build, serve  # noqa: E402


PORT = 7869
# Screens, and what is there once they are ready.
READY = {
    "Codes": "#cb-codes li",
    "Reconstruction": "#cb-rebuilt figure",
    "Swap": "#cb-swap figure",
    "Map": "cb-map",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="folder of the run")
    parser.add_argument("folder", type=Path, help="where the pictures go")
    arguments = parser.parse_args()
    page = build(arguments.run)
    serve(page, port=PORT, prevent_thread_lock=True)
    address = f"http://127.0.0.1:{PORT}"
    damaged = Path(arguments.run, "files", "holiday.wav")
    for name, size, scheme in (("", WIDE, "light"), ("-dark", WIDE, "dark"), ("-phone", NARROW, "light")):
        with opened(address, size, scheme) as browser:
            _screens(browser, arguments.folder, name, tuple(READY) if scheme == "light" else ("Map",))
            if name == "-phone":
                damaged.write_bytes(b"RIFF" + bytes(60))
                _error(browser, arguments.folder, damaged)
                damaged.unlink()
    page.close()


def _screens(browser: Any, folder: Path, name: str, screens: tuple[str, ...]) -> None:
    """Pages as a whole in the first look, then what a screen shows at once."""
    browser.locator("#cb-found section").first.wait_for()
    browser.wait_for_timeout(2000)
    browser.screenshot(path=folder / f"app-search{name}.png", full_page=not name)
    for screen in screens:
        open_screen(browser, screen)
        browser.locator(READY[screen]).first.wait_for()
        if screen == "Map":
            browser.get_by_role("radio", name="class", exact=True).check()
            browser.wait_for_timeout(1500)
            browser.locator("cb-map").focus()
            browser.keyboard.press("ArrowUp")
        browser.wait_for_timeout(1500)
        browser.screenshot(path=folder / f"app-{screen.lower()}{name}.png", full_page=not name)


def _error(browser: Any, folder: Path, damaged: Path) -> None:
    open_screen(browser, "Search")
    browser.get_by_role("tab", name="Your file").first.click()
    browser.locator("input[type=file]").first.set_input_files(damaged)
    browser.locator("#cb-search-query [role=alert]").wait_for()
    browser.wait_for_timeout(500)
    browser.evaluate("window.scrollTo(0, 0)")
    browser.screenshot(path=folder / "app-error-phone.png")


if __name__ == "__main__":
    main()
