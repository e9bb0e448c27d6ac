"""Loss terms with `parity_losses`: the values and gradients of the released code."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from common import ALL_TERMS, BATCH, small_config, tiny_inputs, tiny_model, unit
from goldens import FIXTURES, tensors
from torch import Tensor

from codebind_hf.model import objective
from codebind_hf.model.codebooks import Codebook, Quantized, SharedSpecificCodebook
from codebind_hf.model.configuration_codebind import CodeBindConfig
from codebind_hf.model.losses import info_nce, uniformity
from codebind_hf.model.modalities import MODALITIES
from codebind_hf.model.modeling_codebind import CodeBindModel
from codebind_hf.model.objective import ModalityState
from codebind_hf.model.parity_losses import (
    ParityObjective,
    cosine_code_matching,
    elementwise_commitment,
    softmax_code_contrast,
    token_orthogonality,
    unit_code_similarity,
)


TERMS = tuple(term for term in ALL_TERMS if term not in ("seg", "decorr"))
CHOSEN = ("text", "vision", "depth")
WEIGHTS = {"commit": 10.0, "cctr": 0.01, "cuni": 0.01, "cm": 0.05, "orth": 0.1, "uni": 1.0, "align": 0.0}
SIZES = {"code_dim": 8, "num_shared_codes": 32, "num_specific_codes": 16, "normalize_codes": False}
NO_BRIDGE = {"pair_weights": {"bridge": 0.0}}


def assert_value(value: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(value.detach(), expected, rtol=1e-6, atol=0)


def assert_gradients(value: Tensor, inputs: dict[str, Tensor], expected: dict[str, Tensor], case: str) -> None:
    """The gradient reaches the inputs that it reaches in the released code, and no other, with the same numbers."""
    wanted = {name: expected[f"grad.{case}.{name}"] for name in inputs if f"grad.{case}.{name}" in expected}
    if not value.requires_grad:
        assert not wanted
        return
    gradients = torch.autograd.grad(value, list(inputs.values()), allow_unused=True)
    reached = {name: x for name, x in zip(inputs, gradients, strict=True) if x is not None and x.any()}
    assert reached.keys() == wanted.keys()
    for name, gradient in reached.items():
        assert (gradient - wanted[name]).norm() <= 1e-5 * wanted[name].norm()


def make_books(config: CodeBindConfig, codes: dict[str, Tensor]) -> SharedSpecificCodebook:
    """Codebooks that hold `codes`, named as in the released code."""
    books = SharedSpecificCodebook(config)
    for name, values in codes.items():
        book = books.shared if name == "common" else books.specific[name]
        assert isinstance(book, Codebook)
        book.codes.copy_(values)
    return books


def make_state(books: SharedSpecificCodebook, modality: str, z: Tensor, shared_dim: int) -> ModalityState:
    """Everything quantized as the model does it, from `(batch, dim)` pooled or `(batch, tokens, dim)` embeddings."""
    named = MODALITIES[modality]
    shared = books.quantize("shared", named.encoder, z[..., :shared_dim])
    own = books.quantize("specific", named.encoder, z[..., shared_dim:]) if modality != "text" else None
    if z.ndim == 2:
        return ModalityState(named, shared, own)
    pooled = [None if x is None else Quantized(*(y[:, 0] for y in x)) for x in (shared, own)]  # type: ignore[index]
    return ModalityState(named, pooled[0], pooled[1], shared, own)  # type: ignore[arg-type]


def make_objective(
    config: CodeBindConfig, books: SharedSpecificCodebook, states: list[ModalityState]
) -> ParityObjective:
    rows = {state.modality.name: torch.arange(len(state.shared.embedding)) for state in states}
    scale = torch.tensor([config.logit_scale_init_value]).exp()
    named = {state.modality.name: state for state in states}
    return ParityObjective(config, books, scale, named, rows, frozenset())


# The released terms on one quantizer


def losses_config(**overrides: Any) -> CodeBindConfig:
    sizes = {**SIZES, "shared_dim": 32, "specific_dim": 32, "logit_scale_init_value": -float(torch.tensor(0.07).log())}
    return small_config("text", "image", "depth", **sizes, **overrides)


def golden_codes() -> dict[str, Tensor]:
    return {name[6:]: x for name, x in tensors("losses/inputs.safetensors").items() if name.startswith("codes.")}


def quantizer_inputs(tag: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Leaves by their golden name, and what the quantizer gets of them."""
    leaves = {name: x.requires_grad_() for name, x in tensors("losses/inputs.safetensors").items() if name[:2] == "z."}
    part = {"all_tokens": slice(None), "one_token": slice(0, 1), "cls_only": 0}[tag]
    return leaves, {name[2:]: x if name == "z.text" else x[:, part] for name, x in leaves.items()}


def term_value(term: str, modalities: Iterable[str], z: dict[str, Tensor], **overrides: Any) -> Tensor:
    """A term, or the sum of all weighted terms, of some modalities."""
    weights = WEIGHTS if term == "total" else {"align": 0.0, term: 1.0}
    config = losses_config(loss_weights=weights, **overrides)
    books = make_books(config, golden_codes())
    names = {"vision": "image"}
    states = [make_state(books, names.get(modality, modality), z[modality], 32) for modality in modalities]
    terms = make_objective(config, books, states).terms()
    return torch.stack([config.loss_weight(name) * value for name, value in terms.items()]).sum()


def sums(case: str, term: str) -> dict[str, tuple[str, tuple[str, ...], dict]]:
    return {f"{case}.{x}": (term, (x,), {}) for x in CHOSEN} | {f"{case}.sum": (term, CHOSEN, {})}


CASES: dict[str, tuple[str, tuple[str, ...], dict]] = {
    **sums("loss_codebook", "commit"),
    **sums("loss_contra", "cctr"),
    **sums("loss_uni", "cuni"),
    "cmcm.intra": ("cm", CHOSEN, {}),
    "cmcm.nointra": ("cm", CHOSEN, NO_BRIDGE),
    "cmcm.pair_vision_text": ("cm", ("vision", "text"), {}),
    "modal_decomp": ("orth", CHOSEN, {}),
    "uniform": ("uni", CHOSEN, {}),
    "info_nce.plain": ("align", CHOSEN, NO_BRIDGE),
    "info_nce.plain_intra": ("align", CHOSEN, {}),
    # A learned scale on top of the embeddings is lost in the cosine.
    "info_nce.post": ("align", CHOSEN, NO_BRIDGE),
    "info_nce.post_intra": ("align", CHOSEN, {}),
    "vq_loss_total": ("total", CHOSEN, {}),
}
PARTS = {"common_part": "shared", "specific_part": "specific"}
TAGS = ("all_tokens", "one_token", "cls_only")


@pytest.mark.parity
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("tag", TAGS)
def test_a_term_has_the_released_value_and_gradient(tag: str, case: str) -> None:
    expected, name = tensors("losses/expected.safetensors"), f"{tag}.{case}"
    described = json.loads((FIXTURES / "losses" / "cases.json").read_text())["cases"][name]
    if "error" in described:
        assert (tag, f"value.{name}" in expected) == ("cls_only", False)
        return
    leaves, z = quantizer_inputs(tag)
    term, modalities, overrides = CASES[case]
    value = term_value(term, modalities, z, **overrides)
    assert_value(value, expected[f"value.{name}"])
    assert value.requires_grad == described["requires_grad"]
    assert_gradients(value, leaves, expected, name)


@pytest.mark.parity
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("modality", CHOSEN)
@pytest.mark.parametrize("tag", TAGS)
def test_one_part_of_the_commitment_has_the_released_value_and_gradient(tag: str, modality: str, part: str) -> None:
    expected, name = tensors("losses/expected.safetensors"), f"{tag}.loss_codebook.{modality}.{part}"
    leaves, z = quantizer_inputs(tag)
    books = make_books(losses_config(), golden_codes())
    if (modality, part) == ("text", "specific_part"):
        assert f"value.{name}" not in expected
        return
    half = z[modality][..., :32] if part == "common_part" else z[modality][..., 32:]
    quantized = books.quantize(PARTS[part], modality, half)
    assert torch.equal(quantized.ids, expected[f"{tag}.indices.{part.removesuffix('_part')}.{modality}"])  # type: ignore[arg-type]
    value = elementwise_commitment(quantized.segments, quantized.chosen)  # type: ignore[arg-type]
    assert_value(value, expected[f"value.{name}"])
    assert_gradients(value, leaves, expected, name)


def mean_info_nce(f: dict[str, Tensor], pairs: tuple[str, ...], scale: float = 1 / 0.07) -> Tensor:
    f = {name: torch.nn.functional.normalize(x, dim=-1) for name, x in f.items()}
    return torch.stack([info_nce(*(f[name] for name in pair.split()), scale) for pair in pairs]).mean()


def self_contrast(f: dict[str, Tensor]) -> Tensor:
    """Off in every released configuration: the first view is aligned, and with the second at temperature 1."""
    first, second = f["vision_two_views"].chunk(2)
    views = {"first": first, "second": second, "depth": f["depth"]}
    return (mean_info_nce(views, ("first depth",)) + mean_info_nce(views, ("first second",), scale=1.0)) / 2


TARGETS = ("vision depth", "text depth")
PURE: dict[str, Any] = {
    "info_nce.plain": lambda f: mean_info_nce(f, TARGETS),
    "info_nce.post": lambda f: mean_info_nce(f, TARGETS),
    "info_nce.intra": lambda f: mean_info_nce(f, (*TARGETS, "vision text")),
    "info_nce.post_intra": lambda f: mean_info_nce(f, (*TARGETS, "vision text")),
    "info_nce.t005_intra": lambda f: mean_info_nce(f, (*TARGETS, "vision text"), scale=1 / 0.05),
    "info_nce.inter_vision_only": lambda f: mean_info_nce(f, ("vision depth", "vision text")),
    "info_nce.inter_text_only": lambda f: mean_info_nce(f, ("text depth",)),
    "info_nce.pair_vision_text": lambda f: mean_info_nce(f, ("vision text",)),
    "info_nce.self_contrast": self_contrast,
    "pure.cmcm.intra": lambda d: torch.stack(
        [cosine_code_matching(d[x], d[y]) for x, y in (("vision", "depth"), ("text", "depth"), ("vision", "text"))]
    ).mean(),
    "pure.cmcm.nointra": lambda d: torch.stack(
        [cosine_code_matching(d[x], d["depth"]) for x in ("vision", "text")]
    ).mean(),
    "pure.contrastive_loss": lambda d: softmax_code_contrast(d["dist_flat"]),
    "pure.codebook_uniform_loss": lambda d: uniformity(d["normed_codes_common"]),
    "pure.similarity_loss": lambda d: unit_code_similarity(d["normed_codes_common"]),
}


@pytest.mark.parity
@pytest.mark.parametrize("case", PURE)
def test_a_function_alone_has_the_released_value_and_gradient(case: str) -> None:
    expected = tensors("losses/expected.safetensors")
    prefix = ("feats.",) if case.startswith("info_nce") else ("dist", "pure.normed_codes_common")
    given = {**tensors("losses/inputs.safetensors"), **expected}
    leaves = {name: x.requires_grad_() for name, x in given.items() if name.startswith(prefix)}
    value = PURE[case]({name.split(".", 1)[-1]: x for name, x in leaves.items()})
    assert_value(value, expected[f"value.{case}"])
    assert_gradients(value, leaves, expected, case)


@pytest.mark.parity
def test_every_released_value_is_compared() -> None:
    compared = {f"{tag}.{case}" for tag in TAGS for case in CASES} | set(PURE)
    compared |= {f"{tag}.loss_codebook.{modality}.{part}" for tag in TAGS for modality in CHOSEN for part in PARTS}
    values = {name[6:] for name in tensors("losses/expected.safetensors") if name.startswith("value.")}
    assert values <= compared


# The released models


SETUPS = {"audio": 0.05, "depth": 0.07, "thermal": 0.1, "tactile": 0.07, "eeg": 0.07, "imu": 0.07}
NAMES = {
    "align": ("cross",),
    "cm": ("cmcm",),
    "orth": ("modal_decomp",),
    "uni": ("uniform",),
    "commit": ("vq",),
    "cctr": ("vq_contra",),
    "cuni": ("vq_uni",),
}


def released_objective(setup: str, terms: Iterable[str], pooled: bool) -> ParityObjective:
    """The objective on the embeddings that a released model gave, before quantization."""
    outputs = tensors(f"codebind_tiny/{setup}/outputs.safetensors")
    saved = tensors(f"codebind_tiny/{setup}/checkpoints/imagebind-vector_quantise-_best.pth")
    codes = {name.split(".")[1]: x for name, x in saved.items() if name.endswith("embedding.weight")}
    vision = "video" if setup == "audio" else "image"
    fields = {
        "logit_scale_init_value": -float(torch.tensor(SETUPS[setup]).log()),
        "loss_weights": {"align": 0.0, **dict.fromkeys(terms, 1.0)},
        f"{setup}_config": {"specific_dim": outputs[f"{setup}.cls"].shape[1] - 64},
    }
    config = small_config("text", "image", setup, **{**SIZES, "shared_dim": 64, "specific_dim": 64}, **fields)
    books = make_books(config, codes)
    states = []
    for modality, name in (("text", "text"), ("vision", vision), (setup, setup)):
        key = f"{modality}.cls" if pooled or modality == "text" else f"{modality}.all_tokens"
        states.append(make_state(books, name, outputs[key], 64))
    if not pooled:
        targets = tensors("codebind_tiny/targets.safetensors")
        for state, modality in zip(states[1:], ("vision", setup), strict=True):
            state.reconstruction = outputs[f"{modality}.rec"]
            state.target = targets["vision_video" if state.modality.name == "video" else modality]
    return make_objective(config, books, states)


def summed(outputs: dict[str, Tensor], names: Iterable[str]) -> Tensor:
    return torch.stack([outputs[f"loss.loss_{name}"] for name in names]).sum()


@pytest.mark.parity
@pytest.mark.parametrize("setup", SETUPS)
def test_the_terms_of_pooled_embeddings_are_those_of_every_released_model(setup: str) -> None:
    outputs = tensors(f"codebind_tiny/{setup}/outputs.safetensors")
    terms = released_objective(setup, ("align", "cm", "uni"), pooled=True).terms()
    for name, value in terms.items():
        assert_value(value, summed(outputs, NAMES[name]))
    assert terms.keys() == {"align", "cm", "uni"}


@pytest.mark.parity
@pytest.mark.parametrize(
    ("setup", "commit", "terms"), [("depth", 1000.0, TERMS), ("audio", 50.0, set(TERMS) - {"orth"})]
)
def test_all_terms_and_their_sum_are_those_of_a_released_model(setup: str, commit: float, terms: set[str]) -> None:
    outputs = tensors(f"codebind_tiny/{setup}/outputs.safetensors")
    values = released_objective(setup, terms, pooled=False).terms()
    names = {**NAMES, "recon": ("pixel_recons_vision", f"pixel_recons_{setup}")}
    for name, value in values.items():
        assert_value(value, summed(outputs, names[name]))
    assert values.keys() == set(terms)
    weights = {"commit": commit, "cctr": 0.01, "cuni": 0.01, "cm": {"depth": 0.1, "audio": 1.0}[setup], "orth": 0.1}
    total = torch.stack([weights.get(name, 1.0) * value for name, value in values.items()]).sum()
    assert_value(total, outputs["loss.total"])


@pytest.mark.parity
@pytest.mark.parametrize("setup", SETUPS)
def test_the_codebook_terms_of_one_modality_are_those_of_every_released_model(setup: str) -> None:
    outputs = tensors(f"codebind_tiny/{setup}/outputs.safetensors")
    released = released_objective(setup, ("commit", "cctr", "cuni"), pooled=True)
    state = make_state(released.codebooks, setup, outputs[f"{setup}.all_tokens"], 64)
    terms = make_objective(released.config, released.codebooks, [state]).terms()
    for name, original in (("commit", "codebook"), ("cctr", "contra"), ("cuni", "uni")):
        assert_value(terms[name], outputs[f"{setup}.loss_{original}"])


# Without reference values


def test_the_norm_of_token_products_is_the_naive_one() -> None:
    shared, own = unit(3, 4, 8), unit(3, 4, 8, seed=1)
    by_hand = [sum(float(a @ b) ** 2 for a in x for b in y) ** 0.5 for x, y in zip(shared, own, strict=True)]
    torch.testing.assert_close(token_orthogonality(shared, own), torch.tensor(by_hand).mean())


def trained_model(parity_losses: bool) -> CodeBindModel:
    """Text, image and thermal, of which only thermal is trained."""
    weights = dict.fromkeys(TERMS, 1.0)
    fields = {"specific_dim": 24, "loss_weights": weights, "parity_losses": parity_losses}
    model = tiny_model(small_config("text", "image", "thermal", **fields))
    for name in ("text", "vision"):
        model.encoders[name].requires_grad_(False)
    return model


def model_terms(model: CodeBindModel, without: tuple[str, ...] = ()) -> dict[str, Tensor]:
    left_out = ("pixel_values_videos", *without)
    inputs = {name: x for name, x in tiny_inputs(model.config).items() if name not in left_out}
    return model(**inputs, return_loss=True).loss_terms


def test_terms_that_have_no_gradient_in_the_released_code_have_none() -> None:
    terms, usual = model_terms(trained_model(True)), model_terms(trained_model(False))
    assert {name for name, x in terms.items() if not x.requires_grad} == {"cm", "cctr", "cuni"}
    assert {name for name, x in usual.items() if not x.requires_grad} == {"cuni"}


def test_every_modality_counts_whether_it_is_trained_or_not() -> None:
    model = trained_model(True)
    books = model.codebooks
    shared, vision, thermal = (
        float(uniformity(book.codes)) for book in (books.shared, books.specific["vision"], books.specific["thermal"])
    )
    terms = model_terms(model)
    assert float(terms["cuni"]) == pytest.approx(3 * shared + vision + thermal)
    without_image = model_terms(model, without=("pixel_values",))
    assert float(without_image["cuni"]) == pytest.approx(2 * shared + thermal)
    assert terms["commit"] > without_image["commit"]


def test_a_video_is_vision_as_an_image_is() -> None:
    config = small_config("text", "image", "depth", loss_weights={"align": 1.0})
    books = SharedSpecificCodebook(config)
    z = {name: unit(BATCH, 44, seed=i) for i, name in enumerate(("text", "image", "depth"))}
    values = []
    for vision in ("image", "video"):
        states = [make_state(books, x, z["image" if x == vision else x], 24) for x in ("depth", vision)]
        states.insert(0, make_state(books, "text", z["text"][:, :24], 24))
        values.append(make_objective(config, books, states).terms()["align"])
    assert torch.equal(*values)


def test_negatives_come_from_the_own_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(x: Tensor) -> Tensor:
        raise AssertionError("a collective that the other processes may not make")

    monkeypatch.setattr(objective, "gather_with_gradient", forbidden)
    assert "align" in model_terms(trained_model(True))


def test_the_option_is_saved_with_the_model(tmp_path: Path) -> None:
    small_config("text", "image", parity_losses=True, parity_codebooks=True).save_pretrained(tmp_path)
    for config, value in ((CodeBindConfig.from_pretrained(tmp_path), True), (CodeBindConfig(), False)):
        assert (config.parity_losses, config.parity_codebooks) == (value, value)


def test_a_batch_without_two_modalities_is_an_error() -> None:
    with pytest.raises(ValueError, match="no two modalities to align"):
        model_terms(trained_model(True), without=("pixel_values", "thermal_values"))
