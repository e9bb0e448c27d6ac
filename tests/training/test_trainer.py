"""What the trainer logs, what it lets learn, what it keeps still, and that it resumes exactly."""

import json
import math
import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate.data_loader import BatchSamplerShard, SkipBatchSampler
from torch import Tensor

from codebind_hf.data import CodeBindCollator
from codebind_hf.model.modalities import MODALITIES
from codebind_hf.training import CodeBindTrainer, CodeBindTrainingArguments, LossBalancer, ModalityView, train_only
from codebind_hf.training.adapters import add_lora, load_adapter
from codebind_hf.training.augmentation import augmented


TERMS = {"align", "seg", "recon", "orth", "uni", "commit", "cm"}
MakeTrainer = Callable[..., CodeBindTrainer]


def state_of(module: torch.nn.Module) -> dict[str, Tensor]:
    """Copies of all parameters and buffers."""
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def differing(before: dict[str, Tensor], after: dict[str, Tensor]) -> list[str]:
    assert before.keys() == after.keys()
    return [name for name in before if not torch.equal(before[name], after[name])]


def steps_of(trainer: CodeBindTrainer) -> list[dict[str, Any]]:
    return [entry for entry in trainer.state.log_history if "loss" in entry]


def batch_of(items: list[dict[str, Any]], *modalities: str) -> dict[str, Any]:
    names = {modality: MODALITIES[modality] for modality in modalities}
    batch = CodeBindCollator()(list(ModalityView(items, modalities, names)))
    return {name: value for name, value in batch.items() if name not in ("rows", "return_loss")}


# What is logged


def test_every_step_logs_terms_weights_scale_and_codebook_health(
    tiny: SimpleNamespace, trainer_of: MakeTrainer
) -> None:
    model = tiny.model()
    trainer = trainer_of(model, tiny.items())
    trainer.train()
    assert len(steps_of(trainer)) == 3
    for entry in steps_of(trainer):
        for term in TERMS:
            assert isinstance(entry[f"loss/{term}"], float)
            assert entry[f"weight/{term}"] == model.config.loss_weight(term)
        assert entry["logit_scale"] == pytest.approx(model.logit_scale().item(), rel=0.05)
        for book, codes in (("shared", 12), ("vision", 8), ("audio", 8), ("depth", 8)):
            assert 0 <= entry[f"codebook/{book}/usage"] <= 1
            assert 1 <= entry[f"codebook/{book}/perplexity"] <= codes
    json.dumps(trainer.state.log_history)


def test_the_logged_loss_is_the_weighted_sum_of_the_logged_terms(
    tiny: SimpleNamespace, trainer_of: MakeTrainer
) -> None:
    trainer = trainer_of(tiny.model(), tiny.items())
    trainer.train()
    for entry in steps_of(trainer):
        expected = sum(
            entry[f"weight/{name.removeprefix('loss/')}"] * value
            for name, value in entry.items()
            if name.startswith("loss/")
        )
        assert entry["loss"] == pytest.approx(expected, rel=1e-4)


def test_terms_are_means_over_the_steps_since_the_last_log(tiny: SimpleNamespace, trainer_of: MakeTrainer) -> None:
    logged = []
    for steps in (1, 2):
        trainer = trainer_of(tiny.model(), tiny.items(), max_steps=4, logging_steps=steps)
        trainer.train()
        logged.append(steps_of(trainer))
    single, double = logged
    assert len(double) == 2
    for number, entry in enumerate(double):
        both = [single[2 * number]["loss/align"], single[2 * number + 1]["loss/align"]]
        assert entry["loss/align"] == pytest.approx(sum(both) / 2, rel=1e-5)


def test_adaptive_weights_are_logged_used_and_differ_from_fixed_ones(
    tiny: SimpleNamespace, trainer_of: MakeTrainer
) -> None:
    balancer = LossBalancer(min_interval=1, max_interval=1)
    trainer = trainer_of(tiny.model(), tiny.items(), balancer, balance="adaptive")
    trainer.train()
    assert balancer.num_batches == 3
    entry = steps_of(trainer)[-1]
    assert entry["weight/align"] == entry["weight/recon"] == 1.0
    assert entry["weight/orth"] == balancer.weights["orth"] != trainer.model.config.loss_weight("orth")
    terms = {name.removeprefix("loss/"): value for name, value in entry.items() if name.startswith("loss/")}
    assert entry["loss"] == pytest.approx(sum(entry[f"weight/{k}"] * v for k, v in terms.items()), rel=1e-4)


@pytest.mark.parametrize("balance", ["fixed", "adaptive"])
def test_a_term_that_begins_has_a_weight_that_grows_from_nothing(
    tiny: SimpleNamespace, trainer_of: MakeTrainer, balance: str
) -> None:
    spans = {"orth": [0.25, 0.75], "uni": [0.0, 0.0]}
    options = {"max_steps": 4, "balance": balance, "loss_warmup": spans}
    trainer = trainer_of(tiny.model(), tiny.items(), LossBalancer(min_interval=9, max_interval=9), **options)
    trainer.train()
    config, weights = trainer.model.config, trainer.balancer.weights
    whole = {name: weights[name] if balance == "adaptive" else config.loss_weight(name) for name in TERMS}
    entries = steps_of(trainer)
    # Before the four steps 0, 25, 50 and 75 % of the way are done.
    assert [entry["weight/orth"] / whole["orth"] for entry in entries] == pytest.approx([0, 0, 0.5, 1])
    assert [entry["weight/uni"] for entry in entries] == pytest.approx([whole["uni"]] * 4)
    for entry in entries:
        used = {name: entry[f"weight/{name}"] for name in TERMS}
        expected = sum(used[name] * entry[f"loss/{name}"] for name in TERMS)
        assert entry["loss"] == pytest.approx(expected, abs=2e-3)


def test_a_resumed_run_goes_on_where_a_term_has_grown_to(
    tiny: SimpleNamespace, trainer_of: MakeTrainer, tmp_path: Path
) -> None:
    options = {"loss_warmup": {"orth": [0.0, 1.0]}, "max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    whole = trainer_of(tiny.model(), tiny.items(), output_dir=str(tmp_path / "run"), **options)
    whole.train()
    resumed = trainer_of(tiny.model(), tiny.items(), output_dir=str(tmp_path / "run"), **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-2"))
    assert differing(state_of(whole.model), state_of(resumed.model)) == []


def test_the_interval_of_the_default_balancer_grows_over_this_run(
    tiny: SimpleNamespace, trainer_of: MakeTrainer
) -> None:
    trainer = trainer_of(tiny.model(), tiny.items(), max_steps=500, gradient_accumulation_steps=2)
    assert trainer.balancer.max_steps == 1000


@pytest.mark.parametrize("processes", [1, 2])
def test_the_default_balancer_counts_the_batches_of_one_process(
    tiny: SimpleNamespace, trainer_of: MakeTrainer, monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    items = tiny.items(per_group=8)
    trainer = trainer_of(tiny.model(), items, max_steps=-1, num_train_epochs=6)
    monkeypatch.setattr(CodeBindTrainingArguments, "world_size", property(lambda _: processes))
    assert trainer._num_batches() == 6 * len(items) // (4 * processes)


def test_evaluation_leaves_balancer_codebooks_and_log_alone(tiny: SimpleNamespace, trainer_of: MakeTrainer) -> None:
    model = tiny.model()
    trainer = trainer_of(model, tiny.items(), balance="adaptive", per_device_eval_batch_size=4)
    trainer.train()
    before, weights = state_of(model), trainer.balancer.state_dict()
    metrics = trainer.evaluate(ModalityView(tiny.items(), ["text", "image"], model.config.modalities))
    assert math.isfinite(metrics["eval_loss"])
    assert differing(before, state_of(model)) == []
    assert trainer.balancer.state_dict() == weights
    assert not trainer._sums


# Optimizer


def test_new_modules_have_their_own_rate_and_tables_do_not_decay(
    tiny: SimpleNamespace, trainer_of: MakeTrainer
) -> None:
    model = tiny.model()
    trainer = trainer_of(
        model, tiny.items(), learning_rate=1e-3, new_module_learning_rate=5e-3, weight_decay=0.1, warmup_steps=0
    )
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {}
    for group in trainer.create_optimizer().param_groups:
        for parameter in group["params"]:
            found[names[id(parameter)]] = (group["lr"], group["weight_decay"])
    assert found.keys() == set(names.values())
    assert found["encoders.vision.shared_head.projection.weight"] == (1e-3, 0.1)
    assert found["encoders.vision.specific_head.projection.weight"] == (5e-3, 0.1)
    assert found["decoders.audio.embed.weight"] == (5e-3, 0.1)
    assert found["encoders.vision.tower.position"] == (1e-3, 0.0)
    assert found["encoders.text.tower.position"] == (1e-3, 0.0)
    assert found["encoders.vision.tower.cls_token"] == (1e-3, 0.0)
    assert found["decoders.audio.position"] == (5e-3, 0.0)
    assert found["logit_scale.log_scale"] == (1e-3, 0.0)
    assert all(rate[1] == 0.0 for name, rate in found.items() if name.endswith(".bias"))


def test_without_a_rate_of_their_own_new_modules_take_the_usual_one(
    tiny: SimpleNamespace, trainer_of: MakeTrainer
) -> None:
    trainer = trainer_of(tiny.model(), tiny.items(), learning_rate=1e-3)
    assert {group["lr"] for group in trainer.create_optimizer().param_groups} == {1e-3}


def test_an_adapter_learns_at_the_rate_of_pretrained_parts(tiny: SimpleNamespace, trainer_of: MakeTrainer) -> None:
    model = tiny.model()
    add_lora(model, ["audio"])
    train_only(model, ["audio"], mode="lora", bridges=["text", "image"])
    trainer = trainer_of(model, tiny.items(), learning_rate=1e-3, new_module_learning_rate=5e-3, weight_decay=0.1)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = trainer.create_optimizer().param_groups
    found = {names[id(value)]: (group["lr"], group["weight_decay"]) for group in groups for value in group["params"]}
    assert found.keys() == {name for name, value in model.named_parameters() if value.requires_grad}
    slow = {name for name, (rate, _) in found.items() if rate == 1e-3}
    assert {rate for rate, _ in found.values()} == {1e-3, 5e-3}
    assert slow == {
        name
        for name in found
        if any(part in name for part in (".lora_", ".cls_token", ".shared_head.", "logit_scale."))
    }
    assert {found[name] for name in found if ".lora_" in name} == {(1e-3, 0.1)}
    assert found["encoders.vision.tower.cls_token"] == (1e-3, 0.0)


def test_only_what_learns_is_in_the_optimizer(tiny: SimpleNamespace, trainer_of: MakeTrainer) -> None:
    model = tiny.model()
    train_only(model, ["audio"])
    optimizer = trainer_of(model, tiny.items()).create_optimizer()
    count = sum(parameter.numel() for group in optimizer.param_groups for parameter in group["params"])
    assert count == sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


# Codebooks


def test_codebooks_start_by_k_means(
    tiny: SimpleNamespace, trainer_of: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny.model()
    before, seen = state_of(model.codebooks), {}
    monkeypatch.setattr("transformers.Trainer.train", lambda *args, **kwargs: seen.update(state_of(model.codebooks)))
    trainer_of(model, tiny.items()).train()
    changed = differing(before, seen)
    assert {"shared.codes", "specific.vision.codes", "specific.audio.codes", "specific.depth.codes"} <= set(changed)
    assert not any(name.endswith("num_updates") for name in changed)


@pytest.mark.parametrize(
    ("fields", "resume"),
    [
        pytest.param({"init_codebooks": False}, None, id="not-asked"),
        pytest.param({}, "somewhere", id="resuming"),
    ],
)
def test_codebooks_do_not_start_again(
    tiny: SimpleNamespace,
    trainer_of: MakeTrainer,
    monkeypatch: pytest.MonkeyPatch,
    fields: dict[str, Any],
    resume: str | None,
) -> None:
    model = tiny.model()
    before, seen = state_of(model.codebooks), {}
    monkeypatch.setattr("transformers.Trainer.train", lambda *args, **kwargs: seen.update(state_of(model.codebooks)))
    trainer_of(model, tiny.items(), **fields).train(resume_from_checkpoint=resume)
    assert differing(before, seen) == []


def test_codebooks_that_have_learned_are_not_thrown_away_by_a_second_training(
    tiny: SimpleNamespace, trainer_of: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny.model()
    trainer_of(model, tiny.items()).train()
    before, seen = state_of(model.codebooks), {}
    monkeypatch.setattr("transformers.Trainer.train", lambda *args, **kwargs: seen.update(state_of(model.codebooks)))
    trainer_of(model, tiny.items()).train()
    assert differing(before, seen) == []


def test_frozen_codebooks_do_not_start(
    tiny: SimpleNamespace, trainer_of: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny.model()
    train_only(model, ["audio"])
    before, seen = state_of(model.codebooks), {}
    monkeypatch.setattr("transformers.Trainer.train", lambda *args, **kwargs: seen.update(state_of(model.codebooks)))
    trainer_of(model, tiny.items(), freeze_shared_codes=True).train()
    assert {name.rpartition(".")[0] for name in differing(before, seen)} == {"specific.audio"}


def test_a_run_without_codebooks_trains(tiny: SimpleNamespace, trainer_of: MakeTrainer) -> None:
    weights = {"recon": 0.3, "orth": 0.1, "uni": 0.2}
    model = tiny.model(num_shared_codes=0, num_specific_codes=0, loss_weights=weights)
    trainer = trainer_of(model, tiny.items(), max_steps=1)
    trainer.train()
    assert not any(name.startswith("codebook/") for name in steps_of(trainer)[0])


# Input noise and second views


def inputs_that_encoders_saw(
    monkeypatch: pytest.MonkeyPatch, model: Any, run: Callable[[], Any]
) -> dict[str, list[Tensor]]:
    """The tensors of every forward pass with a loss, by name."""
    seen: dict[str, list[Tensor]] = {}
    original = type(model).forward

    def forward(self: Any, *args: Any, **inputs: Any) -> Any:
        if inputs.get("return_loss"):
            for name, value in inputs.items():
                if isinstance(value, Tensor):
                    seen.setdefault(name, []).append(value.clone())
            for name, value in inputs.get("views", {}).items():
                seen.setdefault(f"view of {name}", []).append(value.clone())
        return original(self, *args, **inputs)

    monkeypatch.setattr(type(model), "forward", forward)
    run()
    return seen


def is_among(sample: Tensor, items: list[dict[str, Any]], name: str) -> bool:
    return any(name in item["tensors"] and torch.equal(sample, item["tensors"][name]) for item in items)


def test_noise_is_on_the_inputs_of_trained_encoders_only(
    tiny: SimpleNamespace, trainer_of: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, items = tiny.model(), tiny.items(groups=(("text", "image", "audio"),))
    train_only(model, ["audio"])
    kept = items[0]["tensors"]["input_features"].clone()
    trainer = trainer_of(model, items, input_noise=0.1)
    seen = inputs_that_encoders_saw(monkeypatch, model, trainer.train)
    assert all(is_among(sample, items, "pixel_values") for batch in seen["pixel_values"] for sample in batch)
    assert not any(is_among(sample, items, "input_features") for batch in seen["input_features"] for sample in batch)
    assert torch.equal(items[0]["tensors"]["input_features"], kept)


def test_noise_is_relative_to_the_deviation_of_a_sample(tiny: SimpleNamespace, trainer_of: MakeTrainer) -> None:
    trainer = trainer_of(tiny.model(), tiny.items(), input_noise=0.25)
    values = torch.randn(64, 1, 8, 8) * torch.logspace(-2, 2, 64).view(-1, 1, 1, 1) + 3
    noisy = augmented(trainer.model, {"depth_values": values, "input_ids": torch.zeros(2, 3).long()}, trainer.args)
    added = (noisy["depth_values"] - values).flatten(1).std(1) / values.flatten(1).std(1)
    torch.testing.assert_close(added, torch.full((64,), 0.25), rtol=0.4, atol=0)
    assert float(added.mean()) == pytest.approx(0.25, rel=0.05)
    assert noisy["input_ids"].dtype == torch.int64
    assert not noisy["input_ids"].any()


@pytest.mark.parametrize("readout", ["cls", "network"])
def test_what_learns_a_specific_part_has_second_views_with_their_own_noise(
    tiny: SimpleNamespace, trainer_of: MakeTrainer, monkeypatch: pytest.MonkeyPatch, readout: str
) -> None:
    model = tiny.model(specific_readout=readout, loss_weights={"views": 1.0})
    items = tiny.items(groups=(("text", "image", "audio"),))
    train_only(model, ["audio"], bridges=["image", "text"], bridge_mode="shared_heads")
    trainer = trainer_of(model, items, view_noise=0.5)
    seen = inputs_that_encoders_saw(monkeypatch, model, trainer.train)
    # Of the bridge, only shared heads learn.
    assert [name for name in seen if name.startswith("view")] == ["view of input_features"]
    for values, views in zip(seen["input_features"], seen["view of input_features"], strict=True):
        assert all(is_among(sample, items, "input_features") for sample in values)
        added = (views - values).flatten(1).std(1) / values.flatten(1).std(1)
        assert float(added.mean()) == pytest.approx(0.5, rel=0.1)
    logged = [entry["loss/views"] for entry in trainer.state.log_history if "loss/views" in entry]
    assert len(logged) == 3
    assert all(value > 0 for value in logged)


def test_without_a_weight_there_is_no_second_view(
    tiny: SimpleNamespace, trainer_of: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny.model()
    seen = inputs_that_encoders_saw(monkeypatch, model, trainer_of(model, tiny.items(), view_noise=0.5).train)
    assert not any(name.startswith("view") for name in seen)


def test_evaluation_has_no_noise(
    tiny: SimpleNamespace, trainer_of: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, items = tiny.model(), tiny.items(groups=(("text", "image"),))
    model.config.loss_weights = {**model.config.loss_weights, "views": 1.0}
    trainer = trainer_of(model, items, input_noise=0.1)
    seen = inputs_that_encoders_saw(monkeypatch, model, lambda: trainer.evaluate(items))
    assert not any(name.startswith("view") for name in seen)
    assert all(is_among(sample, items, "pixel_values") for batch in seen["pixel_values"] for sample in batch)


# What stays still


def test_binding_moves_nothing_but_the_bound_modality(tiny: SimpleNamespace, trainer_of: MakeTrainer) -> None:
    model, items = tiny.model(), tiny.items()
    modalities = model.config.modalities
    trainer_of(model, ModalityView(items, ["text", "image"], modalities), max_steps=2).train()
    train_only(model, ["audio"])
    model.eval()
    with torch.no_grad():
        embeds = model(**batch_of(items, "text", "image", "depth"))
    before = state_of(model)
    view = ModalityView(items, ["text", "image", "audio"], modalities, required=["audio"])
    trainer_of(model, view, freeze_shared_codes=True, weight_decay=0.1, input_noise=0.1).train()
    changed = differing(before, state_of(model))
    allowed = ("encoders.audio.", "decoders.audio.", "codebooks.specific.audio.", "logit_scale.")
    assert changed
    assert [name for name in changed if not name.startswith(allowed)] == []
    model.eval()
    with torch.no_grad():
        again = model(**batch_of(items, "text", "image", "depth"))
    for name in ("text", "image", "depth"):
        assert torch.equal(embeds.embeds[name], again.embeds[name])
        assert torch.equal(embeds.continuous_embeds[name], again.continuous_embeds[name])
        assert torch.equal(embeds.codes[name].shared, again.codes[name].shared)


def test_shared_codes_move_unless_they_are_frozen(tiny: SimpleNamespace, trainer_of: MakeTrainer) -> None:
    moved = {}
    for frozen in (False, True):
        model = tiny.model()
        trainer = trainer_of(model, tiny.items(), freeze_shared_codes=frozen, init_codebooks=False)
        before = model.codebooks.shared.codes.clone()
        trainer.train()
        moved[frozen] = not torch.equal(before, model.codebooks.shared.codes)
    assert moved == {False: True, True: False}


# Learning


def test_the_loss_falls(tiny: SimpleNamespace, trainer_of: MakeTrainer) -> None:
    trainer = trainer_of(
        tiny.model(), tiny.items(per_group=16), max_steps=40, per_device_train_batch_size=8, learning_rate=1e-2
    )
    trainer.train()
    losses = [entry["loss"] for entry in steps_of(trainer)]
    aligned = [entry["loss/align"] for entry in steps_of(trainer)]
    assert sum(losses[-6:]) < 0.85 * sum(losses[:6])
    assert sum(aligned[-6:]) < 0.85 * sum(aligned[:6])


def test_batches_hold_one_set_of_modalities_and_epochs_differ(
    tiny: SimpleNamespace, trainer_of: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, items = tiny.model(), tiny.items()
    trainer = trainer_of(model, items, max_steps=12, init_codebooks=False)
    order: list[tuple[str, ...]] = []
    original = trainer.data_collator

    def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
        order.append(tuple(row["id"] for row in rows))
        return original(rows)

    trainer.data_collator = collate
    trainer.train()
    first, second = order[:6], order[6:12]
    everything = sorted(item["id"] for item in items)
    assert sorted(name for batch in first for name in batch) == everything
    assert sorted(name for batch in second for name in batch) == everything
    assert first != second
    assert all(len({name.partition("-")[0] for name in batch}) == 1 for batch in order)


def test_two_processes_see_every_row_in_equally_many_batches(tiny: SimpleNamespace, trainer_of: MakeTrainer) -> None:
    # Three sets of 9 rows in batches of 4, 4 and 1: a sharder that wants full batches would drop rounds.
    items = tiny.items(per_group=9)
    batches = trainer_of(tiny.model(), items)._batches().batch_sampler
    shares = [list(BatchSamplerShard(batches, 2, rank)) for rank in range(2)]
    assert len(shares[0]) == len(shares[1]) == 5
    assert {row for share in shares for batch in share for row in batch} == set(range(len(items)))


def test_a_resumed_run_on_several_processes_shuffles_for_its_epoch(
    tiny: SimpleNamespace, trainer_of: MakeTrainer
) -> None:
    trainer = trainer_of(tiny.model(), tiny.items())
    batches = trainer._batches().batch_sampler
    wrapped = SimpleNamespace(batch_sampler=SkipBatchSampler(BatchSamplerShard(batches, 2, 0), 1))
    state = SimpleNamespace(epoch=2.4)
    for callback in trainer.callback_handler.callbacks:
        if type(callback).__module__.startswith("codebind_hf"):
            callback.on_epoch_begin(trainer.args, state, None, train_dataloader=wrapped)
    assert batches.batches.epoch == 2


def test_two_runs_with_one_seed_are_equal_bit_for_bit(tiny: SimpleNamespace, trainer_of: MakeTrainer) -> None:
    models = [tiny.model() for _ in range(2)]
    for model in models:
        trainer_of(model, tiny.items(), input_noise=0.1).train()
    assert differing(state_of(models[0]), state_of(models[1])) == []


def test_accumulated_gradients_are_means_of_the_batches(tiny: SimpleNamespace, trainer_of: MakeTrainer) -> None:
    items = tiny.items(per_group=4, groups=(("text", "image"),))
    logged = {}
    for accumulation in (1, 2):
        # The same batch once or twice, nothing random, codes that stay: the mean is that of one batch.
        model = tiny.model(dropout=0.0)
        train_only(model, ["text", "image"])
        model.codebooks.specific["vision"].frozen = True
        fields = {"freeze_shared_codes": True, "init_codebooks": False}
        trainer = trainer_of(
            model, items * accumulation, max_steps=1, gradient_accumulation_steps=accumulation, **fields
        )
        trainer.data_collator = lambda rows: CodeBindCollator()(items)
        trainer.train()
        logged[accumulation] = steps_of(trainer)[0]
    for name in ("loss", "grad_norm", "loss/align"):
        assert logged[2][name] == pytest.approx(logged[1][name], rel=1e-4)


# Resuming


def with_lora(model: Any) -> Any:
    """`model`, ready to bind audio by an adapter while the bridge's heads learn."""
    add_lora(model, ["audio"], rank=2)
    train_only(model, ["audio"], mode="lora", bridges=["text", "image"])
    return model


def with_views(model: Any) -> Any:
    """`model`, whose specific parts learn by second views as well."""
    model.config.loss_weights = {**model.config.loss_weights, "views": 0.5}
    return model


@pytest.mark.parametrize(
    ("stop", "prepared"),
    [
        # An epoch has 6 batches: stops inside the first epoch, at its end, and inside the second.
        pytest.param(3, lambda model: model, id="3"),
        pytest.param(6, lambda model: model, id="6"),
        pytest.param(8, lambda model: model, id="8"),
        pytest.param(3, with_lora, id="3-lora"),
        pytest.param(8, with_lora, id="8-lora"),
        pytest.param(8, with_views, id="8-views"),
    ],
)
def test_a_resumed_run_equals_one_that_never_stopped(
    tiny: SimpleNamespace, trainer_of: MakeTrainer, tmp_path: Path, stop: int, prepared: Callable[[Any], Any]
) -> None:
    fields = {
        "max_steps": 10,
        "balance": "adaptive",
        "input_noise": 0.1,
        "save_strategy": "steps",
        "save_steps": stop,
        "lr_scheduler_type": "cosine",
        "weight_decay": 0.05,
    }
    straight = trainer_of(
        prepared(tiny.model()),
        tiny.items(),
        LossBalancer(min_interval=2, max_interval=2),
        **fields,
        output_dir=str(tmp_path / "a"),
    )
    straight.train()
    checkpoint = tmp_path / "a" / f"checkpoint-{stop}"
    # The first model's adapter started from other random numbers than the second's.
    second = prepared(tiny.model())
    torch.manual_seed(99)
    resumed = trainer_of(
        second,
        tiny.items(),
        LossBalancer(min_interval=2, max_interval=2),
        **fields,
        output_dir=str(tmp_path / "b"),
    )
    resumed.train(resume_from_checkpoint=str(checkpoint))
    assert differing(state_of(straight.model), state_of(resumed.model)) == []
    assert resumed.balancer.state_dict() == straight.balancer.state_dict()
    states = [trainer.optimizer.state_dict()["state"] for trainer in (straight, resumed)]
    assert states[0].keys() == states[1].keys()
    for key, state in states[0].items():
        assert all(torch.equal(value, states[1][key][name]) for name, value in state.items())
    timed = ("train_runtime", "train_samples_per_second", "train_steps_per_second", "epoch")
    tails = [
        [{k: v for k, v in entry.items() if k not in timed} for entry in steps_of(trainer)[stop:]]
        for trainer in (straight, resumed)
    ]
    assert tails[0] == tails[1]


def test_a_trainer_checkpoint_of_an_adapter_is_small_and_loads_onto_the_base(
    tiny: SimpleNamespace, trainer_of: MakeTrainer, tmp_path: Path
) -> None:
    model = with_lora(tiny.model())
    before = state_of(model)
    items = tiny.items(groups=(("text", "image", "audio"),))
    trainer = trainer_of(model, items, save_strategy="steps", save_steps=3)
    trainer.train()
    checkpoint = tmp_path / "run" / "checkpoint-3"
    assert not (checkpoint / "model.safetensors").exists()
    loaded = tiny.model()
    load_adapter(loaded, checkpoint)
    assert differing(state_of(model), state_of(loaded)) == []
    moved = set(differing(before, state_of(model)))
    assert {"lora_A", "lora_B"} <= {part for name in moved for part in name.split(".")}
    kept = ("codebooks.", "decoders.", "logit_scale.")
    parts = (".lora_", ".cls_token", "_head.")
    assert [name for name in moved if not name.startswith(kept) and not any(part in name for part in parts)] == []
    assert not any(name.startswith(("encoders.depth.", "decoders.depth.")) for name in moved)
    trainer.state.best_model_checkpoint = str(checkpoint)
    after = state_of(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.0 if not parameter.requires_grad else 1.0)
    trainer._load_best_model()
    assert differing(after, state_of(model)) == []


def test_a_checkpoint_without_its_balancer_is_refused(
    tiny: SimpleNamespace, trainer_of: MakeTrainer, tmp_path: Path
) -> None:
    trainer_of(tiny.model(), tiny.items(), save_strategy="steps", save_steps=2).train()
    checkpoint = tmp_path / "run" / "checkpoint-2"
    saved = checkpoint / "loss_balancer.json"
    assert json.loads(saved.read_text())["num_batches"] == 0
    assert [path.name for path in checkpoint.glob("*.partial")] == []
    saved.unlink()
    with pytest.raises(OSError, match=r"loss_balancer.json: missing; this checkpoint is incomplete"):
        trainer_of(tiny.model(), tiny.items(), max_steps=4).train(resume_from_checkpoint=str(checkpoint))


def test_with_a_scaler_of_float16_nothing_is_kept_from_step_to_step(
    tiny: SimpleNamespace, trainer_of: MakeTrainer
) -> None:
    """It leaves out steps by itself, so nobody asks for what was watched."""
    trainer = trainer_of(tiny.model(), tiny.items())
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu", enabled=False)
    trainer.train()
    assert trainer._guard._watched == []


class Deadly(list):
    """Rows whose reader is killed, if it is a worker."""

    def __getitem__(self, index: Any) -> Any:
        if torch.utils.data.get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


@pytest.mark.parametrize("starts_codebooks", [True, False])
def test_a_killed_loader_worker_is_an_error_with_a_fix(
    tiny: SimpleNamespace, trainer_of: MakeTrainer, starts_codebooks: bool
) -> None:
    options = {"dataloader_num_workers": 1, "init_codebooks": starts_codebooks}
    with pytest.raises(
        OSError, match="^dataloader_num_workers: DataLoader worker .* Fix: fewer workers, and --resume"
    ):
        trainer_of(tiny.model(), Deadly(tiny.items()), **options).train()
