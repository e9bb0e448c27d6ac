"""The site as a whole: its pages say what the code says, and it is built without a warning and without a network."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from site_pages import BLOCK, DOCS, ROOT, pages
from test_house import PUBLIC

from codebind_hf import CodeBindConfig, CodeBindModel, CodeBindTrainingArguments
from codebind_hf.model.presets import PRESETS


LONGEST_LINE = 100
# Pages that scripts write, or that are older than the site.
LONGER = {path.name for path in DOCS.glob("*.md")} - {"index.md", "moving-over.md", "needs.md", "troubleshooting.md"}
SENSES = ["text", "image", "video", "audio", "depth", "thermal", "tactile", "point-clouds", "eeg", "imu-and-arrays"]


def listed(nav: Any) -> Iterator[str]:
    """Every page of a menu."""
    for entry in nav.values() if isinstance(nav, dict) else nav:
        yield from [entry] if isinstance(entry, str) else listed(entry)


def test_every_page_is_in_the_menu_once() -> None:
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    assert sorted(listed(nav)) == pages()


@pytest.mark.parametrize("page", [page for page in pages() if page not in LONGER])
def test_lines_are_short_but_in_tables(page: str) -> None:
    lines = (DOCS / page).read_text().splitlines()
    assert [line for line in lines if len(line) > LONGEST_LINE and not line.startswith("|")] == []


@pytest.mark.parametrize("sense", SENSES)
def test_a_page_of_a_sense_answers_the_same_questions(sense: str) -> None:
    page = (DOCS / "how-to" / f"{sense}.md").read_text()
    assert "| tensor |" in page
    assert "`invalid=`" in page or sense == "text"
    assert "## Common mistakes" in page
    assert len(re.findall(r"```python", page)) >= 1


def test_every_public_name_is_in_the_reference() -> None:
    shown = set(re.findall(r"^::: (\S+)$", "".join(path.read_text() for path in DOCS.glob("reference/*.md")), re.M))
    names = {f"{module}.{name}" for module, text in PUBLIC.items() for name in text.split()}
    # Names of the package itself that belong to training are documented there.
    training = {name for name in names if name.startswith("codebind_hf.training.")}
    elsewhere = {f"codebind_hf.{name.rpartition('.')[2]}" for name in training}
    assert sorted(names - elsewhere - shown) == []


@cache
def texts_of_the_code() -> tuple[str, ...]:
    """Every text in the code, with a gap for what is filled in."""
    found = []
    for path in [*(ROOT / "codebind_hf").rglob("*.py"), *(ROOT / "examples").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "\0" for part in node.values]
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(re.sub(r"%[\d.]*[a-z]", "\0", node.value))
    return tuple(found)


def is_said(message: str) -> bool:
    """Whether some text of the code holds the parts of a message between its dots, in this order."""
    wanted = re.compile(".*".join(re.escape(part.strip()) for part in message.split("...")), re.DOTALL)
    return any(wanted.search(text) for text in texts_of_the_code())


def messages() -> list[str]:
    page = (DOCS / "troubleshooting.md").read_text()
    return re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)


def test_messages_of_the_troubleshooting_are_those_of_the_code() -> None:
    assert len(messages()) > 50
    assert [message for message in messages() if not is_said(message)] == []
    assert not is_said("got a message ... that nobody says")


def test_arguments_of_training_are_those_of_the_code() -> None:
    table = dict(
        re.findall(r"^\| `(\w+)` \| (.+) \|$", (DOCS / "reference" / "training.md").read_text(), re.MULTILINE)
    )
    own = {
        name: entry.metadata["help"]
        for name, entry in CodeBindTrainingArguments.__dataclass_fields__.items()
        if name in CodeBindTrainingArguments.__annotations__
    }
    assert table == own


def test_sizes_of_presets_are_those_of_the_code() -> None:
    table = (DOCS / "how-to" / "weights.md").read_text()
    said = {
        name: float(size.replace(",", "")) for name, size in re.findall(r"^\| `([\w-]+)` \| ([\d,.]+) M", table, re.M)
    }
    assert set(said) == set(PRESETS)
    for name, size in said.items():
        assert size == pytest.approx(millions(name), abs=0.51 if size > 100 else 0.051), name


def test_memory_is_sixteen_bytes_a_number_that_learns_and_four_of_any_other() -> None:
    page = (DOCS / "how-to" / "many-gpus.md").read_text()
    rows = re.findall(r"^\| `([\w-]+)`(.*?) \| ([\d,.]+) M \| ([\d.]+) GB \| (-|[\d.]+ GB) \|$", page, re.MULTILINE)
    assert len(rows) == 4
    for name, senses, size, all_learn, adapted in rows:
        modalities = re.findall(r"text|image|depth|audio|points", senses)
        count = millions(name, [one.replace("points", "point_cloud") for one in modalities])
        assert float(size.replace(",", "")) == pytest.approx(count, abs=0.51 if count > 100 else 0.051)
        assert float(all_learn) == pytest.approx(16 * count / 1000, rel=0.04)
        if adapted != "-":
            # About 60 million numbers learn beside an adapter: decoders, heads and the adapter.
            assert float(adapted.removesuffix(" GB")) == pytest.approx((4 * count + 12 * 60) / 1000, abs=0.7)


def millions(preset: str, modalities: list[str] | None = None) -> float:
    """Numbers of a model, without making it."""
    config = CodeBindConfig.from_preset(preset)
    if modalities:
        config = config.restricted_to(modalities)
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in CodeBindModel(config).parameters()) / 1e6


class _Loaded(HTMLParser):
    """What a browser would fetch for a page by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("script", "img", "iframe", "source"):
            self.addresses.append(given.get("src") or "")
        if tag == "link" and given.get("rel") in ("stylesheet", "preconnect", "icon", "preload"):
            self.addresses.append(given.get("href") or "")


@pytest.mark.slow
def test_the_site_is_built_strictly_and_needs_no_network(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    built = sorted((tmp_path / "site").rglob("*.html"))
    assert len(built) >= len(pages())
    for page in built:
        loaded = _Loaded()
        loaded.feed(page.read_text())
        assert [address for address in loaded.addresses if re.match(r"(https?:)?//", address)] == [], page
    styles = "".join(path.read_text() for path in (tmp_path / "site").rglob("*.css"))
    assert re.findall(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", styles) == []
    assert "encode_stream" in (tmp_path / "site" / "reference" / "model.html").read_text()


def test_tables_have_as_many_cells_in_every_row() -> None:
    """A bar within a cell would cut it in two."""
    for page in pages():
        text = BLOCK.sub("", (DOCS / page).read_text())
        for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
            widths = {len(re.split(r"(?<!\\)\|", line)) for line in table.splitlines()}
            assert len(widths) == 1, f"{page}: {table[:200]}"
