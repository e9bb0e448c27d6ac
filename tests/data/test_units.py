"""Units in columns: what a manifest or a data set says of a sensor reaches the processor, row by row."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from datasets import Dataset

from codebind_hf import CodeBindProcessor
from codebind_hf.data import CodeBindCollator, Manifest, StreamedDataset, rows_from_dataset
from codebind_hf.data.augmentation import Augmentation
from codebind_hf.data.columns import modality_columns
from codebind_hf.data.fingerprints import fingerprint
from codebind_hf.data.row_tensors import prepare_row
from codebind_hf.data.units import UNITS, with_units
from codebind_hf.model.configuration_codebind import CodeBindConfig
from codebind_hf.processing.items import Depth, Eeg
from codebind_hf.training.tokenization import build_tokenizer


RNG = np.random.default_rng(3)
# A value of each modality, cells that describe it, and what the processor is told of it in a call by hand.
CASES: dict[str, tuple[np.ndarray, dict[str, Any], dict[str, Any]]] = {
    "millimetres": (
        RNG.integers(500, 4000, (40, 40)).astype(np.uint16),
        {"depth_unit": "mm"},
        {"depth_kwargs": {"depth_unit": "mm"}},
    ),
    "a number of metres": (
        RNG.integers(50, 400, (40, 40)).astype(np.uint16),
        {"depth_unit": 0.01},
        {"depth_kwargs": {"depth_unit": 0.01}},
    ),
    "a camera": (
        RNG.uniform(1, 4, (40, 40)).astype(np.float32),
        {"depth_intrinsics": [570.3, 571.0, 319.5, 239.5], "depth_baseline": 0.095},
        {"depth_kwargs": {"focal_length": 570.3, "baseline": 0.095}},
    ),
    "its matrix": (
        RNG.uniform(1, 4, (40, 40)).astype(np.float32),
        {"depth_intrinsics": [[525.0, 0, 319.5], [0, 526, 239.5], [0, 0, 1]], "depth_baseline": 0.075},
        {"depth_kwargs": {"focal_length": 525.0, "baseline": 0.075}},
    ),
    "degrees": (
        RNG.integers(29000, 31000, (40, 40)).astype(np.uint16),
        {"thermal_unit": "centikelvin", "thermal_range": [10, 40]},
        {"thermal_kwargs": {"thermal_unit": "centikelvin", "thermal_range": [10, 40]}},
    ),
    "degrees a level": (
        RNG.integers(18000, 20000, (40, 40)).astype(np.uint16),
        {"thermal_unit": [1 / 64, -273.15], "thermal_range": [0, 60]},
        {"thermal_kwargs": {"thermal_unit": [1 / 64, -273.15], "thermal_range": [0, 60]}},
    ),
    "electrodes": (RNG.standard_normal((16, 300)), {"eeg_sampling_rate": 250}, {"rate": 250}),
    "other axes": (
        RNG.standard_normal((6, 256)),
        {"imu_axes": ["gx", "gy", "gz", "ax", "ay", "-az"], "imu_sampling_rate": 50},
        {"rate": 50, "by_hand": lambda array: np.stack([*array[3:5], -array[5], *array[:3]])},
    ),
    "two axes": (
        RNG.standard_normal((2, 256)),
        {"imu_axes": ["gz", "ay"], "imu_sampling_rate": 50},
        {"rate": 50, "by_hand": lambda a: np.stack([0 * a[0], a[1], 0 * a[0], 0 * a[0], 0 * a[0], a[0]])},
    ),
    "a montage": (
        RNG.standard_normal((4, 300)),
        {"eeg_montage": ["O1", "Cz", "Fz", "Pz"], "eeg_channels": ["Fz", "O1"], "eeg_sampling_rate": 100},
        {"rate": 100, "by_hand": lambda array: array[[2, 0]]},
    ),
    "motion": (RNG.standard_normal((6, 300)), {"imu_sampling_rate": 200}, {"rate": 200}),
    "colours": (
        np.hstack([RNG.standard_normal((50, 3)), RNG.integers(0, 256, (50, 3))]).astype(np.float32),
        {"point_cloud_color_scale": 255},
        {"point_clouds_kwargs": {"color_scale": 255}},
    ),
}


def modality_of(cells: dict[str, Any]) -> str:
    return UNITS[next(iter(cells))].modality


@pytest.fixture(scope="module")
def processor() -> CodeBindProcessor:
    made = CodeBindProcessor.from_model_config(
        CodeBindConfig.from_preset("tiny"),
        build_tokenizer(["a ring"]),
        eeg={"sampling_rate": 100},
        imu={"sampling_rate": 50},
        depth={"encoding": "disparity", "baseline": 0.1, "focal_length": 500.0, "value_range": [0.01, 75.0]},
        point_clouds={"num_channels": 6},
    )
    return made


def by_hand(processor: CodeBindProcessor, name: str) -> torch.Tensor:
    value, cells, options = CASES[name]
    argument = {"point_cloud": "point_clouds"}.get(modality_of(cells), modality_of(cells))
    value = options.get("by_hand", np.asarray)(value)
    given = {"array": value, "sampling_rate": options["rate"]} if "rate" in options else value
    (tensor,) = processor(**{argument: [given]}, **{k: v for k, v in options.items() if "_kwargs" in k}).values()
    return tensor[0]


def write(folder: Path, rows: list[dict[str, Any]], suffix: str) -> Path:
    """In a table of text, lists are JSON."""
    path = folder / f"rows{suffix}"
    if suffix == ".csv":
        plain = [{name: json.dumps(v) if isinstance(v, list) else v for name, v in row.items()} for row in rows]
        pandas.DataFrame(plain).to_csv(path, index=False)
    elif suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    else:
        pandas.DataFrame(rows).to_parquet(path)
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
@pytest.mark.parametrize("name", CASES)
def test_a_table_tells_the_processor(name: str, suffix: str, processor: CodeBindProcessor, tmp_path: Path) -> None:
    value, cells, _ = CASES[name]
    np.save(tmp_path / "a.npy", value)
    # The second row has no value of the sensor, nor its cells.
    rows = [{"text": "a ring", modality_of(cells): "a.npy", **cells}, {"text": "a star"}]
    manifest = Manifest(write(tmp_path, rows, suffix)).validate()
    assert manifest.row_modalities[0] == tuple(
        name for name in manifest.modalities if name in (modality_of(cells), "text")
    )
    assert set(manifest[1]) == {"id", "text"}
    (found,) = (v for k, v in prepare_row(manifest[0], processor)["tensors"].items() if k.endswith("_values"))
    assert torch.equal(found, by_hand(processor, name))


@pytest.mark.parametrize("kind", ["data set", "stream"])
@pytest.mark.parametrize("name", ["millimetres", "its matrix", "degrees", "a montage", "other axes"])
def test_columns_of_arrays_tell_it_too(name: str, kind: str, processor: CodeBindProcessor) -> None:
    value, cells, _ = CASES[name]
    modality = modality_of(cells)
    dataset = Dataset.from_list([{"text": "a ring", modality: value.tolist(), **cells}])
    if kind == "data set":
        rows: Any = rows_from_dataset(dataset)
        assert rows.row_modalities == [tuple(each for each in rows.modalities if each in (modality, "text"))]
        tensors = prepare_row(rows[0], processor)["tensors"]
    else:
        stream = StreamedDataset(dataset.to_iterable_dataset(), processor)
        assert set(stream.modalities) == {"text", modality}
        tensors = next(iter(stream)).item["tensors"]  # type: ignore[index]
    torch.testing.assert_close(tensors[f"{modality}_values"], by_hand(processor, name))


def test_a_row_overrides_the_processor_and_other_rows_keep_theirs(processor: CodeBindProcessor) -> None:
    value = CASES["millimetres"][0]
    metres = value.astype(np.float32) / 1000
    rows = [{"depth": value, "depth_unit": "mm"}, {"depth": metres}, {"depth": metres, "depth_unit": "cm"}]
    batch = CodeBindCollator(processor)([with_units(row) for row in rows])
    assert batch["rows"]["depth"].tolist() == [0, 1, 2]
    torch.testing.assert_close(batch["depth_values"][0], batch["depth_values"][1])
    assert torch.equal(batch["depth_values"][2], processor(depth=[metres], depth_unit="cm")["depth_values"][0])
    assert not torch.equal(batch["depth_values"][1], batch["depth_values"][2])


def test_a_unit_of_a_modality_that_the_row_lacks_says_nothing() -> None:
    assert with_units({"text": "a", "depth_unit": "mm", "depth": None}) == {"text": "a", "depth": None}
    assert with_units({"eeg": 1, "eeg_sampling_rate": 250})["eeg"] == Eeg(1, 250)
    assert with_units({"depth": 1, "depth_unit": ""})["depth"] == 1


def test_augmentation_keeps_the_unit(processor: CodeBindProcessor) -> None:
    row = with_units({"depth": CASES["millimetres"][0], "depth_unit": "mm"})
    flipped = {**row, "depth": Depth(CASES["millimetres"][0][:, ::-1].copy(), "mm")}
    processor.augmentation = {"depth": [{"name": "horizontal_flip", "p": 1.0}]}
    try:
        found = Augmentation(processor).prepare(row, (0, 0, 0))
    finally:
        processor.augmentation = None
    assert torch.equal(found["tensors"]["depth_values"], prepare_row(flipped, processor)["tensors"]["depth_values"])


@pytest.mark.parametrize("name", ["a montage", "other axes"])
def test_augmentation_of_a_recording_keeps_its_names(name: str, processor: CodeBindProcessor) -> None:
    value, cells, _ = CASES[name]
    modality = modality_of(cells)
    processor.augmentation = {modality: [{"name": "time_shift", "size": 0}]}
    try:
        found = Augmentation(processor).prepare(with_units({modality: value, **cells}), (0, 0, 0))
    finally:
        processor.augmentation = None
    assert torch.equal(found["tensors"][f"{modality}_values"], by_hand(processor, name))


@pytest.mark.parametrize(
    ("modality", "shape", "options", "message"),
    [
        (
            "imu",
            (5, 9),
            {"axes": ["ax", "ay", "az", "gx", "gy", "gz"]},
            r"imu\[0\]: got 5 channels; allowed: the 6 of",
        ),
        ("imu", (2, 9), {"axes": ["ax", "-ax"]}, "axes: got .*each once"),
        ("imu", (2, 9), {"axes": "ax"}, "axes: got 'ax'"),
        ("imu", (2, 9), {"axes": ["ax"], "num_channels": 3}, "axes: got .*num_channels=3"),
        ("eeg", (2, 9), {"montage": ["A", "A"], "channels": ["A"]}, "montage: got .*every name once"),
        ("eeg", (2, 9), {"montage": ["A", "B"]}, r"eeg\[0\]: montage: got names without `channels`"),
        (
            "eeg",
            (2, 9),
            {"montage": ["A", "B"], "channels": ["C"]},
            "channels: got 'C'; allowed: names in the montage",
        ),
        ("eeg", (3, 9), {"montage": ["A", "B"], "channels": ["A"]}, r"got shape \(3, 9\)"),
        ("eeg", (3, 9), {"channels": ["A"]}, "channels: got .* for an array"),
    ],
)
def test_names_that_do_not_fit_a_recording_are_refused(
    modality: str, shape: tuple[int, int], options: dict[str, Any], message: str
) -> None:
    plain = CodeBindProcessor.from_model_config(CodeBindConfig.from_preset("tiny"), build_tokenizer(["a ring"]))
    with pytest.raises(ValueError, match=message):
        plain(**{modality: [np.zeros(shape)], f"{modality}_kwargs": options})


def test_channels_are_picked_from_a_file_of_electrodes(processor: CodeBindProcessor, tmp_path: Path) -> None:
    edfio = pytest.importorskip("edfio")
    waves = {name: np.sin(np.arange(256) / pace) for name, pace in (("Fz", 5), ("Cz", 7), ("Pz", 9))}
    signals = [edfio.EdfSignal(wave, 128, label=name, physical_dimension="uV") for name, wave in waves.items()]
    edfio.Edf(signals).write(tmp_path / "a.edf")
    cells = [{"eeg_channels": ["Pz", "Fz"]}, {"eeg_channels": ["Cz"], "eeg_sampling_rate": 128}, {}]
    manifest = Manifest(write(tmp_path, [{"eeg": "a.edf", **each} for each in cells], ".jsonl"))
    found = CodeBindCollator(processor)(list(manifest))["eeg_values"]
    asked = (["Pz", "Fz"], ["Cz"], None)
    path = str(tmp_path / "a.edf")
    by_hand = [processor(eeg=[path], eeg_kwargs={"channels": each})["eeg_values"][0] for each in asked]
    assert torch.equal(found, torch.stack(by_hand))
    processor.augmentation = {"eeg": [{"name": "time_shift", "size": 0}]}
    try:
        augmented = Augmentation(processor).prepare(manifest[0], (0, 0, 0))["tensors"]["eeg_values"]
    finally:
        processor.augmentation = None
    torch.testing.assert_close(augmented, by_hand[0])
    named = Manifest(write(tmp_path, [{"eeg": "a.edf", "eeg_montage": ["Fz"], "eeg_channels": ["Fz"]}], ".jsonl"))
    with pytest.raises(ValueError, match="montage: got .* for a file with names"):
        prepare_row(named[0], processor)
    other = Manifest(write(tmp_path, [{"eeg": "a.edf", "eeg_sampling_rate": 100}], ".jsonl"))
    with pytest.raises(ValueError, match=r"got sampling_rate=100 for a file at 128 Hz"):
        prepare_row(other[0], processor)


BAD = {
    "depth_unit": ["inch", -1, 0, [1]],
    "depth_intrinsics": ["a", [1, 2], [0, 1, 2, 3], [[1, 2], [3, 4]], 570],
    "depth_baseline": [0, "wide"],
    "thermal_unit": ["warm", [0, 1], [1, 2, 3]],
    "thermal_range": [[40, 10], 3, ["a", "b"]],
    "eeg_sampling_rate": [0, 2.5, "fast", [250]],
    "eeg_channels": ["Cz", [], [1]],
    "imu_sampling_rate": [-5],
    "eeg_montage": ["Cz", [""]],
    "imu_axes": ["ax", ["x"], []],
    "video_fps": [0, "slow"],
    "point_cloud_color_scale": [0],
}


def test_every_unit_has_values_that_are_refused() -> None:
    assert set(BAD) == set(UNITS)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_a_wrong_unit_is_named_with_its_row(name: str, value: Any, suffix: str, tmp_path: Path) -> None:
    modality = UNITS[name].modality
    path = write(tmp_path, [{modality: "a.npy"}, {modality: "b.npy", name: value}], suffix)
    with pytest.raises(ValueError, match=rf"rows\{suffix}', row 2: {name}: got .*allowed"):
        Manifest(path)


def test_a_wrong_unit_of_a_data_set_is_named() -> None:
    rows = rows_from_dataset(Dataset.from_list([{"depth": [[1.0]], "depth_unit": "inch"}]))
    with pytest.raises(ValueError, match="depth_unit: got 'inch'"):
        rows[0]


@pytest.mark.parametrize(
    ("unit", "value", "meant"),
    [
        ("depth_unit", "millimetre", "'mm'"),
        ("depth_unit", "Meters", "'m'"),
        ("depth_unit", "centimeters", "'cm'"),
        ("depth_unit", "disparty", "'disparity'"),
        ("thermal_unit", "degC", "'celsius'"),
        ("thermal_unit", "F", "'fahrenheit'"),
        ("thermal_unit", "centi-kelvin", "'centikelvin'"),
    ],
)
def test_a_unit_by_another_name_is_told_its_own(tmp_path: Path, unit: str, value: str, meant: str) -> None:
    path = write(tmp_path, [{unit.removesuffix("_unit"): "a.npy", unit: value}], ".jsonl")
    with pytest.raises(ValueError, match=f"row 1: {unit}: got '{value}'; allowed: .* Fix: did you mean {meant}"):
        Manifest(path)
    with pytest.raises(ValueError, match=f"{unit}: got '{value}'; allowed: .*did you mean {meant}"):
        CodeBindProcessor.from_model_config(
            CodeBindConfig.from_preset("tiny"), build_tokenizer(["a"]), **{unit.removesuffix("_unit"): {unit: value}}
        )


@pytest.mark.parametrize("name", sorted({unit.modality for unit in UNITS.values()} - {"video"}))
def test_what_lacks_a_unit_is_told_the_column_that_says_it(processor: CodeBindProcessor, name: str) -> None:
    bare = {
        "depth": (np.full((40, 40), 900, np.uint16), "a column `depth_unit` says it, or the flag --depth_unit"),
        "thermal": (np.full((40, 40), 30_000, np.uint16), "columns `thermal_unit` and `thermal_range` say it"),
        "point_cloud": (np.full((50, 6), 200, np.float32), "a column `point_cloud_color_scale` says it"),
        "eeg": (np.ones((16, 300), np.float32), "a column `eeg_sampling_rate` says it"),
        "imu": (np.ones((6, 300), np.float32), "a column `imu_sampling_rate` says it"),
    }
    value, column = bare[name]
    with pytest.raises(ValueError, match=f"Fix: .*of rows, {column}"):
        prepare_row({name: value}, processor)


def test_units_of_several_types_in_one_column(tmp_path: Path) -> None:
    units = ["mm", 0.001, None, "cm"]
    rows = [{"depth": "a.npy"} | ({} if unit is None else {"depth_unit": unit}) for unit in units]
    found = [row["depth"] for row in Manifest(write(tmp_path, rows, ".jsonl"))]
    place = str(tmp_path / "a.npy")
    assert found == [Depth(place, "mm"), Depth(place, 0.001), place, Depth(place, "cm")]


def test_a_unit_without_its_sensor_is_ignored_with_a_note(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path, [{"text": "a", "depth_unit": "inch"}], ".jsonl")
    with caplog.at_level(logging.WARNING):
        assert Manifest(path)[0]["text"] == "a"
    assert "ignored: 'depth_unit'" in caplog.text


def test_rows_with_another_unit_are_other_rows(tmp_path: Path) -> None:
    found = {fingerprint([with_units({"depth": "a.npy", "depth_unit": unit})]) for unit in ("mm", "cm", "")}
    assert len(found) == 3
    tables = [write(tmp_path, [{"depth": "a.npy", "depth_unit": unit}], ".jsonl") for unit in ("mm", "mm")]
    same = [Manifest(table).fingerprint for table in tables]
    write(tmp_path, [{"depth": "a.npy", "depth_unit": "cm"}], ".jsonl")
    assert same[0] == same[1] != Manifest(tables[0]).fingerprint


def test_a_modality_cannot_be_called_like_a_unit() -> None:
    with pytest.raises(ValueError, match="got 'depth_unit'"):
        modality_columns(["depth_unit"])
