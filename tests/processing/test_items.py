"""What a string is: words, unless it names a file, and then never words."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from codebind_hf.inference.gallery_search import modalities_of_file
from codebind_hf.processing.items import Depth, Eeg, Item, PointCloud, Text, Thermal, item_of
from codebind_hf.processing.pipeline_inputs import named_item


KNOWN = ("text", "image", "video", "audio", "depth", "thermal", "tactile", "point_cloud", "eeg", "imu")
FILES = {
    "image": ["a.png", "a.JPG", "a.heic", "a.avif", "a.webp", "a.jp2"],
    "audio": ["a.wav", "a.m4a", "a.opus", "a.w64", "a.caf"],
    "video": ["a.mp4", "a.webm"],
    "point_cloud": ["a.ply", "a.pcd", "a.las", "a.laz", "a.obj", "a.stl", "a.off", "a.xyz"],
    "eeg": ["a.edf", "a.bdf", "a.fif", "a.set", "a.vhdr"],
}


def classified(value: object) -> Item:
    """As `encode` and the pipelines do, which agree."""
    found = item_of(value, "items[0]", KNOWN)
    assert named_item(value, None, KNOWN) == found
    return found


@pytest.mark.parametrize(
    ("modality", "name"), [(modality, name) for modality, names in FILES.items() for name in names]
)
@pytest.mark.parametrize("kind", [str, Path])
def test_a_file_is_of_the_modality_that_its_suffix_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, modality: str, name: str, kind: type
) -> None:
    (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / name, Path(name)):
        assert classified(kind(path)).name == modality


@pytest.mark.parametrize("name", ["hostname", "scan.e57", "a.mat", "a.docx", "a red ball", ".hidden"])
@pytest.mark.parametrize("kind", [str, Path])
def test_a_file_of_an_unknown_kind_is_never_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: type
) -> None:
    (tmp_path / name).write_text("bytes")
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / name, Path(name)):
        suffix = Path(name).suffix
        with pytest.raises(ValueError, match="a file with the suffix") as caught:
            classified(kind(path))
        got = f"items[0]: got {str(path)!r}, a file with the suffix {suffix!r}; allowed: those in docs/files.md. Fix: "
        assert str(caught.value).startswith(got)
        assert str(caught.value).endswith(
            "onvert it, pass what it holds as an array in a wrapper, or wrap words as Text(...)."
        )
    assert classified(Text(name)) == Text(name)


@pytest.mark.parametrize(
    ("suffix", "guess"), [(".xyzabc", ".xyz"), (".wave", ".wav"), (".JPGE", ".jpg"), (".tf", ".tif"), (".docx", None)]
)
def test_an_unknown_suffix_is_answered_with_the_nearest_in_one_short_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, guess: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(f"scan{suffix}").write_text("bytes")
    with pytest.raises(ValueError, match="a file with the suffix") as caught:
        classified(f"scan{suffix}")
    message = str(caught.value)
    assert len(message) < 250
    assert (f"Fix: did you mean {guess}? Else convert it, pass" if guess else "Fix: convert it, pass") in message


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.txt", "a.csv"])
def test_a_file_that_may_be_several_things_asks_for_a_wrapper(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(
        ValueError, match=r"may be of several modalities.*Fix: wrap it.*PointCloud\(path\).*Text\(\.\.\.\)"
    ):
        classified(str(tmp_path / name))
    assert classified(PointCloud(tmp_path / name)).name == "point_cloud"


@pytest.mark.parametrize("words", ["", "a red ball", "e.g. a ball", "one/two", "docs", ".", "nothing.of.the kind"])
def test_other_strings_are_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "notes.md").touch()
    monkeypatch.chdir(tmp_path)
    assert classified(words) == Text(words)


@pytest.mark.parametrize("words", ["a.pcd", "scan.las", "a photo.heic", "a.edf"])
def test_what_ends_like_a_file_and_names_none_is_refused(words: str) -> None:
    with pytest.raises(ValueError, match="ends like a file and names none.*Text"):
        classified(words)
    assert classified(Text(words)) == Text(words)


def test_a_folder_of_pictures_is_a_video_if_a_separator_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ball").mkdir()
    Pillow.new("RGB", (4, 4)).save(tmp_path / "ball" / "1.png")
    monkeypatch.chdir(tmp_path)
    for path in (f".{os.sep}ball", str(tmp_path / "ball"), Path("ball")):
        assert classified(path).name == "video"
    with pytest.raises(ValueError, match=r"got 'ball', the name of a folder of pictures.*'\./ball'.*Text\('ball'\)"):
        classified("ball")
    (tmp_path / "ball" / "1.png").unlink()
    assert classified("ball") == Text("ball")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes with names")
def test_what_exists_and_is_no_file_is_not_read(tmp_path: Path) -> None:
    """Reading a pipe would wait for ever."""
    os.mkfifo(tmp_path / "a")
    with pytest.raises(ValueError, match="a file with the suffix ''"):
        classified(str(tmp_path / "a"))


def test_wrappers_give_the_options_of_their_processor() -> None:
    assert Depth(1, unit="mm").options == {"depth_unit": "mm"}
    assert Thermal(1, (0, 60), "centikelvin").options == {"thermal_range": (0, 60), "thermal_unit": "centikelvin"}
    assert PointCloud(1, color_scale=255, mesh_samples=5).options == {"color_scale": 255, "mesh_samples": 5}
    assert Eeg("a.edf", channels=["Cz"]).options == {"channels": ["Cz"]}
    assert Eeg("a.npy", 256).raw == {"array": "a.npy", "sampling_rate": 256}
    assert Eeg("a.npy").options == {}


def test_modalities_of_a_file_are_those_that_may_have_its_suffix(tmp_path: Path) -> None:
    assert modalities_of_file("a.tif", KNOWN) == ["image", "depth", "thermal", "tactile"]
    assert modalities_of_file("a.EDF", KNOWN) == ["eeg"]
    assert modalities_of_file("a.edf", ("text", "image")) == []
    assert modalities_of_file(tmp_path, KNOWN) == ["video"]


def test_options_of_files_reach_the_processor_through_wrappers(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.full((4, 4), 30_315, np.uint16))
    assert classified({"thermal": str(tmp_path / "a.npy")}) == Thermal(str(tmp_path / "a.npy"))
