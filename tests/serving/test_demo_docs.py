"""`docs/demo.md` runs as it stands there, and shows pictures that are there."""

import re
from pathlib import Path

import pytest


gradio = pytest.importorskip("gradio", reason="the demo app needs the extra `demo`")

from codebind_hf.serving import demo_app, space, workbench  # noqa: E402


ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "demo.md").read_text()


def test_the_blocks_of_the_page_run(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "demo").symlink_to(run, target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    served = []
    monkeypatch.setattr(gradio.Blocks, "launch", lambda page, **options: served.append(options["server_port"]))
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(block, {})
    assert served == [7860]
    assert (tmp_path / "space" / "gallery" / "manifest.jsonl").is_file()


def test_numbers_and_pictures_of_the_page_are_so() -> None:
    assert f"the first {workbench.MOST_ROWS:,} are shown" in PAGE
    assert f"the first {space.MOST_ROWS} rows of the gallery" in PAGE
    assert f"{demo_app.LARGEST_FILE.removesuffix('mb')} MB is the most" in PAGE
    pictures = re.findall(r"\]\((images/[^)]+)\)", PAGE)
    assert len(pictures) == 2
    assert all((ROOT / "docs" / picture).is_file() for picture in pictures)
