"""What is no measurement is refused, filled or dropped as the processor says, and by default nothing has changed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from codebind_hf import CodeBindProcessor
from codebind_hf.data import augmented_row
from codebind_hf.inference import Depth, Eeg, PointCloud, Thermal
from codebind_hf.processing.array_processing_codebind import CodeBindArrayFeatureExtractor
from codebind_hf.processing.arrays import are_measured, measured
from codebind_hf.processing.image_processing_codebind import CodeBindDepthImageProcessor
from codebind_hf.processing.point_processing_codebind import CodeBindPointFeatureExtractor
from codebind_hf.processing.signal_processing_codebind import CodeBindEegFeatureExtractor, CodeBindImuFeatureExtractor


CHANCE = np.random.default_rng(0)
ROWS, COLUMNS = np.mgrid[:30, :40]
MAP = (2 + np.sin(COLUMNS / 7) + ROWS / 20).astype(np.float32)
HOLES = CHANCE.random(MAP.shape) < 0.1
CLOUD = CHANCE.normal(size=(300, 3)).astype(np.float32)
SIGNAL = np.cumsum(CHANCE.normal(size=(4, 200)), axis=1)
KINDS = ("depth", "thermal", "point_cloud", "eeg", "imu", "audio")


@pytest.fixture(scope="module")
def processor() -> CodeBindProcessor:
    return CodeBindProcessor()


def nearest_in_cross(grid: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Naive: of every hole the nearest measurement in its row or column, row first where both are as near."""
    filled = grid.copy()
    for row, column in np.argwhere(~valid):
        beside = [(abs(c - column), 0, c > column, grid[row, c]) for c in np.flatnonzero(valid[row])]
        beside += [(abs(r - row), 1, r > row, grid[r, column]) for r in np.flatnonzero(valid[:, column])]
        filled[row, column] = min(beside)[-1]
    return filled


def test_maps_are_filled_from_the_nearest_in_row_or_column() -> None:
    valid = ~HOLES
    right = nearest_in_cross(MAP, valid)
    assert np.array_equal(measured(MAP[None], valid[None], "fill", "x", is_map=True)[0], right)
    # By hand: a map whose only measurement is in a corner.
    grid = np.array([[7, 0, 0], [0, 0, 0]], dtype=np.uint16)
    assert np.array_equal(measured(grid[None], grid[None] > 0, "fill", "x", is_map=True)[0], np.full((2, 3), 7))
    # By hand: 1 . . 9 above 2 2 2 2: the first hole is one from the 1 (and from the 2 below, but rows come first).
    grid = np.array([[1.0, 0, 0, 9], [2, 2, 2, 2]])
    assert measured(grid[None], grid[None] > 0, "fill", "x", is_map=True)[0][0].tolist() == [1, 1, 9, 9]


def test_signals_are_filled_by_lines_in_time() -> None:
    gaps = np.array([[1.0, np.nan, np.nan, 7.0], [np.inf, 2.0, 4.0, np.nan]])
    found = measured(gaps, np.isfinite(gaps), "fill", "x")
    assert found.tolist() == [[1, 3, 5, 7], [2, 2, 4, 4]]
    with pytest.raises(ValueError, match=r"x: got no measurement in channel 1.*leave the channel out"):
        measured(gaps, np.isfinite(gaps) & np.array([[True], [False]]), "fill", "x")
    with pytest.raises(
        ValueError, match=r"x: got 4 of 8 values that are no measurements, the first at index \(0, 1\)"
    ):
        measured(gaps, np.isfinite(gaps), "raise", "x")


def test_ends_of_wide_integers_and_masks_are_no_measurements() -> None:
    assert are_measured(*[np.array([0, 5, 65535], np.uint16)] * 2).tolist() == [True, True, False]
    assert are_measured(*[np.array([-(2**15), 5, 2**15 - 1], np.int16)] * 2).tolist() == [False, True, False]
    assert are_measured(*[np.array([0, 255], np.uint8)] * 2).all()
    masked = np.ma.masked_array([1.0, 2.0, np.nan], [False, True, False])
    assert are_measured(masked.data, masked).tolist() == [True, False, False]


def depth(value: Any, **parameters: Any) -> torch.Tensor:
    return CodeBindDepthImageProcessor(size=[30, 40], **parameters)(value, return_tensors="pt")["depth_values"]


@pytest.mark.parametrize("hole", [0.0, np.nan, np.inf, -np.inf, 1e10, 3.4e38, -1.0, 65504.0])
def test_holes_of_depth_maps_are_filled_whatever_stands_for_them(hole: float) -> None:
    spoiled = np.where(HOLES, np.float32(hole), MAP)
    right = depth(nearest_in_cross(MAP, ~HOLES))
    assert torch.equal(depth(spoiled, invalid="fill"), right)
    with pytest.raises(ValueError, match=f"got {HOLES.sum()} of 1200 values that are no measurements"):
        depth(spoiled, invalid="raise")
    # Neighbours differ by a tenth of a metre, the holes by metres.
    assert (depth(spoiled, invalid="fill") - depth(MAP)).abs().max() < 0.1


def test_holes_of_stored_and_masked_maps_are_filled_in_their_unit() -> None:
    right = depth(nearest_in_cross(MAP, ~HOLES))
    levels = (1000 * MAP).round().astype(np.uint16)
    for hole in (0, 65535):
        stored = np.where(HOLES, hole, levels).astype(np.uint16)
        torch.testing.assert_close(depth(stored, invalid="fill", depth_unit="mm"), right, atol=1e-3, rtol=0)
        masked = np.ma.masked_array(levels, HOLES)
        torch.testing.assert_close(depth(masked, invalid="fill", depth_unit="mm"), right, atol=1e-3, rtol=0)
    shifted = np.where(HOLES, 0.2, MAP)
    assert torch.equal(depth(shifted, invalid="fill", valid_range=[0.5, 10.0]), right)
    disparity = np.where(HOLES, 0, 1 / MAP)
    found = depth(disparity, invalid="fill", depth_unit="disparity", value_range=[0.0, 1.0])
    assert torch.equal(found, depth(nearest_in_cross(1 / MAP, ~HOLES), depth_unit="disparity", value_range=[0.0, 1.0]))


def test_points_without_return_and_stray_ones_are_dropped() -> None:
    whole = CodeBindPointFeatureExtractor()
    right = whole(CLOUD, return_tensors="pt")["point_values"]
    spoiled = np.concatenate([CLOUD, np.zeros((30, 3)), [[500.0, 0, 0]], [[np.nan] * 3], [[0, np.inf, 0]]])
    dropping = CodeBindPointFeatureExtractor(invalid="drop")
    torch.testing.assert_close(dropping(spoiled, return_tensors="pt")["point_values"], right)
    with pytest.raises(ValueError, match=r"point_clouds: got 33 of 333 points that are no measurements, .* \(300,\)"):
        CodeBindPointFeatureExtractor(invalid="raise")(spoiled)
    assert torch.equal(
        CodeBindPointFeatureExtractor(invalid="raise")(CLOUD, return_tensors="pt")["point_values"], right
    )
    # Stray is what is 20 times farther out than the median point; a long street is not.
    street = np.concatenate([CLOUD, [[20.0, 0, 0]]])
    kept = whole(street, return_tensors="pt")["point_values"]
    assert torch.equal(dropping(street, return_tensors="pt")["point_values"], kept)
    far = np.concatenate([CLOUD, [[500.0, 0, 0]]])
    everything = CodeBindPointFeatureExtractor(invalid="drop", stray_distance=None)
    assert torch.equal(
        everything(far, return_tensors="pt")["point_values"], whole(far, return_tensors="pt")["point_values"]
    )
    with pytest.raises(ValueError, match="got 9 of 9 points that are no measurements"):
        dropping(np.zeros((9, 3)))
    # More than half of the points in one place are no reason to drop the others.
    doubled = np.concatenate([np.ones((200, 3)), CLOUD[:50]]).astype(np.float32)
    assert torch.equal(
        dropping(doubled, return_tensors="pt")["point_values"], whole(doubled, return_tensors="pt")["point_values"]
    )


def test_coloured_points_are_dropped_with_their_colours() -> None:
    coloured = np.concatenate([CLOUD, CHANCE.random((300, 3))], axis=1).astype(np.float32)
    spoiled = np.insert(coloured, 7, [0, 0, 0, 1, 1, 1], axis=0)
    spoiled[9, 4] = np.nan
    kept = np.delete(spoiled, [7, 9], axis=0)
    right = CodeBindPointFeatureExtractor(num_channels=6)(kept, return_tensors="pt")["point_values"]
    found = CodeBindPointFeatureExtractor(num_channels=6, invalid="drop")(spoiled, return_tensors="pt")
    assert torch.equal(found["point_values"], right)


@pytest.mark.parametrize(
    ("extractor", "name"), [(CodeBindEegFeatureExtractor, "eeg_values"), (CodeBindImuFeatureExtractor, "imu_values")]
)
def test_gaps_of_recordings_are_filled_before_anything_else(extractor: Any, name: str) -> None:
    gaps = SIGNAL.copy()
    gaps[1, 50:60] = np.nan
    gaps[3, 0] = np.inf
    right = SIGNAL.copy()
    right[1, 50:60] = np.interp(np.arange(50, 60), [49, 60], SIGNAL[1, [49, 60]])
    right[3, 0] = SIGNAL[3, 1]
    made = extractor(invalid="fill")(gaps, return_tensors="pt")[name]
    assert torch.equal(made, extractor()(right, return_tensors="pt")[name])
    clipped = np.round(100 * SIGNAL).astype(np.int16)
    clipped[0, 20] = 2**15 - 1
    mean = clipped.astype(np.float64)
    mean[0, 20] = mean[0, [19, 21]].mean()
    made = extractor(invalid="fill")(clipped, return_tensors="pt")[name]
    torch.testing.assert_close(made, extractor()(mean, return_tensors="pt")[name])


def test_levels_at_the_ends_of_a_thermal_camera_are_filled(processor: CodeBindProcessor) -> None:
    celsius = 20 + MAP
    stored = np.round(100 * (celsius + 273.15)).astype(np.uint16)
    options = {"thermal_unit": "centikelvin", "thermal_range": (15, 30), "resize_mode": "stretch", "size": [30, 40]}
    right = processor(thermal=nearest_in_cross(stored, ~HOLES), thermal_kwargs=options)["thermal_values"]
    for hole in (0, 65535):
        spoiled = np.where(HOLES, hole, stored).astype(np.uint16)
        found = processor(thermal=spoiled, thermal_kwargs={**options, "invalid": "fill"})["thermal_values"]
        assert torch.equal(found, right)
    floats = np.where(HOLES, np.nan, MAP / MAP.max())
    found = processor(thermal=floats, thermal_kwargs={"invalid": "fill"})["thermal_values"]
    assert torch.equal(found, processor(thermal=nearest_in_cross(MAP / MAP.max(), ~HOLES))["thermal_values"])


def test_missing_samples_of_sounds_are_filled(processor: CodeBindProcessor, tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    tone = (0.3 * np.sin(np.arange(16000) / 20)).astype(np.float32)
    gaps = tone.copy()
    gaps[[100, 9000]] = np.nan, np.inf
    right = tone.copy()
    right[[100, 9000]] = [tone[[99, 101]].mean(), tone[[8999, 9001]].mean()]
    soundfile.write(tmp_path / "a.wav", gaps, 16000, subtype="FLOAT")
    filled = processor(audio=right, sampling_rate=16000)["input_features"]
    for value in (gaps, str(tmp_path / "a.wav")):
        found = processor(audio=value, sampling_rate=16000, audio_kwargs={"invalid": "fill"})["input_features"]
        torch.testing.assert_close(found, filled, atol=1e-4, rtol=0)
        with pytest.raises(ValueError, match="NaN or infinite"):
            processor(audio=value, sampling_rate=16000)


@pytest.mark.parametrize("size", [[50], [12, 20]])
def test_gaps_of_an_added_modality_are_filled(size: list[int]) -> None:
    shape = (2, 50) if len(size) == 1 else (2, 30, 40)
    values = CHANCE.normal(size=shape)
    gaps = values.copy()
    gaps[0, 5] = np.nan if len(size) == 1 else values[0, 5]
    gaps[1, 3] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        CodeBindArrayFeatureExtractor(name="radar", num_channels=2, input_size=size)(gaps)
    made = CodeBindArrayFeatureExtractor(name="radar", num_channels=2, input_size=size, invalid="fill")
    found = made(gaps, return_tensors="np")["radar_values"]
    right = values.copy()
    if len(size) == 1:
        right[[0, 1], [5, 3]] = [values[0, [4, 6]].mean(), values[1, [2, 4]].mean()]
    else:
        right[1, 3] = values[1, 2]
    plain = CodeBindArrayFeatureExtractor(name="radar", num_channels=2, input_size=size)
    np.testing.assert_allclose(found, plain(right, return_tensors="np")["radar_values"], atol=1e-6)


def parts(processor: CodeBindProcessor) -> dict[str, Any]:
    return {kind: processor.part({"point_cloud": "point_clouds"}.get(kind, kind)) for kind in KINDS}


def test_a_policy_is_saved_with_the_processor_and_alone_when_it_is_one(tmp_path: Path) -> None:
    processor = CodeBindProcessor()
    processor.save_pretrained(tmp_path / "plain")
    # Earlier versions read what is saved without one.
    assert "invalid" not in (tmp_path / "plain" / "processor_config.json").read_text()
    assert {part.invalid for part in parts(processor).values()} == {None}
    for kind, part in parts(processor).items():
        part.invalid = "drop" if kind == "point_cloud" else "fill"
    processor.depth_image_processor.valid_range = [0.1, 20.0]
    processor.point_feature_extractor.stray_distance = 5.0
    processor.save_pretrained(tmp_path / "own")
    loaded = CodeBindProcessor.from_pretrained(tmp_path / "own")
    assert {kind: part.parameters() for kind, part in parts(loaded).items()} == {
        kind: part.parameters() for kind, part in parts(processor).items()
    }
    holes = np.where(HOLES, 0, MAP)
    assert torch.equal(loaded(depth=holes)["depth_values"], processor(depth=holes)["depth_values"])


def test_items_say_the_policy_of_their_own(processor: CodeBindProcessor) -> None:
    holes = np.where(HOLES, np.float32(0), MAP)
    given = [
        Depth(holes, invalid="fill"),
        Depth(holes),
        PointCloud(CLOUD, invalid="drop"),
        Eeg(SIGNAL, invalid="fill"),
    ]
    first, second, *_ = processor.stream([*given, Thermal(MAP / 9, invalid="fill")])
    assert torch.equal(
        first.tensors["depth_values"], processor(depth=holes, depth_kwargs={"invalid": "fill"})["depth_values"]
    )
    assert not torch.equal(first.tensors["depth_values"], second.tensors["depth_values"])


@pytest.mark.parametrize("kind", KINDS)
def test_other_policies_are_refused(kind: str) -> None:
    part = parts(CodeBindProcessor())[kind]
    wrong = "fill" if kind == "point_cloud" else "drop"
    with pytest.raises(ValueError, match=f"invalid: got '{wrong}'; allowed: None, 'raise', "):
        type(part)(invalid=wrong)


@pytest.mark.parametrize("modality", ["depth", "eeg"])
def test_what_is_augmented_is_mended_first(modality: str) -> None:
    processor = CodeBindProcessor()
    operation = {"depth": "horizontal_flip", "eeg": "time_shift"}[modality]
    processor.augmentation = {modality: [{"name": operation}]}
    processor.part(modality).invalid = "fill"
    whole = {"depth": nearest_in_cross(MAP, ~HOLES), "eeg": SIGNAL.copy()}[modality]
    spoiled = {"depth": np.where(HOLES, np.nan, MAP), "eeg": SIGNAL.copy()}[modality]
    if modality == "eeg":
        spoiled[1, 7] = np.nan
        whole[1, 7] = SIGNAL[1, [6, 8]].mean()
    for seed in range(4):
        found, right = (augmented_row({modality: value}, processor, (seed,)) for value in (spoiled, whole))
        torch.testing.assert_close(found["tensors"], right["tensors"])


def test_without_a_policy_zeros_stay_measurements() -> None:
    """What presets gave before is what they give."""
    holes = np.where(HOLES, np.float32(0), MAP)
    right = (holes / np.float32(10) - np.float32(0.5)) / np.float32(0.25)
    np.testing.assert_allclose(depth(holes)[0, 0].numpy(), right, atol=1e-6)
    cloud = np.concatenate([CLOUD, np.zeros((3, 3), np.float32)])
    found = CodeBindPointFeatureExtractor(selection="stride", num_points=303)(cloud, return_tensors="np")
    centred = cloud - cloud.mean(axis=0)
    np.testing.assert_allclose(found["point_values"][0], centred / np.linalg.norm(centred, axis=1).max(), atol=1e-6)
