"""The converted model equals the official CodeBind: tokens, embeddings, codes, reconstructions, losses, files."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from reference_checkpoints import golden_inputs, relative
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import normalize

from codebind_hf import CodeBindConfig, CodeBindModel
from codebind_hf.conversion import convert_codebind, revert_codebind
from codebind_hf.conversion.codebind_files import flat_key, read_experiment
from codebind_hf.conversion.imagebind import empty_model
from codebind_hf.model.inputs import model_inputs


pytestmark = pytest.mark.parity
EXPERIMENTS = ("depth", "audio", "thermal", "tactile", "eeg", "imu")
TERMS = {
    "align": "loss_cross",
    "cm": "loss_cmcm",
    "orth": "loss_modal_decomp",
    "uni": "loss_uniform",
    "commit": "loss_vq",
    "cctr": "loss_vq_contra",
    "cuni": "loss_vq_uni",
}
# A code whose cosine beats the second best by less may change with the attention kernel.
NEAR_TIE = 1e-4

LEFT_OUT = {
    "modality_preprocessors.text.mask",
    "modality_heads_mvq.text.proj.0.weight",
    "modality_heads_mvq.text.proj.0.bias",
    "modality_heads_mvq.text.proj.1.weight",
}


def kind(key: str) -> str:
    """A key without the number of its block."""
    return re.sub(r"blocks\.\d+", "blocks.*", key)


class Golden:
    """One experiment: the converted model and what the reference computed with its own loader."""

    def __init__(self, folder: Path, architecture: dict[str, Any], name: str) -> None:
        self.name, self.folder, self.architecture = name, folder, architecture
        self.expected = load_file(folder / name / "outputs.safetensors")
        inputs = golden_inputs(folder)
        self.inputs = {"text": inputs["text"], name: inputs[name]}
        self.inputs["vision"] = inputs["vision_video" if name == "audio" else "vision"]
        # The reference's loader reads LoRA from "last" although everything else is from "best".
        self.model = self.convert(lora_which="last", parity=True)

    def convert(self, **options: Any) -> CodeBindModel:
        base = [self.folder / "imagebind_tiny.pth"]
        if self.name == "eeg":
            base.append(self.folder / "eeg_trunk_extra.pth")
        return convert_codebind(self.folder / self.name, base, self.architecture, **options)


@pytest.fixture(scope="module", params=EXPERIMENTS)
def golden(request: pytest.FixtureRequest, codebind_golden: tuple[Path, dict[str, Any]]) -> Golden:
    return Golden(*codebind_golden, request.param)


@torch.no_grad()
def test_tokens_embeddings_and_codes_are_the_references(golden: Golden) -> None:
    for name, values in golden.inputs.items():
        output = golden.model(**values, output_hidden_states=True)
        (modality,) = output.embeds
        suffix = "vq" if name == "text" else "vq_cls"
        expected = golden.expected
        if f"{name}.trunk_output" in expected:
            assert relative(output.hidden_states[modality][-1], expected[f"{name}.trunk_output"]) < 2e-6
        assert relative(output.embeds[modality], expected[f"{name}.{suffix}_common"]) < 1e-6
        if f"{name}.{suffix}_common_indices" in expected:
            assert torch.equal(output.codes[modality].shared, expected[f"{name}.{suffix}_common_indices"])
        if name != "text":
            assert relative(output.specific_embeds[modality], expected[f"{name}.vq_cls_specific"]) < 1e-6
            assert torch.equal(output.codes[modality].specific, expected[f"{name}.vq_cls_specific_indices"])
            books, codes = golden.model.codebooks, output.codes[modality]
            encoder = golden.model.config.modality(modality).encoder
            parts = books.shared.lookup(codes.shared), books.specific[encoder].lookup(codes.specific)
            both = normalize(torch.cat([part.flatten(1) for part in parts], dim=-1), dim=-1)
            assert relative(both, expected[f"{name}.vq_cls_concat"]) < 1e-6


@torch.no_grad()
def test_all_tokens_are_the_references_before_and_after_the_codebooks(golden: Golden) -> None:
    expected, model = golden.expected, golden.model
    for name in (name for name in golden.inputs if f"{name}.all_tokens" in expected):
        ((modality, value),) = model_inputs(model.config, golden.inputs[name], None).items()
        encoder = model.config.modality(modality).encoder
        encoded = model.encoders[encoder](value.values, clips=value.clips, all_tokens=True)
        joint = torch.cat([encoded.shared, encoded.specific], dim=-1)
        assert relative(joint, expected[f"{name}.all_tokens"]) < 2e-6
        for part, theirs in (("shared", "common"), ("specific", "specific")):
            quantized = model.codebooks.quantize(part, encoder, getattr(encoded, part))
            clear = expected[f"{name}.vq_{theirs}_margin"] > NEAR_TIE
            assert clear.float().mean() > 0.99
            assert torch.equal(quantized.ids[clear], expected[f"{name}.vq_{theirs}_indices"][clear])
            whole = clear.all(-1)
            assert relative(quantized.embedding[whole], expected[f"{name}.vq_{theirs}"][whole]) < 1e-6


@torch.no_grad()
def test_decoders_are_the_references(golden: Golden) -> None:
    for name in (name for name in golden.inputs if f"{name}.rec" in golden.expected):
        seen: dict[str, Tensor] = {}
        ((modality, values),) = model_inputs(golden.model.config, golden.inputs[name], None).items()
        decoder = golden.model.decoders[values.modality.encoder]
        hook = decoder.head.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.update(tokens=inputs[0]))
        output = golden.model(**golden.inputs[name], output_reconstructions=True)
        hook.remove()
        assert relative(seen["tokens"], golden.expected[f"{name}.decoder_trunk_output"]) < 2e-6
        assert relative(output.reconstructions[modality], golden.expected[f"{name}.rec"]) < 2e-6
        targets = load_file(golden.folder / "targets.safetensors")
        source = "vision_video" if modality == "video" else name
        assert relative(output.reconstruction_targets[modality], targets[source]) < 1e-6


@torch.no_grad()
def test_loss_terms_and_total_are_the_references(golden: Golden) -> None:
    inputs = {key: value for values in golden.inputs.values() for key, value in values.items()}
    output = golden.model(**inputs, return_loss=True)
    expected = {term: golden.expected.get(f"loss.{theirs}") for term, theirs in TERMS.items()}
    pixels = [value for key, value in golden.expected.items() if key.startswith("loss.loss_pixel")]
    expected["recon"] = torch.stack(pixels).sum() if pixels else None
    present = {term: value.item() for term, value in expected.items() if value is not None}
    assert {term: value.item() for term, value in output.loss_terms.items()} == pytest.approx(present, rel=1e-6)
    assert output.loss.item() == pytest.approx(golden.expected["loss.total"].item(), rel=1e-6)


def test_scaled_embeddings_are_the_references(golden: Golden) -> None:
    """The scales that our embeddings leave out are kept, and the reference caps them at 100."""
    for name, values in golden.inputs.items():
        ((_, embeds),) = golden.model(**values).embeds.items()
        log_scale = golden.model.config.source_scales.get(f"modality_postprocessors_new.{name}.log_logit_scale", 0.0)
        scale = torch.tensor(log_scale).exp().clamp(max=100)
        assert relative(scale * embeds.detach(), golden.expected[f"{name}.vq_common_scaled"]) < 1e-6


@torch.no_grad()
def test_lora_of_best_gives_the_references_embeddings_of_best(golden: Golden) -> None:
    file = golden.folder / golden.name / "outputs_lora_best.safetensors"
    if not file.exists():
        assert not list((golden.folder / golden.name / "checkpoints").glob("*lora*"))
        return
    expected = load_file(file)
    for lora in ("merge", "adapter"):
        output = golden.convert(lora=lora)(**golden.inputs[golden.name])
        assert torch.equal(output.codes[golden.name].shared, expected[f"{golden.name}.vq_cls_common_indices"])
        assert relative(output.embeds[golden.name], expected[f"{golden.name}.vq_cls_common"]) < 1e-6
        assert relative(output.specific_embeds[golden.name], expected[f"{golden.name}.vq_cls_specific"]) < 1e-6


def test_every_file_is_reverted_bit_for_bit_but_for_tensors_that_are_never_used(golden: Golden) -> None:
    files = revert_codebind(golden.convert(lora="adapter"))
    unused = ("hid_conv", "out_conv")
    for file in (golden.folder / golden.name / "checkpoints").glob("*_best.*"):
        read = load_file(file) if file.suffix == ".safetensors" else torch.load(file, weights_only=True)
        name = file.stem.removesuffix("_best")
        kept = {key: x for key, x in read.items() if not key.startswith(unused) and key != "mask"}
        if name == "imagebind-heads_mvq-text":
            kept = {}
        assert files.get(name, {}).keys() == kept.keys()
        for key, x in kept.items():
            assert torch.equal(files[name][key], x), (name, key)
            assert files[name][key].dtype == x.dtype


def test_the_preset_has_the_keys_of_the_official_files(codebind_golden: tuple[Path, dict[str, Any]]) -> None:
    """Without the sizes: the kinds of tensors of all six experiments together, and those of ImageBind's trunks."""
    folder, _ = codebind_golden
    theirs = {kind(key) for key in torch.load(folder / "imagebind_tiny.pth", weights_only=True) if "trunks" in key}
    theirs |= {kind(key) for key in torch.load(folder / "eeg_trunk_extra.pth", weights_only=True)}
    for name in EXPERIMENTS:
        theirs |= {kind(key) for key in read_experiment(folder / name, "best", "best").tensors}
    ours = revert_codebind(empty_model(CodeBindConfig.from_preset("codebind-ib-huge")))
    ours_flat = {kind(flat_key(file, key)) for file, tensors in ours.items() for key in tensors}
    left_out = {key for key in theirs - ours_flat if not key.endswith("log_logit_scale")}
    assert all("hid_conv" in key or "out_conv" in key or key in LEFT_OUT for key in left_out), left_out
    assert ours_flat <= theirs


def test_a_text_cut_before_its_end_is_pooled_where_the_reference_pools_it(
    codebind_golden: tuple[Path, dict[str, Any]],
) -> None:
    """The reference's tokenizer loses the end token of long texts; ours keeps it, and `forward` asks for it."""
    golden = Golden(*codebind_golden, "depth")
    ids = load_file(golden.folder / "inputs.safetensors")["text_noeot"]
    with torch.no_grad():
        encoded = golden.model.encoders["text"](ids)
        quantized = golden.model.codebooks.quantize("shared", "text", encoded.shared[:, 0])
    assert relative(quantized.embedding, golden.expected["text_noeot.vq_common"]) < 1e-6
    with pytest.raises(ValueError, match="input_ids"):
        golden.model(input_ids=ids)
