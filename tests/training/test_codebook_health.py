"""The warning about codebooks that collapse: once each, with advice, and not for healthy or frozen ones."""

import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from codebind_hf.model.codebooks import Codebook
from codebind_hf.model.modeling_codebind import CodeBindModel
from codebind_hf.training import Recipe, train
from codebind_hf.training.health import CodebookHealthCallback, codebook_log


STATE = SimpleNamespace(is_world_process_zero=True)
ARGUMENTS = SimpleNamespace(init_codebooks=True)


def feed(book: Codebook, chosen: int, times: int = 30) -> None:
    """Updates in which only the first `chosen` codes are ever nearest, evenly."""
    counts = torch.zeros(book.num_codes)
    counts[:chosen] = 6.0
    for _ in range(times):
        book.update(counts, counts.unsqueeze(1) * book.codes, book.codes.clone())


def warnings_of(callback: CodebookHealthCallback, model: CodeBindModel, caplog: Any, **state: Any) -> list[str]:
    """What the callback says at one logged step."""
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="codebind_hf"):
        callback.on_log(ARGUMENTS, SimpleNamespace(**{**vars(STATE), **state}), None, {"loss": 1.0}, model=model)
    return [record.getMessage() for record in caplog.records]


@pytest.fixture
def model(tiny: Any) -> CodeBindModel:
    """No restarts; every book has 30 updates: `audio` (8 codes) with one code in use, all others with all of them."""
    model = tiny.model(restart_codes=False)
    for module in model.codebooks.modules():
        if isinstance(module, Codebook):
            feed(module, module.num_codes)
    book = model.codebooks.specific["audio"]
    book.reset(book.codes.clone())
    feed(book, 1)
    return model


def judge(**options: Any) -> CodebookHealthCallback:
    return CodebookHealthCallback(**{"least_share": 0.2, "warmup_updates": 20, **options})


def test_a_collapsed_codebook_is_named_once_with_its_numbers_and_advice(model: CodeBindModel, caplog: Any) -> None:
    callback = judge()
    (said,) = warnings_of(callback, model, caplog)
    health = codebook_log(model)
    # One code of 8 in use.
    assert health["codebook/audio/usage"] == 0.125
    assert health["codebook/audio/perplexity"] == pytest.approx(1.0)
    assert said.startswith(
        "codebook 'audio' has collapsed: 12.5 % of its 8 codes are in use, with a perplexity of 1.0"
    )
    assert "`restart_codes: true`" in said
    assert "`num_specific_codes`" in said
    # These are on already.
    assert "k-means" not in said
    assert "`uni`" not in said
    assert callback.collapsed == {"audio"}
    assert warnings_of(callback, model, caplog) == []
    assert callback.collapsed == {"audio"}


def test_recovery_is_silent_and_a_second_collapse_too(model: CodeBindModel, caplog: Any) -> None:
    callback = judge()
    assert len(warnings_of(callback, model, caplog)) == 1
    book = model.codebooks.specific["audio"]
    feed(book, book.num_codes, times=60)
    assert warnings_of(callback, model, caplog) == []
    assert callback.collapsed == set()
    feed(book, 1, times=90)
    assert warnings_of(callback, model, caplog) == []
    assert callback.collapsed == {"audio"}


def test_a_low_perplexity_is_a_collapse_also_when_every_code_is_touched(model: CodeBindModel, caplog: Any) -> None:
    book = model.codebooks.specific["depth"]
    book.usage.fill_(0.012)
    book.usage[0] = 1.0
    health = codebook_log(model)
    assert health["codebook/depth/usage"] == 1.0
    assert health["codebook/depth/perplexity"] < 1.6
    assert any(said.startswith("codebook 'depth'") for said in warnings_of(judge(), model, caplog))


@pytest.mark.parametrize(
    ("options", "frozen", "logs", "is_main"),
    [
        pytest.param({"warmup_updates": 31}, False, {"loss": 1.0}, True, id="warming-up"),
        pytest.param({"least_share": 0.125}, False, {"loss": 1.0}, True, id="at-the-share"),
        pytest.param({}, True, {"loss": 1.0}, True, id="frozen"),
        pytest.param({}, False, {"eval_loss": 1.0}, True, id="not-a-training-step"),
        pytest.param({}, False, {"loss": 1.0}, False, id="another-process"),
    ],
)
def test_nothing_is_said(
    model: CodeBindModel, caplog: Any, options: dict[str, Any], frozen: bool, logs: dict[str, float], is_main: bool
) -> None:
    model.codebooks.specific["audio"].frozen = frozen
    state = SimpleNamespace(is_world_process_zero=is_main)
    with caplog.at_level(logging.INFO, logger="codebind_hf"):
        judge(**options).on_log(ARGUMENTS, state, None, logs, model=model)
    assert caplog.records == []


def test_the_advice_names_what_is_off(model: CodeBindModel, caplog: Any, tiny: Any) -> None:
    bare = tiny.model(loss_weights={"align": 1.0})
    bare.codebooks.shared.num_updates += 200
    bare.codebooks.shared.usage[0] = 1.0
    callback = CodebookHealthCallback()
    with caplog.at_level(logging.WARNING, logger="codebind_hf"):
        callback.on_log(SimpleNamespace(init_codebooks=False), STATE, None, {"loss": 1.0}, model=bare)
    (said,) = [record.getMessage() for record in caplog.records]
    assert "let k-means start it" in said
    assert "`cuni`" in said
    assert "`num_shared_codes`" in said
    assert "restart_codes" not in said


def test_training_on_inputs_that_are_all_the_same_warns_and_on_others_does_not(
    tiny: Any, trainer_of: Callable[..., Any], caplog: Any
) -> None:
    said = []
    for has_one_input in (True, False):
        items = tiny.items(groups=(("text", "image", "audio"),))
        if has_one_input:
            for item in items:
                item["tensors"]["input_features"] = torch.ones(1, 8, 12)
        model = tiny.model(restart_codes=False, dropout=0.0)
        trainer = trainer_of(model, items, max_steps=8, per_device_train_batch_size=8, learning_rate=1e-4)
        trainer.add_callback(CodebookHealthCallback(least_share=0.7, warmup_updates=4))
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="codebind_hf"):
            trainer.train()
        said.append([record.getMessage().partition(" has")[0] for record in caplog.records])
    # One input for all rows: perplexity 5.4 of 8 codes, all from its few tokens; different inputs: 7.9.
    assert said == [["codebook 'audio'"], []]


@pytest.mark.parametrize(
    "options",
    [pytest.param({"least_share": 0}, id="zero"), pytest.param({"least_share": 1.5}, id="more-than-all")],
)
def test_a_share_that_no_codebook_can_have_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="least_share: got"):
        CodebookHealthCallback(**options)
    with pytest.raises(ValueError, match="warmup_updates: got -1"):
        CodebookHealthCallback(warmup_updates=-1)


def test_a_recipe_watches_its_codebooks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny: Any) -> None:
    judged = []
    monkeypatch.setattr(CodebookHealthCallback, "on_log", lambda self, *args, **kwargs: judged.append(kwargs["model"]))
    model = tiny.model()
    training = {"max_steps": 1, "use_cpu": True, "disable_tqdm": True, "per_device_train_batch_size": 8}
    train(Recipe(order="bind", base="none", training=training), model, None, tiny.items(), tmp_path)
    assert model in judged
