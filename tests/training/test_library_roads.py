"""The library's own roads: adapters in by three ways and out by every other, default arguments, rows of all kinds."""

import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from common import assert_same
from datasets import Dataset
from peft import IA3Config, LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from torch.nn.functional import normalize
from transformers import TrainingArguments

from codebind_hf.conversion.lora import has_lora
from codebind_hf.data import CodeBindCollator, StreamedDataset
from codebind_hf.model.codebooks import Codebook
from codebind_hf.model.modeling_codebind import CodeBindModel
from codebind_hf.training import CodeBindTrainer, CodeBindTrainingArguments, train_only
from codebind_hf.training.adapters import add_lora, load_adapter, merge_lora
from codebind_hf.training.stream_batches import stream_loader


MakeTrainer = Callable[..., CodeBindTrainer]
WAYS_IN = ("add_lora", "add_adapter", "get_peft_model")
TARGETS = ["q_proj", "v_proj", "fc1"]
CHECKPOINTING = [None, True, False]


def started(model: CodeBindModel) -> CodeBindModel:
    """`model` with codebooks as training leaves them."""
    generator = torch.Generator().manual_seed(4)
    for book in model.modules():
        if isinstance(book, Codebook):
            book.codes.copy_(normalize(torch.randn(book.codes.shape, generator=generator), dim=-1))
            book.num_updates += 9
    return model


@pytest.fixture(scope="module")
def base(tiny: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    started(tiny.model()).save_pretrained(folder)
    return folder


def with_adapter(base: Path, way: str) -> Any:
    """The base with an adapter put in by one of the ways, every matrix of it drawn."""
    model = CodeBindModel.from_pretrained(base)
    torch.manual_seed(6)
    if way == "add_lora":
        add_lora(model, ["audio", "depth"], rank=3)
        train_only(model, ["audio", "depth"], "lora")
    else:
        config = LoraConfig(target_modules=TARGETS, r=3)
        if way == "get_peft_model":
            model = get_peft_model(model, config)
        else:
            model.add_adapter(config)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if ".lora_B." in name:
                value.normal_(std=0.1)
    return model.train()


def batch_for(items: list[dict[str, Any]]) -> dict[str, Any]:
    batch = CodeBindCollator()(items)
    batch.pop("return_loss")
    return batch


def embeds_of(model: Any, items: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Quantized and continuous embeddings, shared and specific, of rows with every modality."""
    model.eval()
    with torch.no_grad():
        output = model(**batch_for(items))
    parts = ("embeds", "continuous_embeds", "specific_embeds")
    return {f"{part}.{name}": value for part in parts for name, value in output[part].items()}


def gradients_of(model: Any, items: list[dict[str, Any]], use_reentrant: bool | None) -> dict[str, Tensor]:
    if use_reentrant is not None:
        model.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
    model.train()
    model(**batch_for(items), return_loss=True).loss.backward()
    return {name: value.grad for name, value in model.named_parameters() if value.requires_grad}


# Adapters


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("way", WAYS_IN)
def test_both_kinds_of_checkpointing_give_the_gradients_of_none(tiny: SimpleNamespace, base: Path, way: str) -> None:
    """Reentrant checkpointing gives layers behind frozen stems no gradient at all, unless somebody sees to it."""
    rows = [row for row in tiny.items(2) if "depth_values" in row["tensors"] or "input_features" in row["tensors"]]
    found = {}
    for use_reentrant in CHECKPOINTING:
        model = with_adapter(base, way)
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        found[use_reentrant] = gradients_of(model, rows, use_reentrant)
    lora = [name for name in found[None] if ".lora_" in name and ".tower." in name]
    assert lora
    assert all(found[None][name].abs().sum() > 0 for name in lora)
    for use_reentrant in (True, False):
        for name, gradient in found[None].items():
            other = found[use_reentrant][name]
            assert (gradient is None) == (other is None), name
            if gradient is not None:
                torch.testing.assert_close(other, gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "checkpointing",
    [None, pytest.param(True, marks=pytest.mark.slow), pytest.param(False, marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("way", WAYS_IN)
def test_every_way_in_and_every_way_out_give_the_trained_embeddings(
    tiny: SimpleNamespace, trainer_of: MakeTrainer, base: Path, tmp_path: Path, way: str, checkpointing: bool | None
) -> None:
    fields: dict[str, Any] = {"save_strategy": "steps", "save_steps": 1, "max_steps": 2}
    if checkpointing is not None:
        fields |= {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": checkpointing}}
    items = tiny.items(4)
    given = with_adapter(base, way)
    before = embeds_of(given, items)
    trainer = trainer_of(given, items, **fields)
    trainer.train()
    expected = embeds_of(given, items)
    assert not torch.equal(expected["continuous_embeds.audio"], before["continuous_embeds.audio"])
    plain = trainer.model
    trainer.save_model(str(tmp_path / "saved"))
    plain.save_pretrained(tmp_path / "by-hand")
    folders = [tmp_path / "saved", tmp_path / "by-hand", tmp_path / "run/checkpoint-2"]
    for folder in folders:
        model = CodeBindModel.from_pretrained(base)
        load_adapter(model, folder)
        assert_same(expected, embeds_of(model, items))
    model = CodeBindModel.from_pretrained(base)
    model.load_adapter(str(tmp_path / "saved"))
    assert_same(expected, embeds_of(model, items))
    assert_same(expected, embeds_of(CodeBindModel.from_pretrained(tmp_path / "saved"), items))
    loaded = PeftModel.from_pretrained(CodeBindModel.from_pretrained(base), tmp_path / "saved")
    assert_same(expected, embeds_of(loaded, items))
    if way == "get_peft_model":
        # What PEFT writes by itself holds no codebook, which is why they stay.
        given.save_pretrained(tmp_path / "peft")
        loaded = PeftModel.from_pretrained(CodeBindModel.from_pretrained(base), tmp_path / "peft")
        assert_same(expected, embeds_of(loaded, items))
    resumed = trainer_of(with_adapter(base, way), items, **fields)
    resumed.train(resume_from_checkpoint=str(tmp_path / "run/checkpoint-1"))
    assert_same(expected, embeds_of(resumed.model, items))
    merged = given.merge_and_unload() if way == "get_peft_model" else merge_lora(plain)
    assert not has_lora(merged)
    found = embeds_of(merged, items)
    torch.testing.assert_close(
        *({name: value for name, value in each.items() if name.startswith("cont")} for each in (found, expected)),
        rtol=1e-4,
        atol=1e-5,
    )
    merged.save_pretrained(tmp_path / "merged")
    assert_same(found, embeds_of(CodeBindModel.from_pretrained(tmp_path / "merged"), items))


def test_modules_to_save_are_saved_once(
    tiny: SimpleNamespace, trainer_of: MakeTrainer, base: Path, tmp_path: Path
) -> None:
    items = tiny.items(4)
    model = CodeBindModel.from_pretrained(base)
    model.add_adapter(LoraConfig(target_modules=TARGETS, modules_to_save=["specific_head"]))
    before = embeds_of(model, items)
    trainer = trainer_of(model, items)
    trainer.train()
    expected = embeds_of(model, items)
    assert not torch.equal(expected["specific_embeds.audio"], before["specific_embeds.audio"])
    trainer.save_model(str(tmp_path / "saved"))
    for load in (load_adapter, lambda other, folder: other.load_adapter(str(folder))):
        other = CodeBindModel.from_pretrained(base)
        load(other, tmp_path / "saved")
        assert_same(expected, embeds_of(other, items))


def test_adapters_that_no_file_would_hold_are_refused_at_construction(
    tiny: SimpleNamespace, trainer_of: MakeTrainer, base: Path, tmp_path: Path
) -> None:
    def refused(model: Any, named: str) -> None:
        with pytest.raises(ValueError, match=named):
            trainer_of(model, tiny.items(2))

    model = with_adapter(base, "add_lora")
    train_only(model, ["audio"], "full")
    refused(model, r"model: encoders\.audio\.tower\.\S+ learns beside an adapter.*Fix: `train_only")
    model = CodeBindModel.from_pretrained(base)
    model.add_adapter(LoraConfig(target_modules=TARGETS), "mine")
    refused(model, "model: got the adapters 'mine' of type LORA; allowed: one of type LORA, named 'default'")
    model = CodeBindModel.from_pretrained(base)
    refused(get_peft_model(model, IA3Config(target_modules=TARGETS, feedforward_modules=["fc1"])), "type IA3")
    refused(
        get_peft_model(tiny.model(), LoraConfig(target_modules=TARGETS)), "shared was never started, .*add_adapter"
    )
    given = with_adapter(base, "get_peft_model")
    given.merge_adapter()
    refused(given, "model: its adapter is merged and still there. Fix: `unmerge_adapter")
    with pytest.raises(ValueError, match=r"Fix: `model\.push_to_hub\(name\)`"):
        with_adapter(base, "add_lora").save_pretrained(tmp_path / "pushed", push_to_hub=True)


@pytest.mark.parametrize("way", WAYS_IN)
def test_no_road_loads_an_adapter_onto_another_base(
    tiny: SimpleNamespace, base: Path, tmp_path: Path, way: str
) -> None:
    model = with_adapter(base, way)
    (model.get_base_model() if way == "get_peft_model" else model).save_pretrained(tmp_path)
    other = CodeBindModel.from_pretrained(base)
    with torch.no_grad():
        other.encoders["audio"].tower.layers[0].mlp.fc1.weight += 0.01
    named = (
        r"trained on other weights.* of the tower of audio \(SHA-256 audio \w{12}, here \w{12}\)\. Fix: load it onto"
    )
    for load in (load_adapter, lambda model, folder: model.load_adapter(str(folder))):
        with pytest.raises(ValueError, match=named):
            load(other, tmp_path)
        assert not has_lora(other)


# Default arguments


def test_plain_arguments_and_no_collator_train_and_evaluate_as_ours_do(
    tiny: SimpleNamespace, tmp_path: Path, trainer_of: MakeTrainer
) -> None:
    fields: dict[str, Any] = {"max_steps": 2, "per_device_train_batch_size": 4, "learning_rate": 3e-3, "seed": 5}
    fields |= {"lr_scheduler_type": "constant", "use_cpu": True, "disable_tqdm": True, "save_strategy": "no"}
    args = TrainingArguments(str(tmp_path / "plain"), eval_strategy="steps", eval_steps=1, **fields)
    assert args.remove_unused_columns
    # Evaluation takes random numbers, which dropout would then get others of.
    model, items = tiny.model(dropout=0.0), tiny.items(6)
    trainer = CodeBindTrainer(model=model, args=args, train_dataset=items, eval_dataset=items)
    trainer.train()
    assert type(args) is TrainingArguments
    assert args.remove_unused_columns
    assert isinstance(trainer.args, CodeBindTrainingArguments)
    assert [entry["step"] for entry in trainer.state.log_history if "eval_loss" in entry] == [1, 2]
    other = tiny.model(dropout=0.0)
    trainer_of(other, items, max_steps=2).train()
    assert_same(dict(other.state_dict()), dict(model.state_dict()))


def test_arguments_that_say_to_remove_columns_remove_none(tiny: SimpleNamespace, trainer_of: MakeTrainer) -> None:
    trainer = trainer_of(tiny.model(), tiny.items(2), remove_unused_columns=True)
    assert trainer.evaluate(tiny.items(2))["eval_loss"] > 0


def test_without_a_collator_the_processor_prepares_rows(tiny: SimpleNamespace, tmp_path: Path) -> None:
    processor = SimpleNamespace(save_pretrained=lambda folder: None)
    given = {"model": tiny.model(), "args": TrainingArguments(str(tmp_path), use_cpu=True)}
    by_name = CodeBindTrainer(**given, train_dataset=tiny.items(2), processing_class=processor)
    by_place = CodeBindTrainer(given["model"], given["args"], None, tiny.items(2), None, processor)
    for trainer in (by_name, by_place):
        assert isinstance(trainer.data_collator, CodeBindCollator)
        assert trainer.data_collator.processor is processor


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_arguments_of_loaders_are_taken(tiny: SimpleNamespace, trainer_of: MakeTrainer, workers: int) -> None:
    # One epoch: at the start of a second, torch draws a seed for new workers, and none for those that stayed.
    plain = tiny.model()
    trainer_of(plain, tiny.items(4), num_train_epochs=1, max_steps=-1, dataloader_num_workers=workers).train()
    fields = {"dataloader_persistent_workers": True, "dataloader_prefetch_factor": 3, "dataloader_num_workers": 2}
    model = tiny.model()
    trainer = trainer_of(model, tiny.items(4), num_train_epochs=1, max_steps=-1, **fields)
    loader = trainer.get_train_dataloader()
    assert loader.persistent_workers
    assert loader.prefetch_factor == 3
    if workers:
        trainer.train()
        assert_same(dict(plain.state_dict()), dict(model.state_dict()))


# Rows


def alone(row: dict[str, Any], *modalities: str) -> dict[str, Any]:
    """A row with only these modalities."""
    names = {"text": ("input_ids", "attention_mask"), "image": ("pixel_values",), "depth": ("depth_values",)}
    kept = {name for modality in modalities for name in names[modality]}
    return {**row, "tensors": {name: value for name, value in row["tensors"].items() if name in kept}}


def test_rows_that_teach_nothing_are_named_and_left_out(
    tiny: SimpleNamespace, trainer_of: MakeTrainer, caplog: pytest.LogCaptureFixture
) -> None:
    model = tiny.model()
    train_only(model, ["depth"])
    depth = [row for row in tiny.items(4) if "depth_values" in row["tensors"]]
    useless = [alone(depth[0], "image"), alone(depth[1], "text", "image"), alone(depth[2], "depth")]
    with caplog.at_level(logging.WARNING, logger="codebind_hf"):
        trainer = trainer_of(model, [*depth, *useless], max_steps=8, per_device_train_batch_size=1)
    (said,) = [record.getMessage() for record in caplog.records if record.name == "codebind_hf.training.stages"]
    assert said == (
        "train_dataset: 3 of 7 rows are left out, row 4 (image), row 5 (text + image), row 6 (depth): they have no "
        "two modalities to align of which one learns (depth)."
    )
    trainer.train()
    assert sorted(place for batch in trainer._batches().batch_sampler for place in batch) == [0, 1, 2, 3]
    with pytest.raises(ValueError, match=r"train_dataset: row 0 \(image\), row 1 .* and no other row is there. Fix: "):
        trainer_of(model, useless)


def test_all_rows_teach_a_model_that_learns_whole(
    tiny: SimpleNamespace, trainer_of: MakeTrainer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="codebind_hf"):
        trainer = trainer_of(tiny.model(), tiny.items(3))
    assert not [record for record in caplog.records if record.name == "codebind_hf.training.stages"]
    assert sum(map(len, trainer._batches().batch_sampler)) == 9


def test_a_stream_leaves_out_rows_that_teach_nothing(tiny: SimpleNamespace, trainer_of: MakeTrainer) -> None:
    rows = [{"id": "no", "text": "a", "image": 1, "depth": None}, {"id": "one", "text": None, "image": 1, "depth": 1}]
    rows += [{"id": "alone", "text": None, "image": None, "depth": 1}]
    model = tiny.model()
    train_only(model, ["depth"])
    fields = {"dataloader_prefetch_factor": 3, "dataloader_num_workers": 1}
    trainer = trainer_of(model, StreamedDataset(Dataset.from_list(rows).to_iterable_dataset()), **fields)
    stream = trainer.train_dataset.part(0, counts_only=True)
    assert [passed.modalities for passed in stream] == [("image", "depth")]
    assert stream_loader(trainer).dataset.prefetch_factor == 3
    with pytest.raises(ValueError, match="dataloader_persistent_workers: a stream starts its readers anew"):
        trainer_of(model, stream, dataloader_persistent_workers=True, **fields)


@pytest.mark.parametrize("batch_size", [1, 4, 7])
def test_predictions_are_of_every_modality_in_the_order_of_the_rows(
    tiny: SimpleNamespace, trainer_of: MakeTrainer, batch_size: int
) -> None:
    model, items = started(tiny.model()), tiny.items(3)
    rows = [*items, alone(items[7], "image"), alone(items[8], "depth")]
    shuffled = [rows[place] for place in np.random.default_rng(3).permutation(len(rows))]
    seen: list[Any] = []

    def compute_metrics(found: Any) -> dict[str, float]:
        seen.append(found.predictions)
        return {"images": float(np.isfinite(found.predictions["embeds"]["image"]).all(1).sum())}

    trainer = trainer_of(model, items, per_device_eval_batch_size=batch_size)
    trainer.compute_metrics = compute_metrics
    metrics = trainer.evaluate(shuffled)
    assert metrics["eval_images"] == 10
    assert metrics["eval_loss"] > 0
    found = trainer.predict(shuffled).predictions
    assert set(found) == {"embeds", "continuous_embeds", "specific_embeds", "continuous_specific_embeds"}
    assert set(found["embeds"]) == {"text", "image", "audio", "depth"}
    # Of text there is no specific part.
    assert set(found["specific_embeds"]) == {"image", "audio", "depth"}
    for place, row in enumerate(shuffled):
        with torch.no_grad():
            expected = model(**batch_for([row]))
        for key, by_modality in found.items():
            for name, values in by_modality.items():
                assert len(values) == len(shuffled)
                if name in (expected[key] or {}):
                    np.testing.assert_allclose(values[place], expected[key][name][0], rtol=1e-4, atol=1e-5)
                else:
                    assert np.isnan(values[place]).all()
    for key, by_modality in seen[0].items():
        for name, values in by_modality.items():
            np.testing.assert_array_equal(values, found[key][name])


def test_evaluation_averages_batches_that_can_be_aligned(tiny: SimpleNamespace, trainer_of: MakeTrainer) -> None:
    model, items = started(tiny.model()), tiny.items(2, (("text", "image"),))
    rows = [*items, *(alone(row, "image") for row in items)]
    trainer = trainer_of(model, items, per_device_eval_batch_size=2)
    with torch.no_grad():
        expected = model.eval()(**batch_for(items), return_loss=True).loss
    assert trainer.evaluate(rows)["eval_loss"] == pytest.approx(float(expected), rel=1e-5)
    assert "eval_loss" not in trainer.evaluate(rows[2:])
    kept = trainer.predict(rows, ignore_keys=["embeds", "specific_embeds", "continuous_specific_embeds"])
    assert set(kept.predictions) == {"continuous_embeds"}
