"""Loading, embedding and keeping what the demo app works with."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from served_runs import ROWS

from codebind_hf.data.manifest import Manifest
from codebind_hf.evaluation.embedding import EmbeddedSet, embed_dataset
from codebind_hf.serving import workbench
from codebind_hf.serving.embedding_cache import read_embeddings, write_embeddings
from codebind_hf.serving.workbench import Workbench


def same(one: EmbeddedSet, other: EmbeddedSet) -> bool:
    assert one.modalities.keys() == other.modalities.keys()
    assert (one.ids, one.labels, one.failures) == (other.ids, other.labels, other.failures)
    pairs = [(one.modalities[name], other.modalities[name]) for name in one.modalities]
    return all(
        (getattr(a, field) is None and getattr(b, field) is None) or torch.equal(getattr(a, field), getattr(b, field))
        for a, b in pairs
        for field in ("positions", "embeds", "continuous_embeds", "specific_embeds", "shared_codes", "specific_codes")
    )


def test_a_run_brings_its_gallery_and_damaged_files_of_it_are_left_out(bench: Workbench) -> None:
    embedded = bench.loaded().embedded
    assert embedded is not None
    assert (len(bench.rows), bench.total, bench.name) == (ROWS, ROWS, "mine")
    assert embedded.modalities["audio"].positions.tolist() == [0, 1, 2, 4]
    assert embedded.modalities["depth"].positions.tolist() == [0, 1, 2, 3]
    assert [(each.position, each.modality) for each in embedded.failures] == [(3, "audio")]


def test_embeddings_are_kept_beside_the_gallery_and_read_again(run: Path, bench: Workbench) -> None:
    kept = run / "files" / "manifest.embeddings.safetensors"
    assert kept.is_file()
    embedded = bench.loaded().embedded
    assert embedded is not None
    before = kept.stat().st_mtime_ns
    again = Workbench(str(run)).loaded().embedded
    assert again is not None
    assert kept.stat().st_mtime_ns == before
    assert same(again, embedded)
    model, processor = bench.loaded().model, bench.loaded().processor
    rows = list(Manifest(run / "files" / "manifest.jsonl", modalities=["radar"]))
    fresh = embed_dataset(model, processor, rows, on_error="skip", progress=False)
    assert same(again, fresh)


def test_embeddings_of_another_checkpoint_or_of_damaged_files_are_not_taken(
    bench: Workbench, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    embedded = bench.loaded().embedded
    assert embedded is not None
    file = tmp_path / "kept.safetensors"
    assert write_embeddings(file, embedded, "one")
    found = read_embeddings(file, "one")
    assert found is not None
    assert same(found, embedded)
    assert read_embeddings(file, "other") is None
    file.write_bytes(file.read_bytes()[:100])
    assert read_embeddings(file, "one") is None
    assert "embedded again" in caplog.text
    assert read_embeddings(tmp_path / "none", "one") is None


def test_captions_are_kept_too(bench: Workbench, tmp_path: Path) -> None:
    found = bench.loaded()
    rows = [{"text": ["a ring", "a bell"]}, {"text": "a tall glass"}]
    embedded = embed_dataset(found.model, found.processor, rows, progress=False)
    assert embedded.captions is not None
    write_embeddings(tmp_path / "kept", embedded, "one")
    again = read_embeddings(tmp_path / "kept", "one")
    assert again is not None
    assert again.captions is not None
    assert torch.equal(again.captions.embeds, embedded.captions.embeds)
    assert again.captions.positions.tolist() == [0, 0, 1]


def test_a_folder_that_cannot_be_written_costs_time_and_nothing_else(
    bench: Workbench, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    embedded = bench.loaded().embedded
    assert embedded is not None
    assert not write_embeddings(tmp_path / "nowhere" / "kept", embedded, "one")
    assert "are not kept" in caplog.text


def test_a_query_has_the_embedding_that_encode_gives(run: Path, bench: Workbench) -> None:
    found = bench.loaded()
    file = run / "files" / "audio" / "0.wav"
    query = bench.query("audio", {"bytes": file.read_bytes(), "path": "mine.wav"})
    expected = found.model.encode({"audio": [str(file)]}, processor=found.processor, output="torch")["audio"]
    torch.testing.assert_close(query.embedded.embeds, expected)
    assert torch.equal(bench.query_of_row(0, "audio").embedded.embeds, query.embedded.embeds)


def test_what_is_wrong_with_an_item_is_said_of_the_item(bench: Workbench) -> None:
    with pytest.raises(OSError, match="holiday.wav") as caught:
        bench.query("audio", {"bytes": b"RIFF" + bytes(40), "path": "holiday.wav"})
    assert "row 0" not in str(caught.value)
    assert "[0]" not in str(caught.value)
    with pytest.raises(ValueError, match="depth: this object has none"):
        bench.query_of_row(4, "depth")
    with pytest.raises(ValueError, match=r"audio of tall glass 003: .*3\.wav"):
        bench.query_of_row(3, "audio")
    with pytest.raises(ValueError, match="this object has none"):
        bench.query_of_row(ROWS, "image")


def test_mistakes_in_checkpoint_and_gallery_are_said_at_once(run: Path, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no folder"):
        Workbench(str(tmp_path / "nothing"))
    with pytest.raises(OSError, match="rows.jsonl"):
        Workbench(str(run / "checkpoint"), str(tmp_path / "rows.jsonl"))


def test_a_checkpoint_that_cannot_be_loaded_says_so_when_it_is_needed(run: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(run / "checkpoint", broken)
    (broken / "model.safetensors").unlink()
    bench = Workbench(str(broken))
    with pytest.raises(OSError, match=r"model\.safetensors"):
        bench.loaded()


def test_of_a_large_gallery_the_first_rows_are_shown(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workbench, "MOST_ROWS", 3)
    manifest = tmp_path / "rows.jsonl"
    manifest.write_text("\n".join(json.dumps({"text": f"number {row}"}) for row in range(7)))
    bench = Workbench(str(run / "checkpoint"), str(manifest))
    assert (len(bench.rows), bench.total) == (3, 7)
    embedded = bench.loaded().embedded
    assert embedded is not None
    assert len(embedded) == 3
