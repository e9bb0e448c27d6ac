"""The demo app in a real browser: upload, search, words, codes, swap, map, a damaged file; wide, narrow and dark."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from browsing import NARROW, WIDE, open_screen, opened, skip_without_browser
from served_runs import NAMES


pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
EACH_LOOK = [
    pytest.param(WIDE, "light", id="wide"),
    pytest.param(WIDE, "dark", id="wide and dark"),
    pytest.param(NARROW, "light", id="narrow"),
    pytest.param(NARROW, "dark", id="narrow and dark"),
]


@pytest.fixture(autouse=True)
def _browser() -> None:
    skip_without_browser()


def brightness(page: Any) -> float:
    color = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return sum(map(float, re.findall(r"[\d.]+", color)[:3])) / 3


def colors_of(page: Any, name: str) -> int:
    """How many colours an element has drawn."""
    page.wait_for_timeout(300)
    return page.locator(name).evaluate("""element => {
        const canvas = element.shadowRoot.querySelector("canvas"), pen = canvas.getContext("2d");
        const seen = new Uint32Array(pen.getImageData(0, 0, canvas.width, canvas.height).data.buffer);
        return new Set(seen).size;
    }""")


@pytest.mark.parametrize(("size", "scheme"), EACH_LOOK)
def test_a_person_uploads_searches_compares_swaps_and_looks_around(
    served: SimpleNamespace, run: Path, tmp_path: Path, size: tuple[int, int], scheme: str
) -> None:
    with opened(served.address, size, scheme) as page:
        from playwright.sync_api import expect

        expect.set_options(timeout=60_000)
        found = page.locator("#cb-found")
        expect(found.locator("section")).to_have_count(len(NAMES) - 1)
        assert (brightness(page) < 60) == (scheme == "dark")

        # A file of one's own.
        page.get_by_role("tab", name="Your file").first.click()
        page.locator("input[type=file]").first.set_input_files(run / "files" / "audio" / "1.wav")
        expect(page.locator("#cb-search-query")).to_contain_text("1.wav")
        expect(page.locator("#cb-bars")).to_contain_text("1.wav")
        expect(found.locator("section")).to_have_count(len(NAMES) - 1)
        expect(found.locator("audio")).to_have_count(0)

        # Words, sent by the keyboard.
        words = page.locator("#cb-words textarea")
        words.fill("a ring, a bell")
        words.press("Enter")
        expect(page.locator("#cb-bars tbody tr")).to_have_count(2)

        # A damaged file.
        damaged = tmp_path / "holiday.wav"
        damaged.write_bytes(b"RIFF" + bytes(60))
        page.locator("input[type=file]").first.set_input_files(damaged)
        alert = page.locator("#cb-search-query [role=alert]")
        expect(alert).to_contain_text("holiday.wav")

        # A cloud turns by the keyboard and by the pointer.
        page.get_by_role("tab", name="An example").first.click()
        page.get_by_role("radio", name="point cloud", exact=True).first.check()
        cloud = page.locator("#cb-search-query cb-cloud")
        cloud.focus()
        cloud.press("ArrowRight")
        expect(cloud).to_have_attribute("data-turn", "0.900")
        box = cloud.bounding_box()
        page.mouse.move(box["x"] + 40, box["y"] + 40)
        page.mouse.down()
        page.mouse.move(box["x"] + 94, box["y"] + 40)
        page.mouse.up()
        expect(cloud).to_have_attribute("data-turn", "1.500")
        page.get_by_role("radio", name="image", exact=True).first.check()
        page.get_by_role("radio", name="point cloud", exact=True).first.check()
        expect(cloud).to_be_visible()
        assert colors_of(page, "#cb-search-query cb-cloud") > 3

        open_screen(page, "Codes")
        expect(page.locator("#cb-codes .cb-segments li").first).to_be_visible()

        open_screen(page, "Reconstruction")
        expect(page.locator("#cb-rebuilt figure")).to_have_count(2)

        open_screen(page, "Swap")
        swapped = page.locator("#cb-swap figure")
        expect(swapped).to_have_count(4)
        before = page.locator("#cb-swap img").nth(1).get_attribute("src")
        box = page.get_by_role("combobox", name="B: object")
        box.click()
        page.get_by_role("option", name="bell 002").click()
        expect(page.locator("#cb-swap-b")).to_contain_text("bell 002")
        expect(page.locator("#cb-swap img").nth(1)).not_to_have_attribute("src", before)

        open_screen(page, "Map")
        shared_map = page.locator("cb-map")
        shared_map.focus()
        shared_map.press("ArrowRight")
        expect(shared_map.locator(".cb-tip")).to_be_visible()
        shared_map.press("ArrowLeft")
        shared_map.hover(position={"x": 2, "y": 2})
        page.get_by_role("radio", name="class", exact=True).check()
        expect(page.locator("#cb-map .cb-legend")).to_contain_text("tall glass")
        assert colors_of(page, "cb-map") > 3

        # Nothing sticks out, nothing was asked of others, and the console has no error.
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
        strangers = [url for url in page.requests if not url.startswith((served.address, "data:", "blob:"))]
        assert strangers == []
        assert page.complaints == []


def test_every_screen_is_reached_by_the_keyboard_alone(served: SimpleNamespace) -> None:
    with opened(served.address) as page:
        page.locator("#cb-found section").first.wait_for()
        names = []
        for _ in range(14):
            page.keyboard.press("Tab")
            names.append(page.evaluate("document.activeElement.innerText || document.activeElement.tagName").strip())
        assert {"Search", "Codes", "Reconstruction", "Swap", "Map", "An example", "Your file", "Words"} <= set(names)
        open_screen(page, "Search")
        page.get_by_role("tab", name="Codes", exact=True).focus()
        page.keyboard.press("Enter")
        page.locator("#cb-codes").wait_for(state="visible")
