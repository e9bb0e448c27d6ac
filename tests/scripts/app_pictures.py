"""The pictures of docs/demo.md: every screen of the demo app with a run of `make demo`.

    python tests/scripts/app_pictures.py runs/demo docs/images

It needs the extra `browser` and a Chromium.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from PIL import Image


sys.path.insert(0, str(Path(__file__).parents[1]))

from browsing import NARROW, WIDE, open_screen, opened  # noqa: E402

from codebind_hf.serving import build, serve  # noqa: E402


PORT = 7869
_COLORS = 256


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
            _screens(browser, arguments.folder, name)
            if name == "-phone":
                damaged.write_bytes(b"RIFF" + bytes(60))
                _error(browser, arguments.folder, damaged)
                damaged.unlink()
    page.close()


def _screens(browser: Any, folder: Path, name: str) -> None:
    browser.locator("#cb-found section").first.wait_for()
    browser.wait_for_timeout(2000)
    _keep(browser, folder / f"app-search{name}.png")
    for screen, ready in (
        ("Codes", "#cb-codes li"),
        ("Reconstruction", "#cb-rebuilt figure"),
        ("Swap", "#cb-swap figure"),
        ("Map", "cb-map"),
    ):
        open_screen(browser, screen)
        browser.locator(ready).first.wait_for()
        if screen == "Map":
            browser.get_by_role("radio", name="class", exact=True).check()
            browser.wait_for_timeout(1500)
            browser.locator("cb-map").focus()
            browser.keyboard.press("ArrowUp")
        browser.wait_for_timeout(1500)
        _keep(browser, folder / f"app-{screen.lower()}{name}.png")


def _error(browser: Any, folder: Path, damaged: Path) -> None:
    open_screen(browser, "Search")
    browser.get_by_role("tab", name="Your file").first.click()
    browser.locator("input[type=file]").first.set_input_files(damaged)
    browser.locator("#cb-search-query [role=alert]").wait_for()
    browser.wait_for_timeout(500)
    browser.evaluate("window.scrollTo(0, 0)")
    _keep(browser, folder / "app-error-phone.png", full_page=False)


def _keep(browser: Any, file: Path, full_page: bool = True) -> None:
    browser.screenshot(path=file, full_page=full_page)
    with Image.open(file) as picture:
        small = picture.convert("RGB").quantize(_COLORS, dither=Image.Dither.NONE)
    small.save(file, optimize=True)


if __name__ == "__main__":
    main()
