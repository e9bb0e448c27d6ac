"""The whole room on the tiny preset and NineSenses, and both example scripts on ordinary files."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from examples_in_process import run_example

from codebind_hf import CodeBindConfig, CodeBindModel, CodeBindProcessor
from codebind_hf.data import Manifest, NineSenses, PreparedDataset
from codebind_hf.evaluation import Evaluation, embed_dataset, write_model_card, write_report
from codebind_hf.training.tokenization import build_tokenizer


ROWS = 24


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """An untrained tiny checkpoint on disk, and the same rows in memory and as files."""
    folder = tmp_path_factory.mktemp("tiny")
    rows = NineSenses("test", num_rows=ROWS)
    torch.manual_seed(0)
    config = CodeBindConfig.from_preset("tiny")
    tokenizer = build_tokenizer([template.format(name) for template in rows.templates for name in rows.class_names])
    processor = CodeBindProcessor.from_model_config(config, tokenizer)
    model = CodeBindModel(config).eval()
    model.save_pretrained(folder / "checkpoint")
    processor.save_pretrained(folder / "checkpoint")
    manifest = rows.export(folder / "files")
    return SimpleNamespace(
        rows=rows, model=model, processor=processor, checkpoint=folder / "checkpoint", manifest=Path(manifest)
    )


def test_tiny_on_nine_senses_gives_a_whole_report_and_card(tiny: SimpleNamespace, tmp_path: Path) -> None:
    prepared = PreparedDataset(tiny.rows, tiny.processor)
    evaluation = Evaluation(
        tiny.model,
        tiny.processor,
        prepared,
        class_names=tiny.rows.class_names,
        templates=tiny.rows.templates,
        progress=False,
    )
    report = evaluation.report()
    modalities = set(tiny.rows.modalities)
    assert set(report["zero_shot"]) == modalities - {"text"}
    assert {entry["chance"] for entry in report["zero_shot"].values()} == {1 / len(tiny.rows.class_names)}
    assert len(report["retrieval"]) == len(modalities) * (len(modalities) - 1)
    assert len(report["emergent_pairs"]) == 7 * 6
    assert set(report["reconstruction"]) == modalities - {"text"}
    assert all(attribute for modality in ("image", "audio", "eeg") for attribute in report["probes"][modality])
    file = write_report(report, tmp_path)
    assert json.loads(file.read_text()) == report
    assert "| EEG |" in write_model_card(tmp_path / "card", report, tiny.model.config).read_text()


def test_embeddings_of_files_memory_and_prepared_rows_agree(tiny: SimpleNamespace) -> None:
    few = tiny.rows[:6]
    raw = embed_dataset(tiny.model, tiny.processor, few, progress=False)
    ready = embed_dataset(
        tiny.model, tiny.processor, PreparedDataset(few, tiny.processor), batch_size=2, progress=False
    )
    files = embed_dataset(tiny.model, tiny.processor, Manifest(tiny.manifest)[:6], batch_size=4, progress=False)
    assert set(raw.modalities) == set(ready.modalities) == set(files.modalities) == set(tiny.rows.modalities)
    for name, modality in raw.modalities.items():
        torch.testing.assert_close(
            ready.modalities[name].continuous_embeds, modality.continuous_embeds, rtol=1e-4, atol=1e-5
        )
        if name not in ("audio", "point_cloud"):  # written with 16 bits and as single precision
            torch.testing.assert_close(
                files.modalities[name].continuous_embeds, modality.continuous_embeds, rtol=1e-3, atol=1e-3
            )


@pytest.mark.slow
def test_the_evaluate_example_writes_the_report_of_a_manifest(tiny: SimpleNamespace, tmp_path: Path) -> None:
    output = tmp_path / "out" / "digits.json"
    printed = run_example(
        "evaluate", "--checkpoint", tiny.checkpoint, "--manifest", tiny.manifest, "--output", output,
        "--template", "the shape {}", "--template", "a {}", "--figures", tmp_path / "out" / "pictures",
    ).stdout  # fmt: skip
    report = json.loads(output.read_text())
    assert report["templates"] == ["the shape {}", "a {}"]
    assert set(report["class_names"]) == {row["label"] for row in tiny.rows}
    assert report["rows"]["n"] == ROWS
    assert re.search(r"^eeg +[\d.]+ +[\d.]+ to [\d.]+ ", printed, re.MULTILINE)
    markdown = output.with_suffix(".md").read_text()
    assert "](pictures/zero_shot.png)" in markdown
    assert len(list((tmp_path / "out" / "pictures").glob("*.png"))) == 10
    assert str(tmp_path) not in output.read_text() + markdown


def test_the_evaluate_example_skips_and_names_a_broken_file(tiny: SimpleNamespace, tmp_path: Path) -> None:
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    rows = [{"id": "bad", "label": "x", "audio": "broken.wav"}]
    rows += [{"label": "y", "text": f"word {number}"} for number in range(3)]
    manifest = tmp_path / "rows.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ("--checkpoint", tiny.checkpoint, "--manifest", manifest, "--output", tmp_path / "report.json")
    assert re.search(r"row 0 \(bad\), audio: .*broken\.wav", run_example("evaluate", *arguments).stderr)
    assert "skipped row 0, audio" in run_example("evaluate", *arguments, "--on_error", "skip").stdout


def test_the_search_example_ranks_the_files_of_every_modality(tiny: SimpleNamespace) -> None:
    sound = next(tiny.manifest.parent.rglob("*.wav"))
    printed = run_example(
        "search", "--checkpoint", tiny.checkpoint, "--query", sound, "--gallery", tiny.manifest,
        "--modalities", "image,depth,audio", "--top_k", 3,
    ).stdout  # fmt: skip
    blocks = printed.strip().split("\n\n")
    assert "(audio)" in blocks[0]
    assert [block.splitlines()[0] for block in blocks[1:]] == ["image", "depth", "audio"]
    assert all(len(block.splitlines()) == 4 for block in blocks[1:])
    assert str(sound.relative_to(tiny.manifest.parent)) in blocks[3].splitlines()[1]
    assert "1. +1.000" in blocks[3]


def test_the_search_example_takes_words(tiny: SimpleNamespace) -> None:
    places = ("--checkpoint", tiny.checkpoint, "--gallery", tiny.manifest)
    printed = run_example("search", *places, "--text", "a glass ring").stdout
    modalities = [block.splitlines()[0] for block in printed.strip().split("\n\n")[1:]]
    assert set(modalities) == set(tiny.rows.modalities) - {"text"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(("--query", "x.png"), r"image.*--modality", id="ambiguous suffix"),
        pytest.param(("--query", "x.blend"), r"\.blend.*--modality", id="unknown suffix"),
        pytest.param(("--text", "a ring", "--modalities", "radar"), r"--modalities.*radar", id="unknown modality"),
        pytest.param(("--query", "missing.wav"), r"missing\.wav", id="missing file"),
        pytest.param(("--query", "x.wav", "--modality", "smell"), "smell", id="unknown modality"),
    ],
)
def test_the_search_example_says_what_is_wrong(
    tiny: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("x.png", "x.blend", "x.wav"):
        (tmp_path / name).touch()
    done = run_example("search", "--checkpoint", tiny.checkpoint, "--gallery", tiny.manifest, *arguments)
    assert done.returncode in (1, 2)
    assert re.search(message, done.stderr, re.DOTALL)
