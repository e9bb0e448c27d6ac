"""The door to augmentations: what they may be, what a row becomes, and that the same row becomes the same anywhere."""

import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from recipe_files import FOLDER, recipe_of
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from codebind_hf.data import Augmentation, NineSenses, augmented_row
from codebind_hf.data.augmentation import OPERATIONS
from codebind_hf.data.row_tensors import prepare_row
from codebind_hf.model.configuration_codebind import CodeBindConfig
from codebind_hf.processing.frames import Frames
from codebind_hf.processing.processing_codebind import CodeBindProcessor
from codebind_hf.training import Recipe, build
from codebind_hf.training.recipe import modalities_of
from codebind_hf.training.tokenization import build_tokenizer


CROP, FLIP = {"name": "random_resized_crop"}, {"name": "horizontal_flip"}
TURN_OVER = {"name": "vertical_flip", "p": 1.0}
PICTURE = [CROP, FLIP, {"name": "rand_augment"}, {"name": "color_jitter", "hue": 0.4}, {"name": "random_erasing"}]
MAP = [CROP, FLIP, {"name": "random_erasing"}]
ALL: dict[str, list[dict[str, Any]]] = {
    "image": PICTURE,
    "video": PICTURE,
    "depth": MAP,
    "thermal": MAP,
    "tactile": [CROP, FLIP, {"name": "vertical_flip"}, {"name": "rotation"}],
    "audio": [
        *({"name": "random_clip"}, {"name": "gain"}, {"name": "frequency_mask"}, {"name": "time_mask"}),
        *({"name": "noise"}, {"name": "time_roll"}),
    ],
    "point_cloud": [{"name": name} for name in OPERATIONS if name.startswith("point_")],
    "eeg": [{"name": "time_shift"}, {"name": "channel_dropout"}],
    "imu": [{"name": "time_shift"}, {"name": "channel_dropout"}],
}


def processor_with(augmentation: Any, **overrides: Any) -> CodeBindProcessor:
    tokenizer = build_tokenizer(["a wooden ring"])
    processor = CodeBindProcessor.from_model_config(CodeBindConfig.from_preset("tiny"), tokenizer, **overrides)
    processor.augmentation = augmentation
    return processor


@pytest.fixture(scope="module")
def row() -> dict[str, Any]:
    return NineSenses("test", num_rows=1)[0]


def same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    ours, theirs = first["tensors"], second["tensors"]
    rest = [{name: value for name, value in item.items() if name != "tensors"} for item in (first, second)]
    return rest[0] == rest[1] and ours.keys() == theirs.keys() and all(torch.equal(ours[n], theirs[n]) for n in ours)


# One row


@pytest.mark.parametrize("nothing", [None, {}, {"image": []}])
def test_without_operations_a_row_is_prepared_as_ever(nothing: Any, row: dict[str, Any]) -> None:
    processor = processor_with(nothing)
    assert same(augmented_row(row, processor, (0, 0, 0), "x"), prepare_row(row, processor, "x"))


def test_every_modality_is_changed_and_keeps_its_shape(row: dict[str, Any]) -> None:
    processor = processor_with(ALL)
    plain, found = prepare_row(row, processor), augmented_row(row, processor, (0, 0, 0))
    assert (found["id"], found["label"], found["attributes"]) == (plain["id"], plain["label"], plain["attributes"])
    for name, tensor in plain["tensors"].items():
        other = found["tensors"][name]
        assert (other.shape, other.dtype) == (tensor.shape, tensor.dtype)
        assert bool(other.isfinite().all())
        assert torch.equal(other, tensor) == (name in ("input_ids", "attention_mask")), name


def test_a_sample_follows_from_its_seed_alone(row: dict[str, Any]) -> None:
    augmentation = Augmentation(processor_with(ALL))
    first = augmentation.prepare(row, (3, 1, 4))
    others = [augmentation.prepare(row, seed) for seed in ((4, 1, 4), (3, 2, 4), (3, 1, 5), (3, 4, 1))]
    assert same(first, augmentation.prepare(row, (3, 1, 4)))
    for other in others:
        for name in set(first["tensors"]) - {"input_ids", "attention_mask"}:
            assert not torch.equal(first["tensors"][name], other["tensors"][name]), name
    # Which other modalities a row has, or is asked for, changes nothing.
    asked = augmentation.prepare(row, (3, 1, 4), modalities=["audio"])
    assert list(asked["tensors"]) == ["input_features"]
    assert torch.equal(asked["tensors"]["input_features"], first["tensors"]["input_features"])
    for modality, tensor in (("audio", "input_features"), ("point_cloud", "point_values"), ("image", "pixel_values")):
        alone = augmentation.prepare({"id": row["id"], modality: row[modality]}, (3, 1, 4))
        assert torch.equal(alone["tensors"][tensor], first["tensors"][tensor])


class Augmented(Dataset):
    def __init__(self, rows: Sequence[dict[str, Any]], processor: CodeBindProcessor, epoch: int) -> None:
        self.rows, self.augmentation, self.epoch = rows, Augmentation(processor), epoch

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.augmentation.prepare(self.rows[index], (7, self.epoch, index))


def first_of(items: list[Any]) -> Any:
    return items[0]


def test_workers_of_other_processes_draw_the_same_samples() -> None:
    data = Augmented(list(NineSenses("test", num_rows=3)), processor_with(ALL), epoch=2)
    by_workers = list(DataLoader(data, num_workers=2, collate_fn=first_of, multiprocessing_context="fork"))
    # What a worker that is started afresh gets.
    sent = pickle.loads(pickle.dumps(data))  # noqa: S301
    assert len(by_workers) == 3
    for index in (2, 0, 1):
        assert same(data[index], by_workers[index])
        assert same(data[index], sent[index])


def test_draws_are_the_same_in_every_run_of_python() -> None:
    """Numbers that hang on the hash of a text, which differs from run to run, would not be these."""
    raw = {"image": scene_row()["image"]}
    augmentation = Augmentation(scene_processor({"image": [FLIP]}))
    rights = [augmentation.prepare(raw, (0, 0, seed))["tensors"]["pixel_values"][1, 0] for seed in range(12)]
    assert "".join("<" if line[0] > line[-1] else ">" for line in rights) == "><>><>><<<>>"


# One scene


def scene(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Where every pixel is, from 0 to 1: down, and to the right."""
    down = (np.arange(height) + 0.5) / height
    right = (np.arange(width) + 0.5) / width
    return np.meshgrid(down, right, indexing="ij")  # type: ignore[return-value]


SEEN = {"mean": [0.0], "std": [1.0], "size": [32, 32]}


def scene_processor(augmentation: dict[str, list[dict[str, Any]]]) -> CodeBindProcessor:
    """Depth of 0 to 10 m in millimetres and 0 to 50 degrees in hundredths of a kelvin, both as they are in [0, 1]."""
    return processor_with(
        augmentation,
        images=SEEN,
        videos=SEEN,
        depth={**SEEN, "depth_unit": "mm", "encoding": "metres", "value_range": [0.0, 10.0]},
        thermal={**SEEN, "thermal_unit": "centikelvin", "thermal_range": [0.0, 50.0]},
    )


def scene_row() -> dict[str, Any]:
    """Three sensors of other sizes look at one scene: image and video at both directions, the maps at one each."""
    down, right = scene(120, 160)
    image = (np.stack([down, right, np.zeros_like(down)], axis=2) * 255).astype(np.uint8)
    depth = (scene(240, 320)[0] * 10_000).astype(np.uint16)
    thermal = (27_315 + scene(60, 80)[1] * 5_000).astype(np.uint16)
    return {"image": Image.fromarray(image), "video": np.stack([image] * 5), "depth": depth, "thermal": thermal}


def difference(first: Tensor, second: Tensor) -> float:
    return float((first - second).abs().max())


def test_modalities_of_a_scene_are_cut_and_mirrored_alike() -> None:
    given = [{**CROP, "scale": [0.3, 0.6]}, FLIP]
    augmentation = Augmentation(scene_processor(dict.fromkeys(("image", "video", "depth", "thermal"), given)))
    raw, lefts, mirrored = scene_row(), set(), set()
    for seed in range(12):
        tensors = augmentation.prepare(raw, (0, 0, seed))["tensors"]
        down, right, _ = tensors["pixel_values"]
        # A pixel of the coarsest sensor is a sixtieth and an eightieth of the scene.
        assert difference(tensors["depth_values"][0], down) < 0.02
        assert difference(tensors["thermal_values"][0], right) < 0.025
        frames = tensors["pixel_values_videos"]
        assert difference(frames, tensors["pixel_values"].expand_as(frames)) == 0
        mirrored.add(bool(right[0, 0] > right[0, -1]))
        lefts.add(round(float(right.min()), 3))
    assert mirrored == {True, False}
    assert len(lefts) > 6


def test_colours_and_tactile_pictures_go_their_own_ways() -> None:
    jitter = [{"name": "color_jitter"}]
    raw = dict.fromkeys(("image", "tactile"), scene_row()["image"]) | {"video": scene_row()["video"]}
    processor = processor_with(
        {"image": [FLIP, *jitter], "video": [FLIP, *jitter], "tactile": [FLIP]}, images=SEEN, videos=SEEN, tactile=SEEN
    )
    ways = set()
    for seed in range(12):
        tensors = augmented_row(raw, processor, (0, 0, seed))["tensors"]
        frames = tensors["pixel_values_videos"][0]
        assert torch.equal(frames[0], frames[1])
        assert not torch.equal(frames[0], tensors["pixel_values"])
        right, felt = tensors["pixel_values"][1], tensors["tactile_values"][1]
        ways.add((bool(right[0, 0] > right[0, -1]), bool(felt[0, 0] > felt[0, -1])))
    assert len(ways) == 4


def test_the_same_rectangle_is_erased_of_a_scene() -> None:
    erase = [{"name": "random_erasing", "p": 0.5, "value": 1.0}]
    processor = scene_processor({"image": erase, "depth": erase})
    raw, times = scene_row(), 0
    for seed in range(12):
        tensors = augmented_row(raw, processor, (0, 0, seed))["tensors"]
        hidden = (tensors["pixel_values"] == 1).all(0)
        assert torch.equal(tensors["depth_values"][0] == 1, hidden)
        times += bool(hidden.any())
    assert 0 < times < 12


def test_units_are_kept_on_the_way(tmp_path: Path) -> None:
    processor = scene_processor({"depth": [TURN_OVER], "thermal": [TURN_OVER], "image": [TURN_OVER]})
    raw = scene_row()
    plain = prepare_row(raw, processor)["tensors"]
    found = augmented_row(raw, processor, (0,))["tensors"]
    for name in ("depth_values", "thermal_values", "pixel_values"):
        torch.testing.assert_close(found[name], plain[name].flip(1), atol=2e-3, rtol=0)
    # The thermal map changes to the right only.
    assert min(difference(found[name], plain[name]) for name in ("depth_values", "pixel_values")) > 0.5
    # Files are opened as the processor opens them.
    for modality in ("depth", "thermal"):
        Image.fromarray(raw[modality]).save(tmp_path / f"{modality}.png")
    raw["image"].save(tmp_path / "image.png")
    files = {modality: str(tmp_path / f"{modality}.png") for modality in ("image", "depth", "thermal")}
    from_files = augmented_row(files, processor, (0,))["tensors"]
    assert all(torch.equal(from_files[name], found[name]) for name in from_files)


def test_recordings_keep_their_rate_and_come_from_files_and_arrays(row: dict[str, Any], tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    processor = processor_with({"audio": ALL["audio"], "eeg": ALL["eeg"]}, eeg={"sampling_rate": 100})
    sound, rate = np.random.default_rng(0).normal(0, 0.1, 40_000).astype(np.float32), 8_000
    soundfile.write(tmp_path / "sound.wav", sound, rate, subtype="FLOAT")
    np.save(tmp_path / "eeg.npy", row["eeg"] if isinstance(row["eeg"], np.ndarray) else row["eeg"]["array"])
    eeg = np.load(tmp_path / "eeg.npy")
    in_memory = {"audio": {"array": sound, "sampling_rate": rate}, "eeg": {"array": eeg, "sampling_rate": 200}}
    in_files = {
        "audio": str(tmp_path / "sound.wav"),
        "eeg": {"array": str(tmp_path / "eeg.npy"), "sampling_rate": 200},
    }
    assert same(augmented_row(in_memory, processor, (1, 2, 3)), augmented_row(in_files, processor, (1, 2, 3)))
    with pytest.raises(ValueError, match=r"audio\[0\]: got samples without a sampling rate"):
        augmented_row({"audio": sound}, processor, (0,))
    with pytest.raises(ValueError, match=r"audio\[0\]: got sampling_rate=8000.5"):
        augmented_row({"audio": {"array": sound, "sampling_rate": 8000.5}}, processor, (0,))


def test_channels_are_picked_from_files_once() -> None:
    """What is handed on is an array of those picked, to which names of channels would be refused."""
    processor = processor_with({"eeg": [{"name": "time_shift"}]}, eeg={"channels": ["Cz", "Pz"]})
    augmentation = Augmentation(processor)
    assert augmentation.parts["eeg"].channels == ["Cz", "Pz"]
    assert augmentation.processor.part("eeg").channels is None
    assert processor.part("eeg").channels == ["Cz", "Pz"]


class Counted(Frames):
    """Frames that say which of them were read."""

    fps = 5.0

    def __init__(self) -> None:
        self.read: list[int] = []

    def __len__(self) -> int:
        return 100

    def __getitem__(self, index: int) -> np.ndarray:
        self.read.append(index)
        return np.full((8, 12, 3), index, dtype=np.uint8)


def test_only_the_frames_that_are_seen_are_read_and_changed() -> None:
    frames = Counted()
    processor = processor_with({"video": [TURN_OVER]})
    augmented_row({"video": frames}, processor, (0,))
    assert frames.read == [0, 99]
    augmented_row({"video": frames}, processor_with({"video": [CROP]}), (0,))
    # Once more the first one, whose size a crop depends on.
    assert frames.read[2:] == [0, 0, 99]


def test_a_crop_stands_in_for_resizing_and_crops_of_the_processor() -> None:
    """A processor that would cut 32 of 40 pixels, three times along a video, gives what the random crop left."""
    options = {"resize_edge": 40, **SEEN}
    videos = {**options, "num_crops": 3}
    whole = [{**CROP, "scale": [1.0, 1.0], "ratio": [1.0, 1.0]}]
    square = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    processor = processor_with({"image": whole, "video": whole}, images=options, videos=videos)
    tensors = augmented_row({"image": square, "video": square[None]}, processor, (0,))["tensors"]
    expected = torch.from_numpy(square).permute(2, 0, 1) / 255
    assert torch.equal(tensors["pixel_values"], expected)
    assert tensors["pixel_values_videos"].shape == (1, 2, 3, 32, 32)
    assert torch.equal(tensors["pixel_values_videos"][0, 0], expected)
    assert prepare_row({"video": square[None]}, processor)["tensors"]["pixel_values_videos"].shape[0] == 3


# In the processor


def test_the_processor_saves_it_and_never_applies_it(row: dict[str, Any], tmp_path: Path) -> None:
    processor, plain = processor_with(ALL), processor_with(None)
    assert same(prepare_row(row, processor), prepare_row(row, plain))
    processor.save_pretrained(tmp_path / "with")
    loaded = CodeBindProcessor.from_pretrained(tmp_path / "with")
    assert loaded.augmentation == json.loads(json.dumps(ALL))
    assert same(augmented_row(row, loaded, (1, 2, 3)), augmented_row(row, processor, (1, 2, 3)))
    without = processor_with(None)
    del without.augmentation
    without.save_pretrained(tmp_path / "without")
    assert "augmentation" not in json.loads((tmp_path / "without" / "processor_config.json").read_text())
    assert CodeBindProcessor.from_pretrained(tmp_path / "without").augmentation is None


IMAGE_ERRORS = [
    ([{"p": 0.5}], r"image\[0\]: got .*; allowed: a dictionary with a 'name'"),
    ([{"name": "horizontl_flip"}], r"image\[0\]: got 'horizontl_flip'; .*did you mean `horizontal_flip`"),
    ([{**FLIP, "prob": 1}], r"image\[0\] horizontal_flip: got unknown parameter 'prob'; allowed: p"),
    ([FLIP, FLIP], r"image\[1\]: got 'horizontal_flip' a second time"),
    ([{**FLIP, "p": 1.5}], r"horizontal_flip: p: got 1.5; allowed: a number in \[0, 1\]"),
    ([{**FLIP, "p": "half"}], "p: got 'half'; allowed: a finite number"),
    ([{**CROP, "scale": [0.5, 0.1]}], "scale: got .*low <= high"),
    ([{**CROP, "scale": [0.0, 1.0]}], "scale: got 0.0"),
    ([{**CROP, "ratio": 1.0}], "ratio: got 1.0; allowed: a list"),
    ([{"name": "rand_augment", "magnitude": 31}], r"magnitude: got 31; allowed: a whole number in \[0, 30\]"),
    ([{"name": "rand_augment", "interpolation": "box"}], "interpolation: got 'box'"),
    ([{"name": "color_jitter", "hue": 0.6}], r"hue: got 0.6; allowed: a number in \[0, 0.5\]"),
    ([{"name": "random_erasing"}, FLIP], "got 'horizontal_flip' after 'random_erasing'.*put it first"),
]
ERRORS = [
    ({"imgae": []}, "augmentation: got the modality 'imgae'; allowed: .*did you mean `image`"),
    ([FLIP], "augmentation: got .*; allowed: a dictionary from a text to a list with each a dictionary"),
    ({"image": FLIP}, "augmentation: got"),
    *(({"image": operations}, message) for operations, message in IMAGE_ERRORS),
    ({"depth": [{"name": "color_jitter"}]}, "got 'color_jitter' for depth; .*measured values have no colours"),
    ({"thermal": [{"name": "rand_augment"}]}, "got 'rand_augment' for thermal; .*measured values have no colours"),
    ({"text": [FLIP]}, "got 'horizontal_flip' for text; allowed: none"),
    ({"audio": [{"name": "frequency_mask", "size": 65}]}, r"frequency_mask: size: got 65; .* in \[0, 64\]"),
    ({"point_cloud": [{"name": "point_rotation", "axis": "up"}]}, "axis: got 'up'; allowed: 'x', 'y', 'z'"),
    (
        {"image": [FLIP], "depth": [{**FLIP, "p": 0.1}]},
        "horizontal_flip: got p=0.1 for depth and 0.5 for image, which see one scene; allowed: one p for both",
    ),
]


@pytest.mark.parametrize(("augmentation", "message"), ERRORS)
def test_what_cannot_be_is_refused_by_name(augmentation: Any, message: str) -> None:
    processor = processor_with({"image": [{"name": "horizontal_flip", "p": 0.5}]})
    processor.augmentation = augmentation
    with pytest.raises(ValueError, match=message):
        Augmentation(processor)


@pytest.mark.parametrize("seed", [(), (0, -1), (0, 1.5), ("a",), 3])
def test_seeds_are_whole_numbers(seed: Any, row: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="seed: got"):
        augmented_row(row, processor_with({"image": [FLIP]}), seed)


# In recipes


def test_a_recipe_sets_what_its_data_has(tmp_path: Path) -> None:
    rows = list(NineSenses("train", num_bridge=4, num_target=0, modalities=["text", "image"]))
    recipe = Recipe(augmentation={"image": [FLIP], "audio": [{"name": "frequency_mask"}]})
    _, processor = build(recipe, modalities_of(rows), ["a"])
    assert processor.augmentation == {"image": [FLIP]}
    _, plain = build(Recipe(), modalities_of(rows), ["a"])
    assert plain.augmentation is None
    with pytest.raises(ValueError, match="augmentation: unknown key 'imgae'"):
        build(Recipe(augmentation={"imgae": [FLIP]}), modalities_of(rows), ["a"])
    with pytest.raises(ValueError, match=r"augmentation.image\[0\]: got 'flip'"):
        build(Recipe(augmentation={"image": [{"name": "flip"}]}), modalities_of(rows), ["a"])
    with pytest.raises(ValueError, match="recipe: augmentation is"):
        Recipe(augmentation={"image": FLIP})  # type: ignore[dict-item]


def named(entries: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {entry["name"]: {key: value for key, value in entry.items() if key != "name"} for entry in entries}


FULL = {
    "random_resized_crop": {},
    "horizontal_flip": {},
    "rand_augment": {"num_ops": 2, "magnitude": 9},
    "color_jitter": {"strength": 0.4, "hue": 0.4},
    "random_erasing": {"p": 0.25},
}


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.yaml")))
def test_the_recipes_have_the_sets_of_the_released_code(name: str) -> None:
    """Visual-AI/CodeBind@bba682e and TencentARC/ViT-Lens@2b4f2e0, as far as they are known."""
    recipe = recipe_of(name, base=None)
    if name.startswith(("demo", "real")):
        assert recipe.augmentation == {}
        return
    config = CodeBindConfig.from_preset(str(recipe.preset))
    processor = CodeBindProcessor.from_model_config(config, build_tokenizer(["a"]))
    processor.augmentation = {m: ops for m, ops in recipe.augmentation.items() if m in processor.modalities}
    assert processor.augmentation == recipe.augmentation
    operations = Augmentation(processor).operations
    sets = {modality: named(entries) for modality, entries in recipe.augmentation.items()}
    if not name.startswith("vl-"):
        audio = {"audio": {"frequency_mask": {"size": 12}}}
        picture = {"video" if name == "k400" else "image": FULL}
        depth = {key: FULL[key] for key in ("random_resized_crop", "horizontal_flip", "random_erasing")}
        thermal = {key: FULL[key] for key in ("random_resized_crop", "horizontal_flip")}
        target = {"sun": {"depth": depth}, "flir": {"thermal": thermal}, "llvip": {"thermal": thermal}}.get(name, {})
        assert sets == (audio if name.startswith(("audio", "vggsound")) else {**picture, **target})
        return
    if name in ("vl-audioset", "vl-vggsound"):
        masks = {entry.name: (entry.size, entry.value) for entry in operations["audio"] if entry.name.endswith("mask")}  # type: ignore[attr-defined]
        assert masks == {"frequency_mask": (12, 0.0), "time_mask": (48, 0.0)}
    for entry in operations.get("depth", ()):
        assert entry in operations["image"]


def test_the_page_names_every_operation() -> None:
    page = (FOLDER.parents[1] / "docs" / "training.md").read_text()
    assert [name for name in OPERATIONS if f"`{name}`" not in page] == []
    blocks = [block for block in page.split("```yaml\n")[1:] if block.startswith("augmentation:")]
    (example,) = [yaml.safe_load(block.split("```")[0]) for block in blocks]
    Augmentation(processor_with(example["augmentation"]))
