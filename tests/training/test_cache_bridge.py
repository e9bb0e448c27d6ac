"""Towers that do not learn run once a row; losses, weights and codebooks are those of running them at every step."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from commands_in_process import parsed
from examples_in_process import run_example
from safetensors.torch import load_file
from test_launched import launched
from torch import Tensor
from transformers import TrainerCallback

from codebind_hf.data import LazyDataset, Manifest, NineSenses, PreparedDataset, StoredDataset
from codebind_hf.data import pooled_tokens as store_module
from codebind_hf.data.items import Items, ListedItems
from codebind_hf.data.pooled_tokens import TokenStore
from codebind_hf.training import CodeBindTrainer, Recipe, RunSettings, build, run, train_only
from codebind_hf.training import bridge_cache as cache_module
from codebind_hf.training.arguments import CodeBindTrainingArguments


MakeTrainer = Callable[..., CodeBindTrainer]
GROUPS = (("text", "image", "audio"), ("image", "depth"), ("text", "audio", "depth"))
# Sums over other batches may end otherwise in the last bits. A wrong row is a thousand times as far off, see below.
ROUNDING = 1e-5
CACHED = Path(__file__).parents[1] / "scripts" / "cache_on_processes.py"
SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
MODEL = {f"{name}_config": SMALL for name in ("text", "vision", "eeg", "decoder")}


# Adam would make whole steps of the rounding of gradients that are 0, as those of the keys' bias.
PLAIN = {"optim": "sgd", "max_steps": 3}


def frozen(tiny: SimpleNamespace, heads: bool = False, dropout: float = 0.1, **fields: Any) -> Any:
    """A model whose audio and depth learn, and of the bridge at most the shared heads."""
    model = tiny.model(dropout=dropout, **fields)
    train_only(model, ["audio", "depth"], "full", ["text", "image"] if heads else (), "shared_heads")
    return model


def result_of(trainer: CodeBindTrainer) -> dict[str, Tensor]:
    """Losses, weights and codebooks at the end."""
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == trainer.args.max_steps
    return {"losses": torch.tensor(losses), **{name: x.clone() for name, x in trainer.model.state_dict().items()}}


def assert_close(first: dict[str, Tensor], second: dict[str, Tensor], bound: float = ROUNDING) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(
            second[name], value, rtol=bound, atol=bound, msg=lambda text, name=name: f"{name}: {text}"
        )


def files_of(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in sorted(folder.rglob("*.safetensors"))}


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "run" / "bridge_cache"


@pytest.fixture
def tower_runs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Modality and number of items of every call of `get_pooled_tokens`."""
    from codebind_hf.model.modality_features import ModalityFeatures

    calls: list[tuple[str, int]] = []
    made = ModalityFeatures.get_pooled_tokens

    def counted(self: Any, modality: str, values: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        calls.append((modality, len(values)))
        return made(self, modality, values, attention_mask)

    monkeypatch.setattr(ModalityFeatures, "get_pooled_tokens", counted)
    return calls


# The same training


class Counting(TrainerCallback):
    """Names the towers that run while training."""

    def __init__(self, model: Any) -> None:
        self.model, self.ran = model, list[str]()

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        for name, encoder in self.model.encoders.items():
            encoder.tower.register_forward_hook(lambda *_, name=name: self.ran.append(name))


@pytest.mark.parametrize(
    ("heads", "fields"),
    [
        pytest.param(False, {"input_noise": 0.2}, id="frozen"),
        pytest.param(True, {"gradient_cache_chunk": 3}, id="learning heads, gradient cache"),
        pytest.param(True, {"balance": "adaptive"}, id="learning heads", marks=pytest.mark.slow),
        pytest.param(False, {"gradient_cache_chunk": 3}, id="gradient cache", marks=pytest.mark.slow),
        pytest.param(False, {"gradient_accumulation_steps": 2, "bf16": True}, id="bf16", marks=pytest.mark.slow),
    ],
)
def test_training_is_the_same_and_frozen_towers_do_not_run(
    tiny: SimpleNamespace,
    trainer_of: MakeTrainer,
    tower_runs: list[tuple[str, int]],
    heads: bool,
    fields: dict[str, Any],
) -> None:
    items, results = tiny.items(groups=GROUPS), []
    weights = {"loss_weights": {"recon": 0.3, "seg": 0.5, "uni": 0.2, "commit": 0.4, "cm": 0.05, "views": 0.2}}
    for asked in (False, True):
        model = frozen(tiny, heads, 0.0 if heads else 0.1, **weights)
        start = model.encoders["vision"].shared_head.projection.weight.detach().clone()
        trainer = trainer_of(model, items, cache_bridge=asked, per_device_train_batch_size=5, **PLAIN, **fields)
        trainer.add_callback(counting := Counting(model))
        results.append(result_of(trainer))
        assert torch.equal(results[-1]["encoders.vision.shared_head.projection.weight"], start) != heads
        assert ({"text", "vision"} & set(counting.ran)) == (set() if asked else {"text", "vision"})
    assert {"audio", "depth"} <= set(counting.ran)
    assert tower_runs == [("text", 16), ("image", 16)], "one batch of all rows each"
    assert_close(*results, 1e-2 if "bf16" in fields else ROUNDING)


def test_tokens_of_wrong_rows_are_beyond_rounding(
    tiny: SimpleNamespace, trainer_of: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the bound above is worth."""
    items = tiny.items(groups=GROUPS)
    expected = result_of(trainer_of(frozen(tiny), items, **PLAIN))
    read = TokenStore.read
    monkeypatch.setattr(TokenStore, "read", lambda self, draw, seed: read(self, draw._replace(position=0), seed))
    found = result_of(trainer_of(frozen(tiny), items, cache_bridge=["text"], **PLAIN))
    with pytest.raises(AssertionError, match="losses"):
        assert_close(expected, found, 1e3 * ROUNDING)


def test_only_what_is_named_is_cached(tiny: SimpleNamespace, trainer_of: MakeTrainer, cache: Path) -> None:
    trainer = trainer_of(frozen(tiny), tiny.items(groups=GROUPS), cache_bridge=["text"])
    trainer.train()
    assert list(trainer.train_dataset.stores) == ["text"]
    assert [path.name.partition("-")[0] for path in cache.iterdir()] == ["text"]
    batch = next(iter(trainer.get_train_dataloader()))
    assert "input_ids" not in batch


# The cache is of these weights and these rows


@pytest.mark.slow
def test_a_second_training_uses_what_is_there_and_one_of_other_weights_or_rows_does_not(
    tiny: SimpleNamespace, trainer_of: MakeTrainer, cache: Path, tower_runs: list[tuple[str, int]]
) -> None:
    items = tiny.items(groups=GROUPS)
    expected = result_of(trainer_of(frozen(tiny), items, cache_bridge=True, **PLAIN))
    files = files_of(cache)
    assert tower_runs == [("text", 16), ("image", 16)]
    assert_close(expected, result_of(trainer_of(frozen(tiny), items, cache_bridge=True, **PLAIN)), 0.0)
    assert files_of(cache) == files
    assert len(tower_runs) == 2

    def other(weight: float = 0.0) -> Any:
        model = frozen(tiny)
        with torch.no_grad():
            model.encoders["vision"].tower.position[0, 0] += weight
        return model

    plain = result_of(trainer_of(other(1.0), items, **PLAIN))
    assert_close(plain, result_of(trainer_of(other(1.0), items, cache_bridge=True, **PLAIN)))
    assert tower_runs[2:] == [("image", 16)], "the text tower is the same"
    assert len(list(cache.glob("image-*"))) == 1, "the old one is gone"
    changed = [{**item, "tensors": dict(item["tensors"])} for item in items]
    changed[0]["tensors"]["pixel_values"] = changed[0]["tensors"]["pixel_values"] + 1
    plain = result_of(trainer_of(other(1.0), changed, **PLAIN))
    assert_close(plain, result_of(trainer_of(other(1.0), changed, cache_bridge=True, **PLAIN)))
    assert tower_runs[3:] == [("image", 16)]


def test_a_foreign_file_is_not_read(
    tiny: SimpleNamespace, trainer_of: MakeTrainer, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    items = tiny.items(groups=GROUPS)
    expected = result_of(trainer_of(frozen(tiny), items, cache_bridge=["image"]))
    (own,) = cache.iterdir()
    for path in own.iterdir():
        path.unlink()
    foreign = TokenStore(own, "of something else", len(items))
    foreign.write({position: [torch.zeros(1, 16)] for position in range(len(items))})
    assert_close(expected, result_of(trainer_of(frozen(tiny), items, cache_bridge=["image"])), 0.0)
    assert "of another tower or other rows, and not read" in caplog.text


def test_a_damaged_cache_is_an_error_that_says_what_to_do(
    tiny: SimpleNamespace, trainer_of: MakeTrainer, cache: Path
) -> None:
    items = tiny.items(groups=GROUPS)
    trainer_of(frozen(tiny), items, cache_bridge=["image"]).train()
    (file,) = cache.rglob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(OSError, match=f"{file.name}: holds other bytes than were written. Fix: delete the file"):
        trainer_of(frozen(tiny), items, cache_bridge=["image"]).train()


# Captions, rows that cannot be read, and where tensors live


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    """Rows with one to three captions each."""
    made = []
    for number, row in enumerate(NineSenses("test", num_rows=10, modalities=["text", "image", "eeg"])):
        texts = [row["text"], f"the {row['label']}", f"number {number}"][: 1 + number % 3]
        made.append({**row, "text": texts if number % 3 else texts[0]})
    return made


class Told:
    """A processor that notes of what it is asked."""

    def __init__(self, processor: Any) -> None:
        self.processor, self.asked = processor, list[str]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["processor"], name)

    def __call__(self, **values: Any) -> Any:
        self.asked += [name for name in values if name != "return_tensors"]
        return self.processor(**values)


def small(rows: Sequence[Any]) -> tuple[Any, Any]:
    texts = [text for row in rows for text in (row["text"] if isinstance(row["text"], list) else [row["text"]])]
    model, processor = build(Recipe(model=MODEL, seed=1), ["text", "image", "eeg"], texts)
    train_only(model, ["eeg"])
    return model, processor


SLOW = pytest.mark.slow


@pytest.mark.parametrize("kind", ["lazy", pytest.param("memory", marks=SLOW), pytest.param("disk", marks=SLOW)])
def test_every_caption_is_cached_and_a_cached_modality_is_not_read_again(
    rows: list[dict[str, Any]], trainer_of: MakeTrainer, tmp_path: Path, kind: str
) -> None:
    def items_of(processor: Any) -> Items:
        if kind == "disk":
            return StoredDataset(rows, processor, tmp_path / "rows", seed=7)
        return (PreparedDataset if kind == "memory" else LazyDataset)(rows, processor, seed=7)

    results = []
    for asked in (False, True):
        model, processor = small(rows)
        told = Told(processor)
        # Three epochs of two batches.
        fields = {"max_steps": 6, "per_device_train_batch_size": 5, "init_codebooks": False, "optim": "sgd"}
        trainer = trainer_of(model, items_of(told), cache_bridge=asked, **fields)
        trainer.data_collator.processor = processor
        results.append(result_of(trainer))
        if asked and kind == "lazy":
            assert told.asked.count("images") == len(rows)
            assert told.asked.count("text") == len(rows), "once a row, all captions of it"
            assert told.asked.count("eeg") == 6 * 5
    assert_close(*results)


def test_rows_that_are_skipped_stay_so(rows: list[dict[str, Any]], trainer_of: MakeTrainer) -> None:
    broken = [*rows[:4], {**rows[4], "image": "no/such/file.png"}, *rows[5:]]
    results = []
    for asked in (False, True):
        model, processor = small(rows)
        items = LazyDataset(broken, processor, on_error="skip")
        trainer = trainer_of(model, items, cache_bridge=asked, per_device_train_batch_size=5, **PLAIN)
        trainer.data_collator.processor = processor
        results.append(result_of(trainer))
    assert_close(*results)
    model, processor = small(rows)
    trainer = trainer_of(model, LazyDataset(broken, processor), cache_bridge=True, init_codebooks=False)
    trainer.data_collator.processor = processor
    with pytest.raises(OSError, match="no/such/file.png"):
        trainer.train()


# Refusals


def refused(tiny: SimpleNamespace, trainer_of: MakeTrainer, message: str, items: Any = None, **options: Any) -> None:
    heads, model_fields = options.pop("heads", False), options.pop("model", {})
    model = options.pop("made", None) or frozen(tiny, heads, **model_fields)
    with pytest.raises(ValueError, match=message):
        trainer_of(model, items or tiny.items(groups=GROUPS), **{"cache_bridge": True, **options})


def test_what_changes_from_step_to_step_is_refused_with_a_reason(
    tiny: SimpleNamespace, trainer_of: MakeTrainer
) -> None:
    noisy = r"image has heads that learn, so that its input gets noise. Fix: input_noise: 0, or cache others alone "
    refused(
        tiny, trainer_of, noisy + r"\(cache_bridge: \[text\]\)", heads=True, model={"dropout": 0.0}, input_noise=0.1
    )
    refused(
        tiny, trainer_of, "text has heads that learn, so that its tower has dropout.*leave cache_bridge", heads=True
    )
    refused(tiny, trainer_of, "text is judged by parity_losses", model={"parity_losses": True})
    refused(tiny, trainer_of, "text is asked for hidden states", model={"output_hidden_states": True})
    model = frozen(tiny, dropout=0.0)
    model.encoders["vision"].specific_head.requires_grad_(True)
    refused(tiny, trainer_of, "image is trained with its specific part", made=model)
    items = ListedItems(tiny.items(groups=GROUPS))
    items.augmentation = SimpleNamespace(operations={"image": (), "audio": ()})  # type: ignore[attr-defined]
    refused(tiny, trainer_of, r"image is augmented, anew in every epoch.*leave its augmentation out.*\[text\]", items)
    trainer_of(frozen(tiny), items, cache_bridge=["text"])


def test_where_no_tower_is_frozen_there_is_nothing_to_cache(tiny: SimpleNamespace, trainer_of: MakeTrainer) -> None:
    whole = tiny.model()
    refused(
        tiny, trainer_of, "got no modality whose tower is frozen.*train_bridge_heads false or 'shared'", made=whole
    )
    train_only(whole, ["audio", "depth"], "full", ["text", "image"])
    refused(tiny, trainer_of, "got no modality whose tower is frozen", made=whole, cache_bridge=["image"])
    refused(tiny, trainer_of, "got audio, which no row has, or whose tower learns", cache_bridge=["audio", "text"])
    refused(tiny, trainer_of, "unknown modality 'radar'", cache_bridge=["radar"])
    for wrong in ("text", [], [3], None):
        with pytest.raises(ValueError, match="cache_bridge: got .*; allowed: true, false, or modalities"):
            CodeBindTrainingArguments(output_dir="unused", cache_bridge=wrong)


@pytest.mark.slow
def test_the_bench_measures_the_same_steps_by_turns(tmp_path: Path) -> None:
    options = ("--rows", 4, "--steps", 6, "--rounds", 1, "--batch_size", 4, "--modalities", "text,image,eeg")
    done = run_example("bench/cached_bridge", "--folder", tmp_path, *options)
    assert done.returncode == 0, done.stderr
    ratio, apart = done.stdout.splitlines()[-2:]
    assert re.fullmatch(r"a step without cache: \d+ ms; with: \d+ ms; with by without: \d\.\d\d", ratio)
    assert float(re.findall(r"loss: (\S+) of", apart)[0]) < 1e-3


# Processes


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_two_processes_embed_every_row_once_between_them(tmp_path: Path) -> None:
    found = {}
    for asked in ("plain", "cached"):
        (tmp_path / asked).mkdir()
        launched(CACHED, str(tmp_path / asked), asked)
        found[asked] = [json.loads((tmp_path / asked / f"{rank}.json").read_text()) for rank in range(2)]
    for plain, cached in zip(found["plain"], found["cached"], strict=True):
        np.testing.assert_allclose(cached["losses"], plain["losses"], rtol=0, atol=ROUNDING)
        assert len(plain["losses"]) == 4
        assert plain["embedded"] == {}
        assert cached["refused"] == "process 1 cannot", "the error of one is raised on both"
    first, second = (each["embedded"] for each in found["cached"])
    for modality in ("text", "image"):
        assert first[modality] == [4, 4]
        assert second[modality] == [4, 2], "14 rows in files of 4"
    assert len(files_of(tmp_path / "cached" / "run" / "bridge_cache")) == 2 * 4


# Runs


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    return Path(NineSenses("train", num_bridge=4, num_target=20, modalities=["text", "image", "eeg"]).export(folder))


def settings_for(manifest: Path, cache_bridge: Any = True, **recipe: Any) -> RunSettings:
    training = {
        **{"max_steps": 3, "per_device_train_batch_size": 4, "logging_steps": 1, "warmup_steps": 0},
        **{"disable_tqdm": True, "use_cpu": True, "save_minutes": 0.0, "optim": "sgd", "cache_bridge": cache_bridge},
        **recipe.pop("training", {}),
    }
    return RunSettings({"manifest": str(manifest)}, {"model": MODEL, "training": training, "seed": 2, **recipe})


def weights_of(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "checkpoint" / "model.safetensors")


@pytest.fixture(scope="module")
def straight(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("straight") / "run"
    run(settings_for(manifest), folder)
    return folder


@pytest.mark.slow
def test_a_run_ends_with_the_weights_of_one_without_a_cache_and_takes_the_cache_away(
    manifest: Path, straight: Path, tmp_path: Path
) -> None:
    run(settings_for(manifest, cache_bridge=False), tmp_path / "run")
    assert_close(weights_of(tmp_path / "run"), weights_of(straight))
    logs = [json.loads((folder / "training.json").read_text()) for folder in (straight, tmp_path / "run")]
    losses = [[entry["loss"] for stage in log for entry in stage["log"] if "loss" in entry] for log in logs]
    np.testing.assert_allclose(*losses, rtol=0, atol=ROUNDING)
    assert not (straight / "bridge_cache").exists()


class Killed(BaseException):
    """What the process sees of its end: nothing can catch it."""


@pytest.mark.parametrize("moment", ["binding", pytest.param("caching", marks=pytest.mark.slow)])
def test_a_run_that_is_killed_goes_on_with_what_it_cached_to_the_same_bits(
    manifest: Path,
    straight: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tower_runs: list[tuple[str, int]],
    moment: str,
) -> None:
    done: list[Any] = []

    def killed_while(name: str, count: int, owner: Any) -> Callable[..., Any]:
        known = getattr(owner, name, None)

        def counted(*given: Any, **named: Any) -> Any:
            done.append(given)
            if len(done) > count:
                raise Killed
            return known(*given, **named) if known else None

        return counted

    with monkeypatch.context() as patch:
        if moment == "caching":
            patch.setattr(TokenStore, "write", killed_while("write", 1, TokenStore))
        else:
            owner = "codebind_hf.training.health.CodebookHealthCallback.on_step_begin"
            patch.setattr(owner, killed_while("", 4, None), raising=False)
        with pytest.raises(Killed):
            run(settings_for(manifest), tmp_path / "run")
    files = files_of(tmp_path / "run" / "bridge_cache")
    assert len(files) == (1 if moment == "caching" else 2)
    before = len(tower_runs)
    run(None, tmp_path / "run", resume=True)
    assert tower_runs[before:] == ([("image", 20)] if moment == "caching" else [])
    first, second = weights_of(straight), weights_of(tmp_path / "run")
    assert all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.slow
def test_what_was_cached_before_the_first_checkpoint_is_kept(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tower_runs: list[tuple[str, int]]
) -> None:
    base = tmp_path / "base"
    run(settings_for(manifest, False), base)
    binding = settings_for(manifest, base=str(base / "checkpoint"), order="bind", model={})
    monkeypatch.setattr(store_module, "ROWS_A_FILE", 8)
    monkeypatch.setattr(cache_module, "ROWS_A_FILE", 8)
    write, written = TokenStore.write, []

    def killed(self: TokenStore, rows: Any) -> None:
        if len(written) == 4:
            raise Killed
        written.append(len(rows))
        write(self, rows)

    with monkeypatch.context() as patch:
        patch.setattr(TokenStore, "write", killed)
        with pytest.raises(Killed):
            run(binding, tmp_path / "run")
    assert written == [8, 8, 4, 8], "three files of text, and the first of images"
    del tower_runs[:]
    run(binding, tmp_path / "run", resume=True)
    assert tower_runs == [("image", 8), ("image", 4)]
    run(settings_for(manifest, False, base=str(base / "checkpoint"), order="bind", model={}), tmp_path / "plain")
    assert_close(weights_of(tmp_path / "plain"), weights_of(tmp_path / "run"))


def test_a_run_that_could_cache_nothing_ends_before_it_trains(manifest: Path, tmp_path: Path) -> None:
    heads = {"bind": {"train_bridge_heads": True}}
    for settings, message in (
        (settings_for(manifest, ["image"], stages=heads), "got no modality whose tower is frozen"),
        (settings_for(manifest, ["eeg"]), "got no modality whose tower is frozen"),
        (settings_for(manifest, ["text", "eeg"]), "got eeg, which no row has, or whose tower learns"),
        (
            settings_for(manifest, stages={"bind": {"train_bridge_heads": "shared", "input_noise": 0.1}}),
            "image has heads that learn, so that its input gets noise",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            run(settings, tmp_path / "run")
    assert not list(tmp_path.rglob("checkpoint-*"))


def test_a_stream_is_refused(manifest: Path, tmp_path: Path) -> None:
    from datasets import Dataset

    rows = [{"text": row["text"], "image": row["image"]} for row in Manifest(manifest)]
    Dataset.from_list(rows).save_to_disk(tmp_path / "rows")
    data = {"dataset": str(tmp_path / "rows"), "streaming": True}
    settings = settings_for(manifest)
    with pytest.raises(ValueError, match="cache_bridge: got rows of a stream.*without `streaming`"):
        run(RunSettings(data, settings.recipe), tmp_path / "run")


def test_the_flag_names_modalities_or_means_all() -> None:
    def read(*arguments: str) -> Any:
        return parsed("train", "--output_dir", "x", *arguments)["cache_bridge"]

    assert read() is None
    assert read("--cache_bridge") is True
    assert read("--cache_bridge", "--streaming") is True
    assert read("--cache_bridge", "all") is True
    assert read("--cache_bridge", "text,image") == ["text", "image"]
