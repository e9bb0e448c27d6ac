"""The folder of a Hugging Face Space, whose app is imported as the Hub would."""

import json
import runpy
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import yaml


gradio = pytest.importorskip("gradio", reason="the demo app needs the extra `demo`")

from codebind_hf.serving import space, write_space  # noqa: E402


def test_the_folder_of_a_space_makes_its_app(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_space(tmp_path / "space", str(run / "checkpoint"), str(run / "files" / "manifest.jsonl"))
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "app.py", "gallery", "requirements.txt"]
    copied = [json.loads(line) for line in (folder / "gallery" / "manifest.jsonl").read_text().splitlines()]
    original = (run / "files" / "thermal" / "2.npy").read_bytes()
    assert (folder / "gallery" / copied[2]["thermal"]).read_bytes() == original
    assert copied[2]["radar"].startswith("radar/")
    # Wherever a Space is started from.
    monkeypatch.chdir(tmp_path)
    page = runpy.run_path(str(folder / "app.py"))["demo"]
    assert isinstance(page, gradio.Blocks)
    assert "gallery of 5 objects" in str(page.get_config_file())


def test_the_readme_has_the_header_that_a_space_asks_for(tmp_path: Path) -> None:
    folder = write_space(tmp_path / "space", "me/my-model")
    header = yaml.safe_load((folder / "README.md").read_text().split("---")[1])
    assert header["sdk"] == "gradio"
    assert header["sdk_version"] == gradio.__version__
    assert header["app_file"] == "app.py"
    assert header["models"] == ["me/my-model"]
    assert header["title"] == "CodeBind: my-model"
    assert len(header["title"]) <= 60
    assert (folder / "requirements.txt").read_text() == f"codebind-hf[demo]=={version('codebind-hf')}\n"
    assert 'build("me/my-model")' in (folder / "app.py").read_text()


def test_units_of_a_gallery_go_along_and_ids_are_no_paths(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "deep.npy", np.ones((20, 30), np.uint16))
    rows = [
        {"id": f"../../{row}", "depth": "deep.npy", "depth_unit": "mm", "eeg_sampling_rate": 5} for row in range(3)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    monkeypatch.setattr(space, "MOST_ROWS", 2)
    folder = write_space(tmp_path / "space", "me/mine", str(tmp_path / "rows.jsonl"))
    lines = [json.loads(line) for line in (folder / "gallery" / "manifest.jsonl").read_text().splitlines()]
    assert [(line["depth"], line["depth_unit"]) for line in lines] == [
        ("depth/00000.npy", "mm"),
        ("depth/00001.npy", "mm"),
    ]
    assert "eeg_sampling_rate" not in lines[0]


def test_a_folder_in_use_a_strange_name_and_a_missing_gallery_are_refused(tmp_path: Path) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "app.py").write_text("mine")
    with pytest.raises(OSError, match="not empty"):
        write_space(tmp_path / "used", "me/mine")
    assert (tmp_path / "used" / "app.py").read_text() == "mine"
    for name in ("me/mine/too", 'me/"mine"', ""):
        with pytest.raises(ValueError, match="checkpoint_repo_id"):
            write_space(tmp_path / "space", name)
    with pytest.raises(OSError, match="rows.jsonl"):
        write_space(tmp_path / "space", "me/mine", str(tmp_path / "rows.jsonl"))
    assert not (tmp_path / "space").exists()
