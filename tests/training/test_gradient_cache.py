"""Chunks give the loss, gradients and codebooks of the whole batch, in less memory, or are refused."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from codebind_hf.data import CodeBindCollator
from codebind_hf.training import CodeBindTrainer, CodeBindTrainingArguments, gradient_cache, train_only
from codebind_hf.training.gradient_cache import in_chunks


MakeTrainer = Callable[..., CodeBindTrainer]
TERMS = {"recon": 0.3, "seg": 0.5, "orth": 0.1, "uni": 0.2, "commit": 0.4, "cm": 0.05, "cctr": 0.1, "cuni": 0.2}
MIXED = (("text", "image"), ("text", "image", "audio"), ("image", "depth"), ("text", "audio", "depth"))


def batch_of(tiny: SimpleNamespace, per_group: int = 5, groups: Any = MIXED, video: bool = False) -> dict[str, Any]:
    """One batch of rows that lack different modalities; 5 rows of each kind, so that no chunk size divides all."""
    batch = CodeBindCollator()(tiny.items(per_group=per_group, groups=groups))
    if video:
        batch["pixel_values_videos"] = torch.randn(4, 3, 2, 3, 8, 8)
        batch["rows"]["video"] = torch.tensor([1, 7, 15, 17])
    return {**batch, "return_loss": True}


def step(model: Any, batch: dict[str, Any], size: int | None) -> dict[str, Tensor]:
    """Loss, terms, gradients, buffers and the state of the generator after one step, from one seed."""
    model.train()
    model.zero_grad()
    torch.manual_seed(11)
    with nullcontext() if size is None else in_chunks(model, size):
        output = model(**batch)
    output.loss.backward()
    gradients = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    terms = {f"term {name}": value.detach() for name, value in output.loss_terms.items()}
    random = torch.get_rng_state()
    return {"loss": output.loss.detach(), "random": random, **terms, **gradients, **dict(model.named_buffers())}


def assert_same(first: dict[str, Tensor], second: dict[str, Tensor], tolerance: float) -> float:
    """Equal names and values; the largest difference, relative where values are large."""
    assert first.keys() == second.keys()
    largest = 0.0
    for name, value in first.items():
        torch.testing.assert_close(
            second[name], value, rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )
        largest = max(largest, float((second[name].double() - value.double()).abs().max()))
    return largest


@contextmanager
def kept_activations() -> Iterator[SimpleNamespace]:
    """`count` is the number of values that autograd keeps for the way back."""
    seen: dict[int, int] = {}
    result = SimpleNamespace(count=0)

    def keep(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes() // x.element_size()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        yield result
    result.count = sum(seen.values())


# Equality with the whole batch


@pytest.mark.parametrize("size", [1, 3, 100])
@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({}, id="continuous"),
        pytest.param({"align_on": "codes", "quantize_specific": False}, id="codes"),
        pytest.param({"decoder_inputs": "codes+tokens"}, id="codes+tokens"),
        pytest.param({"loss_weights": {"align": 1.0, "commit": 1.0, "orth": 1.0}}, id="no-decoders"),
    ],
)
def test_chunks_equal_the_whole_batch_where_rows_lack_modalities(
    tiny: SimpleNamespace, size: int, fields: dict[str, Any]
) -> None:
    fields = {"loss_weights": TERMS, "codebook_spread_rate": 0.1, **fields}
    batch = batch_of(tiny, video=True)
    whole, chunked = (step(tiny.model(dropout=0.0, **fields), batch, chunk) for chunk in (None, size))
    assert {f"term {name}" for name in fields["loss_weights"]} <= chunked.keys()
    assert assert_same(whole, chunked, 1e-5) < 1e-5


@pytest.mark.parametrize("readout", ["cls", "network"])
def test_chunks_equal_the_whole_batch_where_inputs_have_second_views(tiny: SimpleNamespace, readout: str) -> None:
    batch = batch_of(tiny, video=True)
    names = ("pixel_values", "pixel_values_videos", "depth_values")
    batch["views"] = {name: batch[name] + torch.randn_like(batch[name]) for name in names}
    fields = {"specific_readout": readout, "loss_weights": {**TERMS, "views": 1.0}}
    whole, chunked = (step(tiny.model(dropout=0.0, **fields), batch, chunk) for chunk in (None, 3))
    assert whole["term views"] > 0
    assert assert_same(whole, chunked, 1e-5) < 1e-5


@pytest.mark.parametrize("trained", [["audio"], ["text", "image"]])
def test_chunks_equal_the_whole_batch_where_encoders_are_frozen(tiny: SimpleNamespace, trained: list[str]) -> None:
    results = []
    for size in (None, 3):
        model = tiny.model(dropout=0.0, loss_weights=TERMS)
        train_only(model, trained)
        results.append(step(model, batch_of(tiny), size))
    assert assert_same(*results, 1e-5) < 1e-5


def audio(tower: dict[str, Any]) -> dict[str, Any]:
    """Fields of an audio encoder for the batches of these tests."""
    return {**tower, "num_channels": 1, "input_size": [8, 12], "patch_size": [4, 4]}


def random_model(tiny: SimpleNamespace) -> Any:
    """A model with everything that draws random numbers while it trains."""
    tower = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    noisy = {**audio(tower), "drop_path_rate": 0.4, "attention_dropout": 0.2}
    decoder = {**tower, "hide_patches": 0.5, "dropout": 0.2}
    return tiny.model(dropout=0.2, loss_weights=TERMS, audio_config=noisy, decoder_config=decoder)


@pytest.mark.parametrize("activation_checkpointing", [False, True])
def test_the_way_back_draws_the_random_numbers_of_the_way_there(
    tiny: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, activation_checkpointing: bool
) -> None:
    batch = batch_of(tiny, video=True)
    model = random_model(tiny)
    if activation_checkpointing:
        model.activation_checkpointing_enable()
    chunked = step(model, batch, 3)
    # The same chunks, so the same random numbers, with all activations kept instead of computed again.
    monkeypatch.setattr(gradient_cache, "checkpoint", lambda run, *tensors, **options: run(*tensors))
    assert assert_same(step(random_model(tiny), batch, 3), chunked, 1e-6) < 1e-6


def test_the_way_back_sees_the_codes_of_the_way_there(tiny: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = {"dropout": 0.0, "codebook_decay": 0.5, "align_on": "codes"}
    batch = batch_of(tiny)
    whole = step(tiny.model(**fields), batch, None)
    assert_same(whole, step(tiny.model(**fields), batch, 3), 1e-5)
    monkeypatch.setattr(gradient_cache.CodesAsOf, "_set", lambda self, codes: None)
    with pytest.raises(AssertionError, match=r"decoders|encoders"):
        assert_same(whole, step(tiny.model(**fields), batch, 3), 1e-5)


def test_after_a_step_the_model_is_as_before(tiny: SimpleNamespace) -> None:
    model, batch = tiny.model(dropout=0.0), batch_of(tiny)
    codes = model.codebooks.shared.codes
    step(model, batch, 3)
    assert model.codebooks.shared.codes is codes
    assert model.modality_runner is None
    assert int(model.codebooks.shared.num_updates) == 1


# In the trainer


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_training_in_chunks_ends_like_training_without(
    tiny: SimpleNamespace, trainer_of: MakeTrainer, accumulation: int, checkpointing: bool
) -> None:
    results = []
    for size in (None, 3):
        model = tiny.model(dropout=0.0)
        fields = {"gradient_accumulation_steps": accumulation, "input_noise": 0.1, "balance": "adaptive"}
        # Adam would make a step of any difference between gradients that are about 0.
        fields |= {"optim": "sgd", "learning_rate": 0.1, "per_device_train_batch_size": 7}
        fields |= {"activation_checkpointing": checkpointing and size is not None, "gradient_cache_chunk": size}
        trainer_of(model, tiny.items(per_group=14), max_steps=4, **fields).train()
        results.append(dict(model.state_dict()))
        assert int(model.codebooks.shared.num_updates) == 4 * accumulation
    assert assert_same(*results, 1e-5) < 1e-5


def test_activation_checkpointing_changes_no_bit(tiny: SimpleNamespace, trainer_of: MakeTrainer) -> None:
    results = []
    for checkpointing in (False, True):
        model = random_model(tiny)
        trainer_of(model, tiny.items(), activation_checkpointing=checkpointing, input_noise=0.1).train()
        results.append(dict(model.state_dict()))
    assert assert_same(*results, 0.0) == 0.0


def test_evaluation_takes_the_whole_batch(
    tiny: SimpleNamespace, trainer_of: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_of(tiny.model(), tiny.items(), gradient_cache_chunk=2)
    monkeypatch.setattr(gradient_cache, "_run_modality", None)
    assert trainer.evaluate(tiny.items())["eval_loss"] > 0


# Memory


def test_chunks_keep_no_activations(tiny: SimpleNamespace) -> None:
    batch = batch_of(tiny, per_group=20)
    deep = {"hidden_size": 16, "num_hidden_layers": 6, "num_attention_heads": 2, "intermediate_size": 24}
    counts = {}
    for size in (None, 4):
        model = tiny.model(dropout=0.0, audio_config=audio(deep), decoder_config=deep).train()
        with kept_activations() as kept, nullcontext() if size is None else in_chunks(model, size):
            loss = model(**batch).loss
        counts[size] = kept.count
        loss.backward()
    assert counts[4] < 0.2 * counts[None]


def test_a_chunk_is_computed_again_only_when_those_after_it_are_done(tiny: SimpleNamespace) -> None:
    model, events = tiny.model(dropout=0.0).train(), []
    block = model.encoders["vision"].tower.layers[0].mlp

    def first_time(module: Any, inputs: Any, output: Tensor) -> None:
        number = len(events)
        events.append(f"forward {number}")
        output.register_hook(lambda gradient: events.append(f"backward {number}"))

    with block.register_forward_hook(first_time), in_chunks(model, 4):
        loss = model(**batch_of(tiny, groups=(("text", "image"),), per_group=12)).loss
    block.register_forward_hook(lambda *call: events.append("again"))
    loss.backward()
    assert events[:3] == ["forward 0", "forward 1", "forward 2"]
    assert events[3:] == ["again", "backward 2", "again", "backward 1", "again", "backward 0"]


# What is refused


@pytest.mark.parametrize("field", ["parity_losses", "parity_codebooks", "output_hidden_states"])
def test_settings_that_chunks_would_change_are_refused(
    tiny: SimpleNamespace, trainer_of: MakeTrainer, field: str
) -> None:
    model = tiny.model()
    setattr(model.config, field, True)
    with pytest.raises(ValueError, match=f"gradient_cache_chunk: got 2 together with {field}; .* Fix"):
        trainer_of(model, tiny.items(), gradient_cache_chunk=2)


def test_sharded_weights_are_refused(
    tiny: SimpleNamespace, trainer_of: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr("codebind_hf.training.trainer.check_config", lambda *given: seen.append(given))
    trainer = trainer_of(tiny.model(), tiny.items(), gradient_cache_chunk=2)
    assert seen == [(trainer.model.config, 2, trainer.is_fsdp_enabled)]
    with pytest.raises(ValueError, match="gradient_cache_chunk: got 2 together with fsdp"):
        gradient_cache.check_config(trainer.model.config, 2, is_sharded=True)


def test_a_learning_batch_norm_is_refused_and_a_frozen_one_is_not(tiny: SimpleNamespace) -> None:
    tower = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    points = {**tower, "input_size": [24], "num_groups": 4, "group_size": 6, "point_widths": [8, 8, 8, 8]}
    batch = {"input_ids": torch.tensor([[0, 3, 1]] * 6), "point_values": torch.randn(6, 24, 3), "return_loss": True}
    model = tiny.model(dropout=0.0, point_config={**points, "has_position": False})
    with pytest.raises(ValueError, match="gradient_cache_chunk: the batch norm of the point encoder learns"):
        step(model, batch, 4)
    assert model.modality_runner is None
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.requires_grad_(False)
    assert int(step(model, batch, 4)["encoders.point.tower.stem.local.1.num_batches_tracked"]) == 0


@pytest.mark.parametrize("size", [0, -3, 2.5, True, "auto"])
def test_the_size_of_a_chunk_is_checked(tmp_path: Any, size: Any) -> None:
    with pytest.raises(ValueError, match=f"gradient_cache_chunk: got {size!r}; it must be a whole number"):
        CodeBindTrainingArguments(output_dir=str(tmp_path), gradient_cache_chunk=size)
