import hashlib

import numpy as np
import pytest

from codebind_hf.data import NineSenses
from codebind_hf.nine_senses.rows import TARGET_MODALITIES


NAMES = ("text", "image", "video", "audio", "depth", "thermal", "tactile", "point_cloud", "eeg")


def digest(row: dict) -> str:
    parts = hashlib.sha256()
    for key in sorted(row):
        value = row[key]["array"] if isinstance(row[key], dict) and "array" in row[key] else row[key]
        parts.update(value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode())
    return parts.hexdigest()


def small_train(**changes: object) -> NineSenses:
    return NineSenses("train", **{"num_bridge": 40, "num_target": 20, **changes})


def test_the_same_arguments_give_the_same_bits() -> None:
    assert [digest(row) for row in NineSenses("test", num_rows=3)] == [
        digest(row) for row in NineSenses("test", num_rows=3)
    ]


def test_a_row_does_not_depend_on_what_else_is_rendered() -> None:
    alone = NineSenses("test", num_rows=40, modalities=["eeg", "depth"])[7]
    among = NineSenses("test", num_rows=800)[7]
    assert alone["id"] == among["id"]
    assert np.array_equal(alone["eeg"], among["eeg"])
    assert np.array_equal(alone["depth"], among["depth"])
    assert {key: among["attributes"][key] for key in alone["attributes"]} == alone["attributes"]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"world": 1}, id="world"),
        pytest.param({"difficulty": "hard"}, id="difficulty"),
        pytest.param({"split": "validation"}, id="split"),
    ],
)
def test_another_draw_changes_every_modality(changes: dict) -> None:
    first = NineSenses(**{"split": "test", "num_rows": 1})[0]
    other = NineSenses(**{"split": "test", "num_rows": 1, **changes})[0]
    for modality in NAMES[1:]:
        assert digest({"value": first[modality]}) != digest({"value": other[modality]}), modality


def test_splits_and_targets_have_disjoint_objects() -> None:
    ids = [
        row["id"] for split in ("validation", "test") for row in NineSenses(split, num_rows=20, modalities=["text"])
    ]
    ids += [row["id"] for row in small_train(modalities=["text", "eeg", "audio"])]
    assert len(ids) == len(set(ids)) == 20 + 20 + 40 + 2 * 20


def test_train_rows_have_the_bridge_and_at_most_one_target() -> None:
    rows = list(small_train())
    assert len(rows) == 40 + 7 * 20
    targets = [tuple(modality for modality in TARGET_MODALITIES if modality in row) for row in rows]
    assert all({"text", "image"} <= set(row) for row in rows)
    assert targets.count(()) == 40
    for modality in TARGET_MODALITIES:
        assert targets.count((modality,)) == 20


@pytest.mark.parametrize("split", ["validation", "test"])
def test_held_out_rows_have_all_nine_senses(split: str) -> None:
    data = NineSenses(split, num_rows=20)
    assert all(set(NAMES) <= set(row) for row in data)


def test_the_modalities_of_rows_are_known_without_rendering() -> None:
    data = small_train()
    assert [set(modalities) for modalities in data.row_modalities] == [
        set(row) - {"id", "label", "attributes"} for row in data
    ]


def test_default_sizes() -> None:
    assert len(NineSenses("train")) == 4000 + 7 * 600
    assert (len(NineSenses("validation")), len(NineSenses("test"))) == (400, 800)


def test_values_have_the_shapes_and_types_of_the_contract() -> None:
    row = NineSenses("test", num_rows=1)[0]
    arrays = {modality: row[modality]["array"] if modality == "audio" else row[modality] for modality in NAMES[1:]}
    assert {modality: (array.shape, str(array.dtype)) for modality, array in arrays.items()} == {
        "image": ((32, 32, 3), "uint8"),
        "video": ((4, 32, 32, 3), "uint8"),
        "audio": ((16000,), "float32"),
        "depth": ((32, 32), "float32"),
        "thermal": ((32, 32), "uint8"),
        "tactile": ((32, 32, 3), "uint8"),
        "point_cloud": ((256, 3), "float32"),
        "eeg": ((16, 128), "float32"),
    }
    assert row["audio"]["sampling_rate"] == 16000
    assert all(np.isfinite(array).all() for array in arrays.values())
    assert np.array_equal(np.round(arrays["audio"] * 32768), arrays["audio"] * 32768)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_every_class_has_the_same_number_of_rows(split: str) -> None:
    sizes = {"num_bridge": 60, "num_target": 20} if split == "train" else {"num_rows": 60}
    data = NineSenses(split, modalities=["text", "eeg"], **sizes)
    labels = [row["label"] for row in data]
    assert {labels.count(name) for name in data.class_names} == {len(data) // 20}
    assert len(data.class_names) == len(set(data.class_names)) == 20


def test_text_names_the_label_through_a_template() -> None:
    data = NineSenses("test", num_rows=60, modalities=["text"])
    used = set()
    for row in data:
        matching = [template for template in data.templates if template.format(row["label"]) == row["text"]]
        assert matching
        used.update(matching)
    assert used == set(data.templates)


def test_rows_record_the_private_attributes_of_their_modalities_only() -> None:
    data = small_train()
    names = {modality: {f"{modality}.{name}" for name in own} for modality, own in data.private_attributes.items()}
    assert set(names) == set(data.modalities) - {"text"}
    assert all(names.values())
    assert set(data[0]["attributes"]) == names["image"]
    assert set(data[-1]["attributes"]) == names["image"] | names["eeg"]


def test_private_attributes_are_balanced_and_independent_of_class_and_factors() -> None:
    data = NineSenses("test", num_rows=800, modalities=["image", "point_cloud", "eeg"])
    values = [data[index]["attributes"] for index in range(800)]
    factors = np.stack([data.instance_factors(index) for index in range(800)])
    labels = np.arange(800) % 20
    for name in values[0]:
        column = np.array([row[name] for row in values])
        counts = np.bincount(column, minlength=4)
        # Expected 200 with a standard deviation of 12; five of them either way.
        assert counts.min() > 140
        assert counts.max() < 260
        assert abs(np.corrcoef(column, labels)[0, 1]) < 0.15
        assert max(abs(np.corrcoef(column, factor)[0, 1]) for factor in factors.T) < 0.15


def test_instance_factors_lie_in_range_and_are_repeatable() -> None:
    data = NineSenses("test", num_rows=20)
    factors = np.stack([data.instance_factors(index) for index in range(20)])
    assert factors.shape == (20, len(data.factor_names)) == (20, 5)
    assert np.abs(factors).max() <= 1
    assert np.array_equal(factors[3], NineSenses("test", modalities=["text"]).instance_factors(3))


@pytest.mark.parametrize("modality", NAMES[1:])
def test_every_modality_carries_the_category(modality: str) -> None:
    """Nearest class mean on raw numbers, far weaker than an encoder; chance is 5 %."""
    data = NineSenses("train", num_bridge=200, num_target=200, modalities=[modality])
    rows = [data[index] for index in range(len(data))]
    features = np.stack([_features(modality, row[modality]) for row in rows if modality in row])
    test = NineSenses("test", num_rows=200, modalities=[modality])
    queries = np.stack([_features(modality, row[modality]) for row in test])
    means = np.stack([features[label::20].mean(0) for label in range(20)])
    scale = features.std(0) + 1e-3
    distances = (((queries[:, None] - means) / scale) ** 2).sum(-1)
    accuracy = (distances.argmin(1) == np.arange(200) % 20).mean()
    assert accuracy >= 0.14


def _features(modality: str, value: object) -> np.ndarray:
    if modality == "audio":
        frames = value["array"][: 31 * 512].reshape(31, 512)
        return np.log(np.abs(np.fft.rfft(frames * np.hanning(512), axis=1)) + 1e-2).ravel()
    if modality == "point_cloud":
        angle = (np.arctan2(value[:, 1], value[:, 0]) / np.pi * 8 + 8).astype(int) % 16
        length = np.hypot(value[:, 0], value[:, 1])
        parts = [
            np.percentile(length[angle == k], [20, 50, 80]) if (angle == k).any() else np.zeros(3) for k in range(16)
        ]
        return np.concatenate([*parts, np.percentile(value[:, 2], [10, 30, 50, 70, 90])])
    array = np.asarray(value, dtype=float)
    if modality in ("depth", "thermal"):
        array = array - np.median(array)
    return (array.mean((0, 3)) if modality == "video" else array).ravel()


def test_slices_and_negative_indices_work_like_those_of_a_list() -> None:
    data = NineSenses("test", num_rows=5, modalities=["text"])
    assert [row["id"] for row in data[1:3]] == [data[1]["id"], data[2]["id"]]
    assert data[-1]["id"] == data[4]["id"]
    with pytest.raises(IndexError, match="index 5"):
        data[5]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param({"split": "dev"}, "split: got 'dev'; allowed: train, validation, test", id="split"),
        pytest.param({"difficulty": "medium"}, "difficulty: got 'medium'", id="difficulty"),
        pytest.param({"world": -1}, "world: got -1", id="negative-world"),
        pytest.param({"world": 1.5}, "world: got 1.5", id="fractional-world"),
        pytest.param({"modalities": ["smell"]}, "modalities: got 'smell'; allowed: text, image", id="modality"),
        pytest.param({"modalities": "image"}, "modalities: got 'image'; allowed: a list", id="modalities-string"),
        pytest.param({"modalities": []}, "modalities: got", id="no-modalities"),
        pytest.param({"num_rows": 10}, "num_rows: got 10, which is not a size of split 'train'", id="rows-of-train"),
        pytest.param({"split": "test", "num_bridge": 3}, "num_bridge: got 3", id="bridge-of-test"),
        pytest.param({"split": "test", "num_rows": True}, "num_rows: got True", id="boolean"),
        pytest.param({"num_target": 10**7}, "num_target: got 10000000", id="too-many"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NineSenses(**arguments)
