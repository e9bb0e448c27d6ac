"""A whole run in memory: build, train, save, load; on rows of any subset of modalities."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from codebind_hf.data import CodeBindCollator, NineSenses, PreparedDataset
from codebind_hf.model.codebooks import Codebook
from codebind_hf.model.modeling_codebind import CodeBindModel
from codebind_hf.processing.processing_codebind import CodeBindProcessor
from codebind_hf.training import CodeBindTrainingArguments, Recipe, Stage, build, modalities_of, running, save, train


SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
ENCODERS = ("text", "vision", "audio", "depth", "eeg")
MODEL = {f"{name}_config": SMALL for name in (*ENCODERS, "decoder")}


def make_recipe(**fields: Any) -> Recipe:
    training = {
        "max_steps": 2,
        "per_device_train_batch_size": 4,
        "logging_steps": 1,
        "disable_tqdm": True,
        "use_cpu": True,
        "warmup_steps": 0,
    }
    # The stages have steps of their own, which the recipe's `training` overrides.
    return Recipe(model=MODEL, training={**training, **fields.pop("training", {})}, **fields)


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return list(NineSenses("train", num_bridge=6, num_target=5, modalities=["text", "image", "audio", "eeg"]))


def texts_of(rows: list[dict[str, Any]]) -> list[str]:
    return [row["text"] for row in rows if row.get("text")]


def run(recipe: Recipe, rows: list[dict[str, Any]], folder: Path) -> tuple[CodeBindModel, CodeBindProcessor, list]:
    model, processor = build(recipe, modalities_of(rows), texts_of(rows))
    return model, processor, train(recipe, model, processor, PreparedDataset(rows, processor), folder)


def only(rows: list[dict[str, Any]], *modalities: str) -> list[dict[str, Any]]:
    """The rows with only these modalities, as many of them as they have."""
    cut = [{modality: row[modality] for modality in modalities if row.get(modality) is not None} for row in rows]
    return [row for row in cut if len(row) == len(modalities)]


def embeds_of(model: CodeBindModel, processor: CodeBindProcessor, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
    batch = CodeBindCollator(processor)(list(PreparedDataset(rows, processor)))
    inputs = {name: value for name, value in batch.items() if name not in ("rows", "return_loss")}
    with torch.no_grad():
        output = model.eval()(**inputs)
    found = {f"{name}.shared": value for name, value in output.embeds.items()}
    return found | {f"{name}.specific": value for name, value in output.specific_embeds.items()}


def test_modalities_of_rows_are_in_the_order_of_the_table() -> None:
    rows = [{"eeg": [1], "id": "a", "label": "x"}, {"text": "hi", "image": None}, {"audio": [2], "text": None}]
    assert modalities_of(rows) == ["text", "audio", "eeg"]
    assert modalities_of([]) == []


def test_build_gives_the_encoders_that_the_modalities_need(rows: list[dict[str, Any]]) -> None:
    model, processor = build(make_recipe(), modalities_of(rows), texts_of(rows))
    assert list(model.encoders) == ["text", "vision", "audio", "eeg"]
    assert set(model.decoders) == {"vision", "audio", "eeg"}
    text = model.config.text_config
    tokenizer = processor.tokenizer
    ids = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    assert (text.bos_token_id, text.eos_token_id, text.pad_token_id) == ids
    assert len(tokenizer) <= text.vocab_size


def test_build_is_the_same_for_a_seed_and_differs_between_seeds(rows: list[dict[str, Any]]) -> None:
    built = [build(make_recipe(seed=seed), modalities_of(rows), texts_of(rows)) for seed in (1, 1, 2)]
    same, again, other = (model.state_dict() for model, _ in built)
    assert all(torch.equal(value, again[name]) for name, value in same.items())
    assert any(not torch.equal(value, other[name]) for name, value in same.items())
    assert built[0][1].tokenizer.get_vocab() == built[1][1].tokenizer.get_vocab()


def test_training_gives_a_log_per_stage_and_a_checkpoint_with_the_same_bits(
    rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    model, processor, logs = run(make_recipe(), rows, tmp_path)
    assert [(entry["stage"], entry["encoders"]) for entry in logs] == [
        ("bridge", ["text", "vision"]),
        ("bind", ["audio", "eeg"]),
    ]
    for entry in logs:
        losses = [line["loss"] for line in entry["log"] if "loss" in line]
        assert len(losses) == 2
    assert not model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(module.frozen for module in model.modules() if isinstance(module, Codebook))
    save(model, processor, tmp_path / "checkpoint")
    loaded = CodeBindModel.from_pretrained(tmp_path / "checkpoint")
    reader = CodeBindProcessor.from_pretrained(tmp_path / "checkpoint")
    before, after = embeds_of(model, processor, rows), embeds_of(loaded, reader, rows)
    assert set(before) == {
        "text.shared",
        *(f"{name}.{part}" for name in ("image", "audio", "eeg") for part in ("shared", "specific")),
    }
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_training_is_the_same_for_a_seed(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    models = [run(make_recipe(seed=4), rows, tmp_path / str(number))[0].state_dict() for number in range(2)]
    assert all(torch.equal(value, models[1][name]) for name, value in models[0].items())


def test_sequential_binding_of_a_later_modality_leaves_the_earlier_one(
    rows: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[dict[str, Tensor]] = []
    original = CodeBindModel.train

    def noted(self: CodeBindModel, mode: bool = True) -> CodeBindModel:
        kept.append({name: value.clone() for name, value in self.encoders["audio"].state_dict().items()})
        return original(self, mode)

    model, processor = build(make_recipe(order="sequential"), modalities_of(rows), texts_of(rows))
    items = PreparedDataset(rows, processor)
    monkeypatch.setattr(CodeBindModel, "train", noted)
    logs = train(make_recipe(order="sequential"), model, processor, items, tmp_path)
    assert [entry["stage"] for entry in logs] == ["bridge", "bind-audio", "bind-eeg"]
    # The last call is the evaluation mode after binding EEG; audio had its final weights before that stage began.
    final = model.encoders["audio"].state_dict()
    unchanged = [all(torch.equal(value, final[name]) for name, value in state.items()) for state in kept]
    assert unchanged[-2:] == [True, True]
    assert not unchanged[0]


@pytest.mark.parametrize(
    "modalities",
    [
        pytest.param(("image", "audio"), id="no-text"),
        pytest.param(("text", "audio"), id="no-image"),
    ],
)
def test_data_without_a_whole_bridge_trains_jointly(
    rows: list[dict[str, Any]], tmp_path: Path, modalities: tuple[str, ...]
) -> None:
    some = only(rows, *modalities)
    model, processor, logs = run(make_recipe(), some, tmp_path)
    assert [entry["stage"] for entry in logs] == ["joint"]
    save(model, processor, tmp_path / "checkpoint")
    reader = CodeBindProcessor.from_pretrained(tmp_path / "checkpoint")
    loaded = CodeBindModel.from_pretrained(tmp_path / "checkpoint")
    before, after = embeds_of(model, processor, some), embeds_of(loaded, reader, some)
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_text_and_image_that_never_meet_train_jointly_with_what_they_meet(
    rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    # Nothing would train a bridge, and binding to a random one teaches nothing.
    some = only(rows, "text", "audio") + only(rows, "image", "audio")
    model, processor = build(make_recipe(), modalities_of(some), texts_of(some))
    before = {name: value.clone() for name, value in model.encoders.state_dict().items()}
    logs = train(make_recipe(), model, processor, PreparedDataset(some, processor), tmp_path)
    assert [(entry["stage"], entry["encoders"]) for entry in logs] == [("joint", ["text", "vision", "audio"])]
    changed = {
        name.partition(".")[0] for name, value in model.encoders.state_dict().items() if not value.equal(before[name])
    }
    assert changed == {"text", "vision", "audio"}


def test_lora_beside_a_stage_of_whole_towers_is_refused(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    """An adapter checkpoint could not hold the towers that the other stage trained."""
    recipe = make_recipe(stages={"bind": {"train_mode": "lora"}})
    with pytest.raises(ValueError, match=r"'bridge' is 'full' and 'bind' is 'lora'.*order 'bind'"):
        run(recipe, rows, tmp_path)
    recipe = make_recipe(stages={"bridge": {"train_mode": "lens"}, "bind": {"train_mode": "lora"}})
    with pytest.raises(ValueError, match=r"'bridge' is 'lens' and 'bind' is 'lora'"):
        run(recipe, rows, tmp_path)


def test_rows_of_any_subset_of_modalities_train(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    some = [
        *only(rows, "text", "image"),
        *only(rows, "text", "audio")[:3],
        *only(rows, "image", "eeg")[:3],
        *only(rows, "text", "image", "audio")[:1],
        *only(rows, "audio")[:2],
        *only(rows, "text")[:1],
        {"audio": rows[6]["audio"], "eeg": rows[-1]["eeg"]},
    ]
    recipe = make_recipe(training={"max_steps": 4, "per_device_train_batch_size": 2})
    _, _, logs = run(recipe, some, tmp_path)
    assert [entry["stage"] for entry in logs] == ["bridge", "bind"]
    losses = [line["loss"] for entry in logs for line in entry["log"] if "loss" in line]
    assert len(losses) == 8
    assert all(loss == loss for loss in losses)


def test_a_set_of_modalities_smaller_than_a_batch_is_still_seen(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    # Enough rows to leave ragged batches out, but EEG has 5 and a batch 6: EEG would never be seen.
    some = [*only(rows, "text", "image"), *only(rows, "text", "audio") * 10, *only(rows, "image", "eeg")]
    recipe = make_recipe(training={"per_device_train_batch_size": 6, "max_steps": 10})
    model, _, _ = run(recipe, some, tmp_path)
    assert int(model.codebooks.specific["eeg"].num_updates) > 0
    assert int(model.codebooks.specific["audio"].num_updates) > 0


def test_small_rounds_are_judged_by_what_all_processes_take(
    rows: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A set of modalities that fills the batch of one process but no round of all would else never be seen."""
    sizes = []

    def stop(**options: Any) -> None:
        raise InterruptedError

    monkeypatch.setattr(CodeBindTrainingArguments, "world_size", property(lambda _: 3))
    monkeypatch.setattr(running, "_fills_batches", lambda view, size: sizes.append(size))
    monkeypatch.setattr(running, "CodeBindTrainer", stop)
    with pytest.raises(InterruptedError):
        run(make_recipe(), rows, tmp_path)
    assert sizes == [3 * 4]


def test_a_modality_that_never_meets_text_or_image_is_named(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    some = [*only(rows, "text", "image"), *only(rows, "eeg")]
    with pytest.raises(
        ValueError, match=r"no row has eeg together with text or image.*--text_from_label \"a photo of"
    ):
        run(make_recipe(), some, tmp_path)


def test_one_modality_cannot_be_trained(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="modalities: the data has image; training needs"):
        run(make_recipe(), only(rows, "image"), tmp_path)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        pytest.param({"order": "random"}, r"order: got 'random'; allowed: 'joint', 'sequential', 'bind'", id="order"),
        pytest.param({"stages": {"brige": {}}}, r"stages: got 'brige'; allowed: bridge, bind, joint", id="stage"),
    ],
)
def test_a_recipe_with_a_typing_error_is_refused(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Recipe(**fields)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"training": {"learning_rate": "5e-4"}}, r"learning_rate is the text '5e-4'.*such as 5\.0e-4"),
        ({"training": {"new_module_learning_rate": "1e-3"}}, "new_module_learning_rate is the text"),
        ({"stages": {"bind": {"train_mode": "lorra"}}}, "bind: train_mode is 'lorra'; allowed: 'full'"),
    ],
)
def test_values_that_no_training_could_use_are_refused_at_once(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Recipe(**options)


def test_an_unknown_preset_is_named() -> None:
    with pytest.raises(ValueError, match="unknown preset 'huge'.*tiny"):
        build(Recipe(preset="huge"), ["text", "image"], ["a cat"])


def test_arguments_of_a_stage_win_over_those_of_the_recipe(tmp_path: Path) -> None:
    recipe = Recipe(training={"max_steps": 7, "use_cpu": True}, stages={"bind": {"max_steps": 9}}, seed=3)
    bridge = recipe.arguments(Stage("bridge", ("text", "image"), ("text", "image")), tmp_path)
    bind = recipe.arguments(Stage("bind-audio", ("audio",), ("text", "image", "audio")), tmp_path)
    assert (bridge.max_steps, bind.max_steps) == (7, 9)
    assert bind.freeze_shared_codes
    assert not bridge.freeze_shared_codes
    assert bridge.seed == bind.seed == 3
    assert Path(bind.output_dir) == tmp_path / "bind-audio"
