"""Codebooks with `parity_codebooks`: updates, restarts and k-means of the released code."""

from pathlib import Path
from typing import Any

import pytest
import torch
from common import assert_same, buffers_of, small_config, tiny_config, tiny_inputs, tiny_model, unit
from goldens import tensors
from torch import Tensor
from torch.nn.functional import normalize

from codebind_hf.model.codebooks import Codebook, Quantized, counts_and_sums
from codebind_hf.model.configuration_codebind import CodeBindConfig
from codebind_hf.model.parity_codebooks import ParityCodebook, ParityCodebooks, drawn_anchors, ordered_kmeans
from codebind_hf.model.parity_losses import code_cosines, elementwise_commitment, softmax_code_contrast


NAMES = {"weight": "codes", "cluster_size": "cluster_size", "embed_avg": "code_sum", "embed_prob": "usage"}


def golden(name: str) -> dict[str, Tensor]:
    return tensors(f"quantizer/{name}.safetensors")


def parity_config(**overrides: Any) -> CodeBindConfig:
    sizes = {"shared_dim": 48, "specific_dim": 32, "code_dim": 8, "num_shared_codes": 32, "num_specific_codes": 12}
    fields = {"restart_codes": False, "normalize_codes": False, "parity_codebooks": True}
    return small_config("text", "image", "depth", **{**sizes, **fields, **overrides})


def make_book(state: dict[str, Tensor], **overrides: Any) -> ParityCodebook:
    """A codebook of 32 codes that holds a state named as in the released code."""
    book = ParityCodebook(32, 8, parity_config(**overrides))
    for theirs, ours in NAMES.items():
        book.get_buffer(ours).copy_(state[theirs])
    return book


def under(values: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: x for name, x in values.items() if name.startswith(prefix)}


def assert_state(book: Codebook, expected: dict[str, Tensor]) -> None:
    """Every row within 1e-6 of its own length: codes that nothing chose are very long."""
    for theirs, ours in NAMES.items():
        value, wanted = book.get_buffer(ours), expected[theirs]
        rows = (value - wanted).reshape(len(wanted), -1).norm(dim=1)
        assert (rows <= 1e-6 * wanted.reshape(len(wanted), -1).norm(dim=1) + 1e-7).all(), theirs


def learn(book: Codebook, segments: Tensor, anchors: Tensor | None = None) -> Tensor:
    """One update with unit segments `(..., 8)`; returns the ids that they had before."""
    ids = book(segments)[1]
    counts, sums = counts_and_sums(segments.flatten(0, -2), ids.flatten(), book.num_codes)
    book.update(counts, sums, torch.zeros_like(sums) if anchors is None else anchors)
    return ids


# Reference values


@pytest.mark.parity
@pytest.mark.parametrize("start", ["fresh", "running"])
def test_the_buffers_follow_the_released_ones_for_five_steps(start: str) -> None:
    values = golden("ema_steps")
    book = make_book(under(values, f"{start}.step0."))
    for step, z in enumerate(values["z_steps"], start=1):
        expected = under(values, f"{start}.step{step}.")
        segments = normalize(z, dim=-1)
        chosen, ids = book(segments)
        assert torch.equal(ids, expected["indices"])
        torch.testing.assert_close(chosen, expected["q"], rtol=1e-6, atol=1e-6)
        learn(book, segments)
        if "weight" in expected:
            assert_state(book, expected)


@pytest.mark.parity
@pytest.mark.parametrize("anchor", ["random_manyvectors", "random_fewvectors", "closest", "probrandom"])
def test_a_restart_moves_only_the_codes_and_as_far_as_the_released_one(anchor: str) -> None:
    values = under(golden("reinit"), f"{anchor}.")
    book = make_book(under(values, "before."), restart_codes=True)
    without = make_book(under(values, "before."))
    segments = normalize(values["z"], dim=-1)
    assert torch.equal(learn(book, segments, values["drawn_features"]), values["indices"])
    learn(without, segments)
    torch.testing.assert_close(without.codes, values["after_ema_before_reinit.weight"], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(book.restart_shares(), values["alpha"], rtol=1e-5, atol=1e-7)
    assert_state(book, under(values, "after."))
    if anchor.startswith("random"):
        learn(book, normalize(values["second.z"], dim=-1), values["second.drawn_features"])
        assert_state(book, under(values, "second.after."))


@pytest.mark.parity
@pytest.mark.parametrize("case", ["many_norm", "many_norm_tokens", "few_norm"])
def test_kmeans_gives_the_released_state(case: str) -> None:
    values = under(golden("kmeans"), f"{case}.")
    ids = values["indices"]
    # With several tokens only the first of a sample takes part, as in `init_codebooks`.
    z = values["z"].unflatten(0, ids.shape[:-1])
    vectors = normalize(z if ids.ndim == 2 else z[:, 0], dim=-1).flatten(0, 1)
    first, counts = ordered_kmeans(vectors, 32, iterations=1)
    torch.testing.assert_close(first, values["means_after_1_iter"], rtol=1e-6, atol=1e-7)
    assert torch.equal(counts.long(), values["counts_after_1_iter"])
    book = ParityCodebook(32, 8, parity_config())
    book.fit(vectors)
    assert_state(book, values)
    # Codes, not ids: with fewer vectors than codes some codes are the same.
    torch.testing.assert_close(book(normalize(values["z"], dim=-1))[0], values["q"], rtol=1e-6, atol=1e-6)


@pytest.mark.parity
def test_quantizing_gives_the_released_codes_cosines_and_losses() -> None:
    values = golden("forward")
    expected = under(values, "cos_norm_ema.")
    books = ParityCodebooks(parity_config(shared_dim=32)).eval()
    assert books.shared is not None
    books.shared.codes.copy_(values["codes"])
    z = values["z"].requires_grad_()
    quantized = books.quantize("shared", "depth", z.flatten(1))
    assert torch.equal(quantized.ids, expected["indices"].flatten(0, 1))  # type: ignore[arg-type]
    torch.testing.assert_close(quantized.chosen, expected["q"], rtol=1e-6, atol=1e-7)
    cosines = code_cosines(quantized.segments.flatten(0, 1), books.shared.codes)
    torch.testing.assert_close(cosines.view_as(expected["dist"]), expected["dist"], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(softmax_code_contrast(cosines), expected["loss_contra"], rtol=1e-6, atol=0)
    commitment = elementwise_commitment(quantized.segments, quantized.chosen)  # type: ignore[arg-type]
    torch.testing.assert_close(commitment.detach(), expected["loss_codebook"], rtol=1e-6, atol=0)
    gradient = torch.autograd.grad(commitment, z)[0]
    assert (gradient - expected["grad_z_from_loss_codebook"]).norm() <= 1e-5 * gradient.norm()


def multimodal_books(values: dict[str, Tensor], variant: str, vision_dim: int) -> ParityCodebooks:
    """The codebooks of a released quantizer. Ours have one width of code: that of depth's own codebook differs."""
    dims = {"vision_config": {"specific_dim": vision_dim}, "depth_config": {"specific_dim": 0}}
    books = ParityCodebooks(parity_config(**dims)).eval()
    for name, book in {"common": books.shared, "vision": books.specific["vision"]}.items():
        assert isinstance(book, Codebook)
        for theirs, buffer in saved_state(values, f"{variant}.state.mvq_dict.{name}.").items():
            book.get_buffer(NAMES[theirs]).copy_(buffer)
    return books


def saved_state(values: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix("embedding."): x for name, x in under(values, prefix).items() if name != "initted"}


def parts_of(z: Tensor, modality: str, variant: str) -> tuple[Tensor, Tensor]:
    """Shared and specific part: cut in two, or (seg2) cut into 6 chunks that are each cut in two."""
    if variant == "seg1" or modality == "text":
        return z[..., :48], z[..., 48:]
    chunks = z.unflatten(-1, (6, -1))
    return chunks[..., :8].flatten(-2), chunks[..., 8:].flatten(-2)


@pytest.mark.parity
@pytest.mark.parametrize(("variant", "vision_dim"), [("seg1", 32), ("seg2", 48)])
def test_modalities_are_quantized_as_by_the_released_quantizer(variant: str, vision_dim: int) -> None:
    values = golden("multimodal")
    books = multimodal_books(values, variant, vision_dim)
    for modality in ("text", "depth", "vision"):
        for part, half in zip(
            ("common", "specific"), parts_of(values[f"{variant}.z.{modality}"], modality, variant), strict=True
        ):
            if part == "common" or modality == "vision":
                quantized = books.quantize({"common": "shared"}.get(part, part), modality, half)
                assert torch.equal(quantized.ids, values[f"{variant}.{modality}.{part}_indices"])  # type: ignore[arg-type]
                wanted = normalize(values[f"{variant}.{modality}.{part}"], dim=-1)
                torch.testing.assert_close(quantized.embedding, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parity
@pytest.mark.parametrize(("variant", "vision_dim"), [("seg1", 32), ("seg2", 48)])
def test_the_shared_codebook_moves_after_every_modality(variant: str, vision_dim: int) -> None:
    values = golden("multimodal")
    books = multimodal_books(values, variant, vision_dim).train()
    for modality in ("text", "depth", "vision"):
        shared, own = parts_of(values[f"{variant}.z.{modality}"], modality, variant)
        quantized = books.quantize("shared", modality, shared)
        assert torch.equal(quantized.ids, values[f"{variant}.train.{modality}.common_indices"])  # type: ignore[arg-type]
        if modality == "vision":
            books.quantize("specific", modality, own)
    prefix = f"{variant}.train.state.mvq_dict."
    assert_state(books.shared, saved_state(values, f"{prefix}common."))  # type: ignore[arg-type]
    assert_state(books.specific["vision"], saved_state(values, f"{prefix}vision."))  # type: ignore[arg-type]


# Without reference values


def test_anchors_are_drawn_with_repeats_from_many_vectors() -> None:
    vectors = unit(40, 8)
    anchors = drawn_anchors(vectors, 32)
    rows = (anchors @ vectors.T).argmax(1)
    assert torch.equal(anchors, vectors[rows])
    assert len(rows.unique()) < 32


def test_few_vectors_are_anchors_once_each_and_small_noise_is_the_rest() -> None:
    vectors = unit(5, 8)
    anchors = drawn_anchors(vectors, 32)
    assert torch.equal(anchors[:5], vectors)
    assert anchors.shape == (32, 8)
    assert 0 < anchors[5:].abs().max() < 1 / 32
    assert anchors[5:].unique(dim=0).shape == (27, 8)


def test_a_step_in_evaluation_or_of_a_frozen_codebook_changes_nothing() -> None:
    books = ParityCodebooks(parity_config())
    assert books.shared is not None
    before = buffers_of(books)
    books.eval().quantize("shared", "text", unit(6, 48))
    books.train().quantize("shared", "text", unit(0, 48))
    books.shared.frozen = True
    books.quantize("shared", "text", unit(6, 48))
    assert_same(buffers_of(books), before)


def test_the_update_after_a_batch_does_not_move_codebooks_a_second_time() -> None:
    books = ParityCodebooks(parity_config()).train()
    quantized: Quantized = books.quantize("shared", "text", unit(6, 48))
    before = buffers_of(books)
    assert int(before["shared.num_updates"]) == 1
    books.update([("shared", "text", quantized)])
    assert_same(buffers_of(books), before)


@pytest.mark.parametrize("is_parity", [True, False])
def test_a_training_step_moves_the_shared_codebook_once_or_once_for_each_modality(is_parity: bool) -> None:
    config = small_config("text", "depth", loss_weights={"align": 1.0}, parity_codebooks=is_parity)
    model = tiny_model(config).train()
    model(**tiny_inputs(config), return_loss=True).loss.backward()
    assert int(model.codebooks.shared.num_updates) == (2 if is_parity else 1)
    assert int(model.codebooks.specific["depth"].num_updates) == 1


def test_an_added_modality_gets_a_codebook_of_the_same_kind() -> None:
    config = small_config("text", "image", parity_codebooks=True)
    model = tiny_model(config)
    model.add_modality("radar", {"input_size": [16, 24], "patch_size": [8, 8], "num_channels": 2, "stem": "patches"})
    assert isinstance(model.codebooks.specific["radar"], ParityCodebook)


def test_the_model_starts_its_codebooks_from_the_first_vectors() -> None:
    config = small_config("text", "depth", parity_codebooks=True)
    model, inputs = tiny_model(config), tiny_inputs(config)
    model.init_codebooks([inputs], seed=1)
    first = buffers_of(model.codebooks)
    model.init_codebooks([inputs], seed=2)
    assert_same(buffers_of(model.codebooks), first)
    vectors = model(**inputs).continuous_embeds["text"].unflatten(-1, (-1, 4)).flatten(0, 1)
    torch.testing.assert_close(first["shared.codes"], ordered_kmeans(vectors, 16)[0])
    assert int(first["shared.cluster_size"].sum()) == len(vectors)


def test_codes_of_another_shape_are_an_error() -> None:
    with pytest.raises(ValueError, match="this codebook holds"):
        ParityCodebook(16, 4, tiny_config()).reset(torch.zeros(15, 4))


def test_a_parity_model_survives_saving(tmp_path: Path) -> None:
    config = small_config("text", "depth", parity_codebooks=True, normalize_codes=False)
    model = tiny_model(config).train()
    model(**tiny_inputs(config))
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    assert isinstance(loaded.codebooks, ParityCodebooks)
    assert_same(buffers_of(loaded.codebooks), buffers_of(model.codebooks))
