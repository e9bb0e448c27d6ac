"""The compact reference values are those of the originals, on every machine, and stay small."""

import hashlib
import wave
from pathlib import Path

import goldens
import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file


ROOMS = sorted(path.parent.name for path in goldens.FIXTURES.glob(f"*/{goldens.PACKED}"))


@pytest.mark.parametrize("name", ROOMS)
def test_unpacked_tensors_have_the_digests_of_the_originals(name: str) -> None:
    room = goldens.room(name)
    for file, described in room.files.items():
        arrays = [room.array(file, key) for key in described["tensors"]]
        assert hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest() == described["sha256"], file


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
def test_a_difference_leads_from_any_guess_to_the_value(dtype: str) -> None:
    values = np.array([0, 1, 3, 255, 200], dtype=dtype)
    if dtype != "uint8":
        limits = np.finfo(dtype)
        special = [-0.0, -1, limits.max, limits.min, limits.tiny, -limits.tiny, np.inf, -np.inf, np.nan]
        values = np.concatenate([values, np.array(special, dtype)])
    for guess in (values[::-1].copy(), values + values.dtype.type(1), np.zeros_like(values)):
        found = goldens.corrected(guess, goldens.differences(values, guess))
        assert found.dtype == values.dtype
        assert found.tobytes() == values.tobytes()


def test_neighbouring_numbers_differ_by_one() -> None:
    values = np.array([-np.inf, -2.5, -1e-40, 0.0, 1e-30, 7.0], np.float32)
    following = np.nextafter(values, np.float32(np.inf))
    assert (goldens.ordered(following) - goldens.ordered(values)).tolist() == [1] * 6
    assert goldens.ordered(np.array([-0.0, 0.0], np.float32)).tolist() == [-1, 0]


def test_a_room_is_written_in_the_layout_of_the_originals() -> None:
    folder = goldens.folder("vitlens_tiny")
    checkpoint = torch.load(folder / "vitlens_tiny_pc.pt", weights_only=False)
    assert list(checkpoint) == ["epoch", "name", "state_dict", "optimizer", "scaler", "best_acc1"]
    assert isinstance(checkpoint["best_acc1"], np.float64)
    assert checkpoint["state_dict"].keys() == goldens.tensors("vitlens_tiny/vitlens_tiny_pc.pt").keys()
    assert load_file(folder / "inputs.safetensors")["audio"].shape == (2, 2, 512, 128)


def test_sounds_are_written_sample_for_sample(tmp_path: Path) -> None:
    goldens.write("preprocessing", tmp_path)
    files = sorted((tmp_path / "audio").glob("*.wav"))
    assert len(files) == 7
    for file in files:
        with wave.open(str(file)) as stream:
            levels = np.frombuffer(stream.readframes(stream.getnframes()), "<i2").reshape(-1, stream.getnchannels())
            rate = stream.getframerate()
        kept = goldens.FIXTURES / "preprocessing" / "audio" / f"{file.stem}.flac"
        expected, expected_rate = soundfile.read(kept, dtype="int16", always_2d=True)
        np.testing.assert_array_equal(levels, expected)
        assert rate == expected_rate


def test_tensors_are_new_on_every_call() -> None:
    goldens.tensors("quantizer/forward.safetensors")["codes"].zero_()
    assert goldens.tensors("quantizer/forward.safetensors")["codes"].any()


def test_fixtures_stay_below_fifteen_megabytes() -> None:
    assert sum(path.stat().st_size for path in goldens.FIXTURES.rglob("*") if path.is_file()) < 15e6
