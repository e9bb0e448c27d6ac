"""Binding one modality to a finished model: the others stay bit for bit, or move no farther than was allowed."""

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from codebind_hf.data import NineSenses, PreparedDataset
from codebind_hf.evaluation import embed_dataset
from codebind_hf.model.modeling_codebind import CodeBindModel
from codebind_hf.processing.processing_codebind import CodeBindProcessor
from codebind_hf.training import Recipe, build, save, train
from codebind_hf.training import binding as module
from codebind_hf.training.binding import Binding, bind, binding_recipe, movement


SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
TRAINING = {
    "max_steps": 2,
    "per_device_train_batch_size": 4,
    "disable_tqdm": True,
    "use_cpu": True,
    "warmup_steps": 0,
}
RADAR = {**SMALL, "num_channels": 2, "input_size": [24], "patch_size": [4]}


def radar_of(row: dict[str, Any]) -> np.ndarray:
    """A made-up sensor of two channels, of any length and far from zero mean."""
    picture = np.asarray(row["image"], dtype=np.float32).mean(-1)
    return np.stack([picture.mean(0), picture.mean(1)]) + 40


@pytest.fixture(scope="module")
def rows() -> dict[str, list[dict[str, Any]]]:
    """Rows for training the base, for binding EEG and radar, and with every modality of the base."""
    base = NineSenses("train", num_bridge=6, num_target=5, modalities=["text", "image", "audio"])
    eeg = NineSenses("train", num_bridge=0, num_target=6, modalities=["text", "image", "eeg"])
    whole = NineSenses("test", num_rows=5, modalities=["text", "image", "video", "audio", "eeg"])
    found = {"base": list(base), "eeg": list(eeg), "whole": list(whole)}
    found["radar"] = [{**row, "radar": radar_of(row)} for row in found["eeg"]]
    return found


@pytest.fixture(scope="module")
def base(rows: dict[str, list[dict[str, Any]]], tmp_path_factory: pytest.TempPathFactory) -> str:
    """A checkpoint of text, image and audio, trained for two steps of each stage."""
    folder = tmp_path_factory.mktemp("base")
    fields = {f"{name}_config": SMALL for name in ("text", "vision", "audio", "decoder")}
    recipe = Recipe(model=fields, training=TRAINING)
    model, processor = build(recipe, ["text", "image", "audio"], [row["text"] for row in rows["base"]])
    train(recipe, model, processor, PreparedDataset(rows["base"], processor), folder)
    save(model, processor, folder / "checkpoint")
    return str(folder / "checkpoint")


def begun(base: str, modality: str, encoder: Any = None, **fields: Any) -> SimpleNamespace:
    training = {**TRAINING, **fields.pop("training", {})}
    recipe = binding_recipe(Recipe(base=base, training=training, **fields), modality, encoder)
    known = CodeBindModel.from_pretrained(base).config.modalities
    model, processor = build(recipe, list(dict.fromkeys([*known, modality])), [])
    return SimpleNamespace(recipe=recipe, model=model, processor=processor)


def run(base: str, modality: str, rows: list[dict[str, Any]], folder: Path, **options: Any) -> Any:
    """Bind `modality`; returns the result, the model and its processor."""
    start = begun(base, modality, **options.pop("start", {}))
    result = bind(start.model, start.processor, rows, modality, start.recipe, folder, **options)
    return SimpleNamespace(result=result, model=start.model, processor=start.processor)


def outputs_of(folder: str | Path, rows: list[dict[str, Any]], modalities: tuple[str, ...]) -> dict[str, Tensor]:
    """What a saved checkpoint, with its own processor, makes of raw rows: all that a user can see of them."""
    model, processor = CodeBindModel.from_pretrained(folder), CodeBindProcessor.from_pretrained(folder)
    arguments = {"text": "text", "image": "images", "video": "videos"}
    inputs = processor(**{arguments.get(name, name): [row[name] for row in rows] for name in modalities})
    with torch.no_grad():
        output = model.eval()(**inputs, output_reconstructions=True)
    kinds = ("embeds", "continuous_embeds", "specific_embeds", "continuous_specific_embeds", "logits")
    found = {f"{kind}.{name}": value for kind in kinds for name, value in output[kind].items()}
    found |= {f"reconstruction.{name}": value for name, value in output.reconstructions.items()}
    return found | {f"codes.{name}": value.shared for name, value in output.codes.items()}


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def hashes_of(folder: str) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in Path(folder).iterdir()}


# Not at all


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_binding_eeg_leaves_every_other_modality_bit_for_bit(
    base: str, rows: dict[str, list[dict[str, Any]]], tmp_path: Path, precision: str
) -> None:
    files = hashes_of(base)
    start = {"training": {"bf16": precision == "bf16"}}
    done = run(base, "eeg", rows["eeg"], tmp_path, check_rows=rows["whole"], start=start)
    assert done.result.movement == {"text": 0.0, "image": 0.0, "video": 0.0, "audio": 0.0}
    assert done.result.is_within_tolerance
    assert done.result.changed == []
    save(done.model, done.processor, tmp_path / "checkpoint")
    modalities = ("text", "image", "video", "audio")
    assert_equal(
        outputs_of(base, rows["whole"], modalities), outputs_of(tmp_path / "checkpoint", rows["whole"], modalities)
    )
    assert hashes_of(base) == files
    # EEG is there, has learned and has codes of its own that have moved.
    assert done.model.codebooks.specific["eeg"].num_updates == 2
    fresh = begun(base, "eeg").model.state_dict()
    learned = {name for name, value in done.model.state_dict().items() if not torch.equal(value, fresh[name])}
    assert {name.split(".")[0] for name in learned} == {"encoders", "decoders", "codebooks"}
    assert all("eeg" in name for name in learned)


def test_a_modality_that_the_checkpoint_has_is_trained_further(
    base: str, rows: dict[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    done = run(base, "audio", rows["base"], tmp_path)
    assert done.result.movement == {"text": 0.0, "image": 0.0}
    # Frozen and never seen: nothing of it can be measured, and its tensors are compared.
    assert done.result.unmeasured == ["video"]
    assert done.result.is_within_tolerance
    before, after = CodeBindModel.from_pretrained(base).state_dict(), done.model.state_dict()
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed
    assert all("audio" in name for name in changed)


@pytest.mark.slow
def test_a_modality_of_the_users_own_binds_and_keeps_its_preprocessing_when_the_next_one_binds(
    base: str, rows: dict[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    encoder = {**RADAR, "processor": {"mean": 40.0, "normalize": "item"}}
    done = run(base, "radar", rows["radar"], tmp_path, start={"encoder": encoder})
    assert set(done.result.movement.values()) == {0.0}
    save(done.model, done.processor, tmp_path / "radar")
    stored = CodeBindProcessor.from_pretrained(tmp_path / "radar").added_modalities["radar"]
    assert (stored["mean"], stored["normalize"], stored["input_size"]) == (40.0, "item", [24])
    then = run(str(tmp_path / "radar"), "eeg", rows["radar"], tmp_path)
    assert set(then.result.movement) == {"text", "image", "radar"}
    assert set(then.result.movement.values()) == {0.0}
    save(then.model, then.processor, tmp_path / "eeg")
    modalities = ("text", "image", "radar")
    before, after = (outputs_of(tmp_path / name, rows["radar"], modalities) for name in ("radar", "eeg"))
    assert_equal(before, after)


# With learning codes


def test_learning_codes_move_the_others_by_what_is_reported(
    base: str, rows: dict[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    options = {"shared_codes": "learning", "check_rows": rows["whole"], "tolerance": 2.0}
    done = run(base, "eeg", rows["eeg"], tmp_path, **options)
    modalities = ("text", "image", "video", "audio")
    save(done.model, done.processor, tmp_path / "checkpoint")
    before, after = (outputs_of(folder, rows["whole"], modalities) for folder in (base, tmp_path / "checkpoint"))
    for name in modalities:
        moved = float((before[f"embeds.{name}"] - after[f"embeds.{name}"]).norm(dim=-1).max())
        assert done.result.movement[name] == pytest.approx(moved, rel=1e-5)
        assert 1e-4 < moved < 2
        # Before the codes nothing moves.
        assert torch.equal(before[f"continuous_embeds.{name}"], after[f"continuous_embeds.{name}"])
    assert done.result.is_within_tolerance
    assert done.result.changed == []
    for tolerance, is_within in ((max(done.result.movement.values()), True), (1e-4, False), (0.0, False)):
        report = Binding(**{**vars(done.result), "tolerance": tolerance}).report()
        assert report["is_within_tolerance"] == is_within
    assert "logs" not in report
    assert "audio 0." in done.result.summary()


def test_learning_codes_need_rows_of_every_other_encoder(
    base: str, rows: dict[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"check_rows: no row has audio, whose movement with learning codes"):
        run(base, "eeg", rows["eeg"], tmp_path, shared_codes="learning", tolerance=1.0)


# The measurement


def test_movement_is_the_largest_distance_of_a_modality(base: str, rows: dict[str, list[dict[str, Any]]]) -> None:
    model, processor = CodeBindModel.from_pretrained(base), CodeBindProcessor.from_pretrained(base)
    known = [{name: row[name] for name in ("text", "image", "audio")} for row in rows["whole"]]
    items = PreparedDataset(known, processor)
    before = embed_dataset(model, None, items, progress=False)
    assert movement(model, before, items) == {"text": 0.0, "image": 0.0, "audio": 0.0}
    with torch.no_grad():
        model.encoders["audio"].shared_head.projection.weight.neg_()
    moved = movement(model, before, items)
    # The continuous embedding points the other way.
    assert moved == {"text": 0.0, "image": 0.0, "audio": pytest.approx(2.0, abs=1e-6)}


def test_one_changed_bit_is_movement(base: str, rows: dict[str, list[dict[str, Any]]]) -> None:
    model, processor = CodeBindModel.from_pretrained(base), CodeBindProcessor.from_pretrained(base)
    items = PreparedDataset([{"text": row["text"]} for row in rows["whole"]], processor)
    before = embed_dataset(model, None, items, progress=False)
    value = before.modalities["text"].continuous_embeds[1, 2]
    before.modalities["text"].continuous_embeds[1, 2] = torch.nextafter(value, torch.tensor(2.0))
    assert 0 < movement(model, before, items)["text"] < 1e-6


def test_a_tensor_that_should_have_stayed_is_found_where_no_row_shows_it(
    base: str, rows: dict[str, list[dict[str, Any]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = train

    def careless(recipe: Recipe, model: CodeBindModel, *args: Any) -> Any:
        logs = original(recipe, model, *args)
        with torch.no_grad():
            model.encoders["audio"].specific_head.projection.weight[0, 0] += 1e-6
        return logs

    monkeypatch.setattr(module, "train", careless)
    done = run(base, "eeg", rows["eeg"], tmp_path)
    assert done.result.changed == ["encoders.audio.specific_head.projection.weight"]
    assert done.result.unmeasured == ["video", "audio"]
    assert not done.result.is_within_tolerance
    assert "changed: encoders.audio" in done.result.summary()


# What it starts from


def test_a_missing_modality_gets_the_encoder_of_the_preset_with_the_same_embeddings(base: str) -> None:
    recipe = binding_recipe(Recipe(base=base), "point_cloud")
    assert recipe.model["point_config"]["num_groups"] == 32
    assert (recipe.order, recipe.preset) == ("bind", None)
    assert binding_recipe(Recipe(base=base), "eeg", {"hidden_size": 8}).model["eeg_config"]["hidden_size"] == 8
    assert binding_recipe(Recipe(base=base), "audio").model == {}
    named = binding_recipe(Recipe(base=base, preset="codebind-ib-huge"), "eeg")
    assert named.model["eeg_config"]["hidden_size"] == 768


@pytest.mark.parametrize(
    ("modality", "encoder", "fields", "named"),
    [
        pytest.param(
            "radar", None, {}, r"is none of text, image, video, audio \(--bind\). Fix: describe", id="unknown"
        ),
        pytest.param(
            "radar",
            None,
            {},
            "modality: 'radar' is none of text, image, video, audio .--bind.. Fix: describe",
            id="unknown",
        ),
        pytest.param("audio", RADAR, {}, "encoder: got one for 'audio', which the checkpoint has", id="settled"),
        pytest.param("radar", {**RADAR, "hiden_size": 3}, {}, "hiden_size", id="encoder-field"),
        pytest.param("radar", {**RADAR, "processor": {"input_size": [3]}}, {}, "processor: input_size", id="size"),
        pytest.param("eeg", None, {"temperature": 0.07}, "temperature: got 0.07; a finished", id="temperature"),
        pytest.param("eeg", None, {"model": {"code_dim": 8}}, "model: 'code_dim' may change", id="model"),
        pytest.param("radar", RADAR, {"model": {"added_encoders": {"lidar": RADAR}}}, "model: 'lidar'", id="two"),
        pytest.param("eeg", None, {"processor": {"audio": {}}}, "processor: 'audio' belongs", id="processor"),
        pytest.param("eeg", None, {"training": {"train_bridge_heads": True}}, "train_bridge_heads: got", id="heads"),
        pytest.param("eeg", None, {"preset": "ib-huge"}, "preset: got 'ib-huge', and no preset", id="preset"),
    ],
)
def test_a_wrong_start_is_named(base: str, modality: str, encoder: Any, fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        begun(base, modality, encoder, **fields)


def test_a_binding_needs_a_base() -> None:
    with pytest.raises(ValueError, match="recipe: got no base"):
        binding_recipe(Recipe(), "eeg")
    with pytest.raises(OSError, match="base: 'none' is no checkpoint"):
        binding_recipe(Recipe(base="none"), "eeg")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        pytest.param(
            {"shared_codes": "moving"}, "shared_codes: got 'moving'; allowed: 'frozen', 'learning'", id="codes"
        ),
        pytest.param({"tolerance": -1.0}, "tolerance: got -1.0", id="tolerance"),
        pytest.param({"tolerance": float("nan")}, "tolerance: got nan", id="nan"),
        pytest.param({"modality": "vision"}, "vision", id="no-modality"),
        pytest.param({"modality": "image"}, "modality: got 'image', which is the bridge", id="bridge"),
        pytest.param({"rows": "base"}, "rows: none has 'eeg'", id="rows"),
        pytest.param({"rows": "alone"}, "training needs text or image", id="no-bridge"),
    ],
)
def test_a_wrong_binding_is_named_and_leaves_the_model_alone(
    base: str, rows: dict[str, list[dict[str, Any]]], tmp_path: Path, options: dict[str, Any], named: str
) -> None:
    start = begun(base, "eeg")
    before = {name: value.clone() for name, value in start.model.state_dict().items()}
    every = {**rows, "alone": [{"eeg": row["eeg"]} for row in rows["eeg"]]}
    chosen = {"rows": "eeg", "modality": "eeg", **options}
    some = every[chosen.pop("rows")]
    with pytest.raises(ValueError, match=named):
        bind(start.model, start.processor, some, chosen.pop("modality"), start.recipe, tmp_path, **chosen)
    assert_equal(before, dict(start.model.state_dict()))
