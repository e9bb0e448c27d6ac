"""Files of other projects are read as tensors and as nothing else."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from codebind_hf.conversion.checkpoint_files import read_merged, read_tensors


class Harmful:
    """Unpickling it would make a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.target),)


def test_both_kinds_of_file_give_the_same_tensors(tmp_path: Path) -> None:
    tensors = {"a": torch.randn(3), "b": torch.arange(4)}
    torch.save(tensors, tmp_path / "x.pth")
    save_file(tensors, tmp_path / "x.safetensors")
    for file in ("x.pth", "x.safetensors"):
        read = read_tensors(tmp_path / file)
        assert all(torch.equal(read[name], tensors[name]) for name in tensors)


def test_code_in_a_pickle_is_refused_and_never_run(tmp_path: Path) -> None:
    target = tmp_path / "made"
    torch.save({"a": Harmful(target)}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=r"x\.pth: holds more than tensors"):
        read_tensors(tmp_path / "x.pth")
    assert not target.exists()


def test_a_missing_or_broken_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no such file"):
        read_tensors(tmp_path / "absent.pth")
    torch.save({"a": torch.ones(1000)}, tmp_path / "x.pth")
    cut = tmp_path / "cut.pth"
    cut.write_bytes((tmp_path / "x.pth").read_bytes()[:900])
    with pytest.raises(OSError, match=r"cut\.pth: cannot be read"):
        read_tensors(cut)
    text = tmp_path / "notes.pth"
    text.write_text("internal notes, no checkpoint")
    with pytest.raises(OSError, match=r"notes\.pth: cannot be read"):
        read_tensors(text)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"\xff" * 40)
    with pytest.raises(OSError, match=r"broken\.safetensors: cannot be read"):
        read_tensors(broken)


@pytest.mark.parametrize("content", [[torch.ones(1)], {"a": torch.ones(1), "epoch": 3}])
def test_something_other_than_tensors_by_name_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(ValueError, match="expected"):
        read_tensors(tmp_path / "x.pth")


def test_of_several_files_a_later_one_wins(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1), "b": torch.ones(1)}, tmp_path / "1.pth")
    torch.save({"b": torch.zeros(1)}, tmp_path / "2.pth")
    merged = read_merged([tmp_path / "1.pth", str(tmp_path / "2.pth")])
    assert merged["a"].item() == 1
    assert merged["b"].item() == 0
    assert read_merged(tmp_path / "1.pth")["b"].item() == 1
