"""`--verify` tells originals from everything else, without any original: miniatures stand for them in the registry."""

import dataclasses
import gzip
import hashlib
import os
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from examples_in_process import run_example
from reference_checkpoints import SMALL_OPENSHAPE, SMALL_VITLENS, TINY, TINY_CODEBIND
from safetensors.torch import load_file, save_file
from torch import Tensor

from codebind_hf import CodeBindConfig, CodeBindModel
from codebind_hf.conversion import originals, revert_vitlens, verification, vitlens_architectures
from codebind_hf.conversion.architectures import reference_fields
from codebind_hf.conversion.checkpoint_files import read_file
from codebind_hf.conversion.imagebind_keys import CODEBIND_ENCODERS, IMAGEBIND_ENCODERS
from codebind_hf.conversion.originals import ORIGINALS
from codebind_hf.conversion.verification import Verdict, sha256_of, verify
from codebind_hf.model import presets


MERGES = Path(__file__).parents[1] / "fixtures" / "preprocessing" / "tokenizer" / "bpe_simple_vocab_16e6.txt.gz"
IMAGEBIND = "facebookresearch/ImageBind/imagebind_huge.pth"
VITLENS = "TencentARC/ViT-Lens"
OPENCLIP = "laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K/open_clip_pytorch_model.bin"
NORM = "modality_trunks.audio.blocks.0.norm_1.weight"


class Harmful:
    """Unpickling it would make a folder."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


def small_vitlens(*modalities: str) -> CodeBindModel:
    torch.manual_seed(0)
    config = CodeBindConfig(**SMALL_VITLENS)
    return CodeBindModel(config.restricted_to(modalities) if modalities else config)


@pytest.fixture(autouse=True)
def small_presets(monkeypatch: pytest.MonkeyPatch) -> None:
    """The presets of the registry in the sizes of the miniatures."""
    small = {
        "ib-huge": reference_fields("ib-huge", TINY, IMAGEBIND_ENCODERS),
        "codebind-ib-huge": reference_fields("codebind-ib-huge", TINY_CODEBIND, CODEBIND_ENCODERS),
        "vl-large": SMALL_VITLENS,
        "vl-bigg": {**SMALL_OPENSHAPE, **{f"{name}_config": SMALL_VITLENS[f"{name}_config"] for name in ("text",)}},
    }
    small["vl-bigg"]["vision_config"] = {**SMALL_VITLENS["vision_config"], "num_hidden_layers": 3}
    for name, fields in small.items():
        monkeypatch.setitem(presets.PRESETS, name, fields)
    monkeypatch.setitem(vitlens_architectures._TOWER_HEADS, 16, 2)
    monkeypatch.setitem(vitlens_architectures._TEXT_HEADS, 16, 2)


@pytest.fixture
def publish(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes the sizes and hashes of miniatures those of the originals with their names."""

    def register(*files: Path, **fields: Any) -> None:
        numbers = {
            file.name: {
                "num_bytes": file.stat().st_size,
                "gigabytes": None,
                "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
                **fields,
            }
            for file in files
        }
        current = [
            dataclasses.replace(one, **numbers[one.name]) if one.name in numbers and not one.is_withdrawn else one
            for one in originals.ORIGINALS
        ]
        monkeypatch.setattr(originals, "ORIGINALS", tuple(current))

    return register


@pytest.fixture
def imagebind(imagebind_file: Path, publish: Callable[..., None]) -> Path:
    """The miniature of `imagebind_huge.pth`, as published."""
    file = saved(torch.load(imagebind_file, weights_only=True), imagebind_file.with_name("imagebind_huge.pth"))
    publish(file)
    return file


def saved(content: Any, file: Path) -> Path:
    torch.save(content, file)
    return file


def changed(file: Path, changes: dict[str, Tensor | None], name: str) -> Path:
    """A copy of a file with tensors replaced, added, or (`None`) left out."""
    tensors = {**torch.load(file, weights_only=True), **changes}
    return saved({key: x for key, x in tensors.items() if x is not None}, file.parent / name)


def assert_verdict(verdict: Verdict, is_good: bool, *parts: str) -> None:
    assert verdict.is_good == is_good, str(verdict)
    for part in parts:
        assert part in str(verdict), str(verdict)


# What is an original


def test_a_file_as_published_is_good(imagebind: Path) -> None:
    size, digest = imagebind.stat().st_size, sha256_of(imagebind)
    count = len(torch.load(imagebind, weights_only=True))
    verdict = verify(imagebind)
    assert verdict.sentence == f"is {IMAGEBIND} as published."
    assert verdict.is_good
    assert verdict.details[:3] == (
        f"tensors: {count}, all names and shapes as expected",
        f"size: {size:,} bytes; published: {size:,} bytes",
        f"sha256: {digest}; published: {digest}",
    )
    assert verdict.details[3].startswith("licence: CC BY-NC-SA 4.0; not for commercial use")


def test_a_file_under_another_name_is_recognized(imagebind: Path) -> None:
    assert_verdict(verify(imagebind.rename(imagebind.with_name("x.pth"))), True, f"{IMAGEBIND} as published, under")


def test_every_file_of_vitlens_and_open_clip_is_told_by_its_tensors(
    tmp_path: Path, publish: Callable[..., None]
) -> None:
    targets = {"audio": "audio", "depth": "depth", "tactile": "tactile", "pc": "point_cloud", "eeg": "eeg"}
    files = [saved({"state_dict": revert_vitlens(small_vitlens())}, tmp_path / "vitlensL.pt")]
    for name, modality in targets.items():
        state = {
            f"module.{key}": x for key, x in revert_vitlens(small_vitlens("text", "image", modality), "single").items()
        }
        files.append(saved({"state_dict": state, "epoch": 3}, tmp_path / f"vitlensL_{name}.pt"))
    point = CodeBindModel(CodeBindConfig(**SMALL_OPENSHAPE))
    content = {"state_dict": revert_vitlens(point, "backbone"), "logit_scale": torch.tensor(2.0), "image_proj": None}
    files.append(saved(content, tmp_path / "bigG14_sk16_openshape_all.pt"))
    for file in files:
        assert_verdict(verify(file), False, f"has the tensors of {VITLENS}/{file.name}", "but another hash")
    publish(*files)
    for file in files:
        assert_verdict(verify(file), True, f"is {VITLENS}/{file.name} as published.")


def test_open_clips_two_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    file = saved(revert_vitlens(small_vitlens("text", "image"), "single"), tmp_path / "open_clip_pytorch_model.bin")
    verdict = verify(file)
    assert_verdict(verdict, False, f"has the tensors of {OPENCLIP}, but another hash", "published: about 1.71 GB")
    assert "bigG" not in str(verdict)


def test_a_file_without_a_preset_is_compared_with_what_its_own_shapes_imply(
    tmp_path: Path, publish: Callable[..., None]
) -> None:
    state = revert_vitlens(small_vitlens("text", "image", "audio"), "single")
    file = saved({"state_dict": state}, tmp_path / "vitlensB_audio_dur5.pt")
    publish(file)
    assert_verdict(verify(file), True, f"is {VITLENS}/vitlensB_audio_dur5.pt as published.")
    unknown = file.rename(tmp_path / "vitlensL_audioset-vggsound_dur2.pt")
    publish(sha256=None)
    state.pop("visual.ln_post.bias")
    saved({"state_dict": state}, unknown)
    assert_verdict(verify(unknown), False, "1 missing: vitlens.audio.ln_post.bias")


def test_where_no_hash_is_known_the_tensors_are_enough(imagebind: Path, publish: Callable[..., None]) -> None:
    publish(imagebind, sha256=None)
    assert_verdict(verify(imagebind), True, f"has the tensors of {IMAGEBIND}; no hash of it is known")


def test_the_merges_of_clip_are_recognized_and_no_others(tmp_path: Path) -> None:
    assert_verdict(verify(MERGES), True, "is openai/CLIP/bpe_simple_vocab_16e6.txt.gz as published.", "licence: MIT")
    again = tmp_path / "again.txt.gz"
    again.write_bytes(gzip.compress(gzip.decompress(MERGES.read_bytes()), 1))
    assert_verdict(
        verify(again), False, "has the merges of openai/CLIP/bpe_simple_vocab_16e6.txt.gz, but another hash"
    )
    again.write_bytes(gzip.compress(b"#version\na b\n"))
    assert_verdict(verify(again), False, "is no original that is known", "has 1 merges")
    cut = tmp_path / MERGES.name
    cut.write_bytes(MERGES.read_bytes()[:1000])
    assert_verdict(verify(cut), False, "truncated: got 1,000 of 1,356,917 bytes. Fix: download it again.")


# What is none


@pytest.mark.parametrize("size", [0, 100, 0.5, 0.999])
def test_a_truncated_file_is_named_with_its_bytes(imagebind: Path, size: float) -> None:
    whole = imagebind.read_bytes()
    cut = whole[: size if isinstance(size, int) else int(size * len(whole))]
    imagebind.write_bytes(cut)
    assert_verdict(verify(imagebind), False, f"truncated: got {len(cut):,} of {len(whole):,} bytes. Fix: download it")
    renamed = imagebind.rename(imagebind.with_name("x.pth"))
    assert_verdict(verify(renamed), False, "cannot be read: damaged, truncated, or no checkpoint.")


def test_a_truncated_safetensors_file_is_named_too(tmp_path: Path) -> None:
    file = tmp_path / "open_clip_pytorch_model.safetensors"
    save_file(revert_vitlens(small_vitlens("text", "image"), "single"), file)
    file.write_bytes(file.read_bytes()[:-8])
    assert_verdict(verify(file), False, "truncated: got ", "of 10,158,382,892 bytes")


def test_a_changed_bit_is_another_hash(imagebind: Path) -> None:
    tensors = torch.load(imagebind, weights_only=True)
    tensors[NORM].view(torch.int32)[0] ^= 1
    before, size = sha256_of(imagebind), imagebind.stat().st_size
    saved(tensors, imagebind)
    assert imagebind.stat().st_size == size
    now = sha256_of(imagebind)
    assert_verdict(verify(imagebind), False, f"has the tensors of {IMAGEBIND}, but another hash.")
    assert_verdict(verify(imagebind), False, f"sha256: {now}; published: {before}", f"size: {size:,} bytes; published")


def test_missing_unexpected_and_misshapen_tensors_are_counted_and_named(imagebind: Path) -> None:
    wrong = {NORM: None, "modality_trunks.audio.cls": torch.ones(2), NORM.replace("weight", "bias"): torch.ones(5)}
    parts = ("is not", IMAGEBIND, f"1 missing: {NORM}", "1 unexpected: modality_trunks.audio.cls")
    shape = f"1 of another shape: {NORM.replace('weight', 'bias')} (5,) instead of (12,)"
    assert_verdict(verify(changed(imagebind, wrong, imagebind.name)), False, *parts, shape)
    renamed = imagebind.rename(imagebind.with_name("x.pth"))
    assert_verdict(verify(renamed), False, "is no original that is known", f"of those of {IMAGEBIND} 1 missing")


def test_a_long_list_of_tensors_is_cut(imagebind: Path) -> None:
    kept = {key: x for key, x in torch.load(imagebind, weights_only=True).items() if "modality_trunks" not in key}
    text = str(verify(saved(kept, imagebind)))
    assert "missing: modality_trunks" in text.replace("missing: modality_preprocessors", "")
    assert "more" in text
    assert len(text) < 1000


def test_what_the_key_map_drops_or_keeps_as_a_scale_may_be_absent(imagebind: Path) -> None:
    mask, scale = "modality_preprocessors.text.mask", "modality_postprocessors.audio.1.log_logit_scale"
    verdict = verify(changed(imagebind, {mask: None, scale: None}, "x.pth"))
    assert_verdict(verdict, False, f"has the tensors of {IMAGEBIND}, but another hash")


def test_a_file_with_the_name_of_another_is_named(tmp_path: Path) -> None:
    state = revert_vitlens(small_vitlens("text", "image", "depth"), "single")
    file = saved({"state_dict": state}, tmp_path / "vitlensL_audio.pt")
    expected = f"is named like {VITLENS}/vitlensL_audio.pt, but has the tensors of {VITLENS}/vitlensL_depth.pt."
    assert verify(file).sentence == expected
    assert not verify(file).is_good


def test_a_withdrawn_file_is_not_the_published_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, publish: Callable[..., None]
) -> None:
    file = saved({"state_dict": revert_vitlens(small_vitlens())}, tmp_path / "vitlensL.pt")
    digest, size = sha256_of(file), file.stat().st_size
    old = [dataclasses.replace(one, sha256=digest, num_bytes=size) if one.is_withdrawn else one for one in ORIGINALS]
    monkeypatch.setattr(originals, "ORIGINALS", tuple(old))
    assert_verdict(verify(file), False, f"is {VITLENS}/vitlensL.pt as first published; its authors withdrew it.")


def test_code_is_refused_and_never_run(tmp_path: Path) -> None:
    target = tmp_path / "made"
    torch.save({"a": Harmful(target)}, tmp_path / "imagebind_huge.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"a": Harmful(target)}, protocol=2))
    torch.save({"a": Harmful(target)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    for name in ("imagebind_huge.pth", "plain.pth", "old.pth"):
        assert_verdict(verify(tmp_path / name), False, "holds code; refused, and nothing of it was run.", name)
    assert not target.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param([torch.ones(1)], "holds list", id="a list"),
        pytest.param({"a.b": torch.ones(1)}, "has keys such as a.b", id="other keys"),
        pytest.param({"modality_trunks.x": 3}, "expected tensors only", id="a number"),
        pytest.param({"state_dict": {}}, "its state_dict is dict", id="nothing"),
    ],
)
def test_another_checkpoint_is_no_original(tmp_path: Path, content: Any, message: str) -> None:
    assert_verdict(verify(saved(content, tmp_path / "x.pt")), False, "is no original that is known.", message)


def test_an_absent_file_is_a_verdict(tmp_path: Path) -> None:
    assert_verdict(verify(tmp_path / "absent.pth"), False, "absent.pth: no such file")


# Experiments of CodeBind


def test_an_experiment_has_no_published_hash_but_its_tensors_are_compared(experiment: Path) -> None:
    verdict = verify(experiment)
    assert_verdict(verdict, True, "Visual-AI/CodeBind/experiments/<name>; no hash of it is known to compare with.")
    assert_verdict(verdict, True, "encoders: vision, audio, text; 6 matrices have LoRA", "have to come from `--base`")


def test_a_changed_experiment_is_named(experiment: Path) -> None:
    folder = experiment / "checkpoints"
    head = folder / "imagebind-heads_mvq-audio_best.pth"
    tensors = torch.load(head, weights_only=True)
    saved({key: x for key, x in tensors.items() if "weight" not in key or x.ndim > 1}, head)
    assert_verdict(
        verify(experiment), False, "its tensors are other ones", "1 missing: modality_heads_mvq.audio.0.weight"
    )
    saved({**tensors, "0.weight": torch.ones(3), "new": torch.ones(1)}, head)
    assert_verdict(verify(experiment), False, "modality_heads_mvq.audio.0.weight (3,) instead of (12,)", "audio.new")
    saved({"0.weight": Harmful(experiment / "made")}, head)
    assert_verdict(verify(experiment), False, "holds code; refused")
    assert not (experiment / "made").exists()
    head.unlink()
    assert_verdict(verify(experiment), False, "is no whole experiment of CodeBind.", "heads_mvq-audio")


def test_lora_of_another_width_is_named(experiment: Path) -> None:
    file = experiment / "checkpoints" / "imagebind-lora-audio_best.safetensors"
    lora = load_file(file)
    lora["blocks.1.mlp.fc1_lora_down"] = torch.ones(3, 7)
    save_file(lora, file)
    assert_verdict(verify(experiment), False, "(48, 3) x (3, 7) adapts", "fc1, which is a layer of shape (48, 12)")


def test_one_file_of_an_experiment_is_not_enough(experiment: Path) -> None:
    file = experiment / "checkpoints" / "imagebind-heads-audio_best.pth"
    assert_verdict(verify(file), False, "is one of the files of an experiment of CodeBind. Fix: give the folder")


def test_the_other_files_of_an_experiment_can_be_asked_for(experiment: Path) -> None:
    assert_verdict(verify(experiment, which="last"), False, "which: got 'last', but of imagebind-")
    with pytest.raises(ValueError, match=r"which: got 'first'; allowed: 'best', 'last'"):
        verify(experiment, which="first")


# How


def test_reading_for_a_look_leaves_the_numbers_in_the_file(imagebind: Path) -> None:
    mapped, read = read_file(imagebind, mapped=True), read_file(imagebind)
    assert mapped.keys() == read.keys()
    assert torch.equal(mapped[NORM], read[NORM])
    # All tensors of a mapped file lie in one stretch of memory, as they lie in the file.
    places = [x.untyped_storage().data_ptr() for x in mapped.values()]
    assert max(places) - min(places) < imagebind.stat().st_size
    old = imagebind.with_name("old.pth")
    torch.save(dict(read), old, _use_new_zipfile_serialization=False)
    assert torch.equal(read_file(old, mapped=True)[NORM], read[NORM])


def test_large_files_are_hashed_with_a_bar_and_small_ones_without(
    imagebind: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    verify(imagebind)
    assert "Hashing" not in capsys.readouterr().err
    monkeypatch.setattr(verification, "_BAR_FROM", 1)
    verify(imagebind)
    assert "Hashing imagebind_huge.pth: 100%" in capsys.readouterr().err


def test_a_file_of_a_size_that_no_original_has_is_not_hashed(imagebind: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = changed(imagebind, {"modality_preprocessors.text.mask": None}, "x.pth")
    monkeypatch.setattr(verification, "sha256_of", partial(pytest.fail, "hashed"))
    assert "sha256" not in str(verify(other))


def test_the_command_says_what_each_file_is(imagebind: Path, experiment: Path, tmp_path: Path) -> None:
    before = sorted(path.name for path in tmp_path.rglob("*"))
    done = run_example("convert", "--verify", imagebind, MERGES, experiment)
    assert done.returncode == 0, done.stderr
    heads = [line for line in done.stdout.splitlines() if not line.startswith("  ")]
    assert [line.split(": ")[0] for line in heads] == ["imagebind_huge.pth", MERGES.name, "audio"]
    assert "as published" in heads[0]
    imagebind.write_bytes(imagebind.read_bytes()[:-100])
    done = run_example("convert", "--verify", MERGES, imagebind)
    assert done.returncode == 1
    assert "imagebind_huge.pth: truncated: got" in done.stdout
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_a_conversion_still_needs_its_arguments(imagebind: Path, tmp_path: Path) -> None:
    done = run_example("convert", "--imagebind", imagebind)
    assert done.returncode == 2
    assert "--bpe, --output_dir: a conversion needs both" in done.stderr
    done = run_example("convert", "--verify", imagebind, "--imagebind", imagebind)
    assert done.returncode == 2
    assert "--imagebind and --verify: got both" in done.stderr
