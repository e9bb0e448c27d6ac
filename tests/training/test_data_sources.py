"""The same rows from wherever they come are the same training; and what does not fit is not kept."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Image, Value
from safetensors.torch import load_file

from codebind_hf.data import Manifest, NineSenses
from codebind_hf.data.sampler import ModalityBatchSampler
from codebind_hf.training import RunSettings, run
from codebind_hf.training.run_rows import load_rows


SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
MODEL = {f"{name}_config": SMALL for name in ("text", "vision", "eeg", "decoder")}
BATCH, STEPS, SEED = 4, 10, 2


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    rows = NineSenses("train", num_bridge=0, num_target=40, modalities=["text", "image", "eeg"])
    return Path(rows.export(folder))


def in_order(manifest: Path, streaming: bool) -> list[dict[str, Any]]:
    """The rows; of a stream in the order in which the first epoch of a sampler takes them."""
    rows = list(Manifest(manifest))
    sampler = ModalityBatchSampler(rows, BATCH, seed=SEED, drop_last=True)
    return [rows[position] for batch in sampler for position in batch] if streaming else rows


def settings_for(data: dict[str, Any], **fields: Any) -> RunSettings:
    training = {
        **{"max_steps": STEPS, "per_device_train_batch_size": BATCH, "logging_steps": 1, "warmup_steps": 0},
        **{"disable_tqdm": True, "use_cpu": True, **fields},
    }
    return RunSettings(data, {"model": MODEL, "training": training, "order": "joint", "seed": SEED})


def losses_of(folder: Path) -> dict[str, list[float]]:
    logs = json.loads((folder / "training.json").read_text())
    return {stage["stage"]: [entry["loss"] for entry in stage["log"] if "loss" in entry] for stage in logs}


def as_dataset(manifest: Path, folder: Path, streaming: bool = True) -> dict[str, Any]:
    rows = []
    for row in in_order(manifest, streaming):
        eeg = np.load(row["eeg"])
        rows.append({"id": row["id"], "words": row["text"], "image": row["image"], "eeg": eeg.tolist(), "note": "x"})
    words = {name: Value("string") for name in ("id", "words", "note")}
    features = Features({**words, "image": Image(), "eeg": [[Value("float32")]]})
    Dataset.from_list(rows, features=features).save_to_disk(folder)
    return {"dataset": str(folder), "columns": {"words": "text"}}


def as_shards(manifest: Path, folder: Path, streaming: bool = True) -> dict[str, Any]:
    folder.mkdir()
    rows = in_order(manifest, streaming)
    for shard in range(2):
        with tarfile.open(folder / f"{shard}.tar", "w") as tar:
            for row in rows[shard * 20 : shard * 20 + 20]:
                stream = io.BytesIO()
                np.save(stream, np.load(row["eeg"]))
                files = {
                    "png": Path(row["image"]).read_bytes(),
                    "txt": row["text"].encode(),
                    "eeg.npy": stream.getvalue(),
                }
                for ending, content in files.items():
                    entry = tarfile.TarInfo(f"{row['id']}.{ending}")
                    entry.size = len(content)
                    tar.addfile(entry, io.BytesIO(content))
    return {"dataset": str(folder), "columns": {"eeg.npy": "eeg"}}


@pytest.fixture(scope="module")
def straight(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("straight") / "run"
    run(settings_for({"manifest": str(manifest), "loading": "memory"}), folder)
    return folder


@pytest.mark.parametrize("loading", ["lazy", pytest.param("disk", marks=pytest.mark.slow)])
def test_where_tensors_live_changes_no_bit(manifest: Path, straight: Path, tmp_path: Path, loading: str) -> None:
    run(settings_for({"manifest": str(manifest), "loading": loading}), tmp_path / "run")
    assert losses_of(tmp_path / "run") == losses_of(straight)
    one, other = (load_file(folder / "checkpoint" / "model.safetensors") for folder in (straight, tmp_path / "run"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert not (tmp_path / "run" / "rows").exists(), "what can be made again goes when the run is finished"


@pytest.mark.parametrize(
    ("source", "streaming"),
    [(as_dataset, False), pytest.param(as_dataset, True, marks=pytest.mark.slow), (as_shards, True)],
)
def test_every_source_gives_the_same_losses(
    manifest: Path, straight: Path, tmp_path: Path, source: Callable[..., dict[str, Any]], streaming: bool
) -> None:
    data = source(manifest, tmp_path / "source", streaming)
    run(settings_for({**data, **({"streaming": True, "shuffle_buffer": 0} if streaming else {})}), tmp_path / "run")
    expected, found = losses_of(straight), losses_of(tmp_path / "run")
    assert list(found) == list(expected)
    for stage, losses in expected.items():
        assert len(losses) == STEPS
        np.testing.assert_allclose(found[stage], losses, rtol=0, atol=1e-6)


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_streamed_run_goes_on_to_the_same_bits(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    data = {**as_dataset(manifest, tmp_path / "source"), "streaming": True, "shuffle_buffer": 8}
    options = {"dataloader_num_workers": workers, "max_steps": 6}
    run(settings_for(data, **options), tmp_path / "straight")

    class Killed(BaseException):
        pass

    done = []

    def stop(self: Any, args: Any, state: Any, control: Any, **_: Any) -> None:
        done.append(state.global_step)
        if len(done) == 6 + 5:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("codebind_hf.training.health.CodebookHealthCallback.on_step_begin", stop, raising=False)
        saving = {"save_strategy": "steps", "save_steps": 3, "save_minutes": None}
        with pytest.raises(Killed):
            run(settings_for(data, **options, **saving), tmp_path / "killed")
        assert len(list((tmp_path / "killed").rglob("checkpoint-3"))) == 2, "one of each stage"
    run(None, tmp_path / "killed", resume=True)
    one, other = (load_file(tmp_path / name / "checkpoint" / "model.safetensors") for name in ("straight", "killed"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_what_cannot_be_is_refused_before_rows_are_read(tmp_path: Path) -> None:
    gone = {"manifest": str(tmp_path / "gone.jsonl")}
    for training, message in (
        ({"max_steps": 0}, "max_steps: got 0"),
        ({"per_device_train_batch_size": 0}, "per_device_train_batch_size: got 0"),
        ({"cache_bridge": ["txt"]}, r"cache_bridge: got 'txt'; allowed: 'text'.* did you mean `text`"),
    ):
        with pytest.raises(ValueError, match=message):
            run(settings_for(gone, **training), tmp_path / "run")
    with pytest.raises(OSError, match="gone.jsonl': no such file"):
        run(settings_for(gone), tmp_path / "run")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            {"manifest": "a.csv", "preprocessing_num_workers": -1},
            "preprocessing_num_workers: got -1; allowed: a whole",
        ),
        ({"manifest": "a.csv", "shuffle_buffer": 3}, "shuffle_buffer: got 3 with manifest, .*: with dataset"),
        ({"dataset": "a", "shuffle_buffer": 3}, "shuffle_buffer: got 3 with rows that are not streamed"),
        (
            {"dataset": "a", "test_manifest": "b.csv"},
            "test_manifest: got 'b.csv' with dataset, where it has no effect",
        ),
        ({"nine_senses": None, "columns": {"a": "b"}}, "columns: got .* with nine_senses, where it has no effect"),
        ({"manifest": "a.csv", "backbone": "vl"}, "backbone: got 'vl' with manifest, .*: with benchmark"),
        ({"benchmark": "nyu-d", "root": "x", "protocol": "good"}, "protocol: got 'good'; allowed: 'paper', 'sound'"),
        ({"manifest": "a.csv", "text_from_label": "a"}, "text_from_label: got 'a'; a template holds {}"),
    ],
)
def test_an_option_that_would_have_no_effect_is_refused(data: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RunSettings(data)
    with pytest.raises(ValueError, match=message):
        load_rows(data)


def test_a_binding_takes_rows_by_number_and_none_to_evaluate_on() -> None:
    bind = {"modality": "eeg", "bridge": "runs/x"}
    with pytest.raises(ValueError, match="streaming: got true with a binding, .*Fix: leave it out"):
        RunSettings({"dataset": "a", "streaming": True}, bind=bind)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="test_manifest: got 'b' with a binding, which does not evaluate"):
        RunSettings({"manifest": "a", "test_manifest": "b"}, bind=bind)  # type: ignore[arg-type]


def test_rows_that_cannot_be_aligned_are_refused_before_one_is_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codebind_hf.data.prepared.prepared_rows", None)
    (tmp_path / "a.npy").touch()
    rows = tmp_path / "rows.jsonl"
    for content, message in (
        ([{"eeg": "a.npy"}], "the data has eeg; training needs text or image.*--text_from_label"),
        ([{"text": "a", "image": "a.npy"}, {"eeg": "a.npy"}], "no row has eeg together with text or image"),
    ):
        rows.write_text("\n".join(map(json.dumps, content)))
        for loading in ("memory", "disk"):
            with pytest.raises(ValueError, match=message):
                run(settings_for({"manifest": str(rows), "loading": loading}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_options_that_have_an_effect_are_taken() -> None:
    for data in (
        {"manifest": "a.csv", "encoding": "cp1252", "loading": "disk", "preprocessing_num_workers": 2},
        {"manifest": "a.jsonl", "test_manifest": "b.tsv", "encoding": "cp1252", "columns": {"a": "text"}},
        {"dataset": "a", "streaming": True, "shuffle_buffer": 0, "test_dataset": "a:test", "loading": "memory"},
        {"benchmark": "sun-d", "root": "x", "protocol": "sound", "backbone": "vl", "loading": "lazy"},
        {"nine_senses": {"num_bridge": 3}, "loading": "disk", "preprocessing_num_workers": 1, "root": None},
    ):
        assert RunSettings(data).data == data


def test_a_stream_needs_a_number_of_steps_and_a_data_set(manifest: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="streaming: got true with manifest, where .*; allowed: with dataset"):
        run(settings_for({"manifest": str(manifest), "streaming": True}), tmp_path / "run")
    data = {**as_dataset(manifest, tmp_path / "source"), "streaming": True}
    with pytest.raises(ValueError, match="max_steps: got none; a stream has no length"):
        run(settings_for(data, max_steps=-1), tmp_path / "run")
    with pytest.raises(
        ValueError, match="`data` needs one of manifest, dataset, nine_senses, benchmark; got manifest and dataset"
    ):
        run(settings_for({**data, "manifest": str(manifest)}), tmp_path / "run")
