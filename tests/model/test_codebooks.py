"""Codebooks: search, straight-through, moving averages, restarts, casting, k-means."""

import copy
from typing import Any

import pytest
import reference
import torch
from common import assert_same, buffers_of, small_config, tiny_config, tiny_inputs, tiny_model, unit
from torch import Tensor
from torch.nn.functional import normalize

from codebind_hf.model import codebooks
from codebind_hf.model.codebooks import (
    Codebook,
    SharedSpecificCodebook,
    nearest_codes,
    sphere_points,
    spherical_kmeans,
    unit_segments,
)
from codebind_hf.model.losses import code_uniformity


CODES, WIDTH = 16, 4


def make_book(**overrides: Any) -> Codebook:
    fields = {"codebook_decay": 0.9, "restart_codes": False, **overrides}
    return Codebook(CODES, WIDTH, tiny_config(**fields))


def make_books(**overrides: Any) -> SharedSpecificCodebook:
    return SharedSpecificCodebook(tiny_config(**overrides))


def counted(segments: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Counts and sums by code, with loops."""
    counts, sums = torch.zeros(CODES), torch.zeros(CODES, WIDTH)
    for segment, k in zip(segments, ids.tolist(), strict=True):
        counts[k] += 1
        sums[k] += segment
    return counts, sums


def step(book: Codebook, segments: Tensor, ids: Tensor | None = None, anchors: Tensor | None = None) -> Tensor:
    """One update with `segments`; returns the ids they were counted under."""
    ids = book(segments)[1] if ids is None else ids
    book.update(*counted(segments, ids), book.codes.clone() if anchors is None else anchors)
    return ids


def lengths(vectors: Tensor) -> Tensor:
    return vectors.norm(dim=-1)


# Search


def test_the_nearest_code_is_the_naive_one() -> None:
    vectors, book = unit(40, WIDTH, seed=1), unit(CODES, WIDTH, seed=2) * torch.linspace(0.2, 3, CODES).unsqueeze(1)
    expected = [reference.nearest_code(vector, book) for vector in vectors]
    assert nearest_codes(vectors, book).tolist() == expected


@pytest.mark.parametrize("chunk", [1, 7, 40, 100])
def test_a_search_in_chunks_finds_the_same_codes(chunk: int) -> None:
    vectors, book = unit(40, WIDTH, seed=1), unit(CODES, WIDTH, seed=2)
    assert torch.equal(nearest_codes(vectors, book, chunk), nearest_codes(vectors, book))


def test_a_search_of_nothing_finds_nothing() -> None:
    assert nearest_codes(torch.zeros(0, WIDTH), unit(CODES, WIDTH)).shape == (0,)


def test_the_search_never_holds_all_vectors_times_all_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    original = Tensor.argmax
    monkeypatch.setattr(Tensor, "argmax", lambda x, *a, **k: (sizes.append(x.shape[0]), original(x, *a, **k))[1])
    nearest_codes(unit(2 * codebooks.SEARCH_CHUNK + 5, WIDTH), unit(CODES, WIDTH))
    assert sizes == [codebooks.SEARCH_CHUNK, codebooks.SEARCH_CHUNK, 5]


def test_the_first_of_equal_codes_wins() -> None:
    assert nearest_codes(unit(3, WIDTH), torch.ones(CODES, WIDTH)).tolist() == [0, 0, 0]


# Fresh codes


def test_sphere_points_are_unit_and_the_same_every_time() -> None:
    points = sphere_points(200, 8)
    assert points.dtype == torch.float32
    torch.testing.assert_close(lengths(points), torch.ones(200))
    assert torch.equal(points, sphere_points(200, 8))
    assert torch.equal(sphere_points(200, 8)[:50], sphere_points(50, 8)), "a longer book starts with the shorter"


@pytest.mark.parametrize("dim", [2, 4, 8, 24])
def test_sphere_points_are_spread(dim: int) -> None:
    points = sphere_points(128, dim)
    assert lengths(points.mean(0)) < 0.15
    nearest = (points @ points.T - 2 * torch.eye(128)).amax(1)
    chance = unit(128, dim, seed=5)
    assert nearest.mean() <= (chance @ chance.T - 2 * torch.eye(128)).amax(1).mean() + 0.02
    assert len(points.unique(dim=0)) == 128


def test_fresh_codes_do_not_depend_on_the_seed_or_the_default_dtype() -> None:
    first = buffers_of(make_book())
    torch.manual_seed(99)
    torch.set_default_dtype(torch.bfloat16)
    try:
        second = buffers_of(make_book())
    finally:
        torch.set_default_dtype(torch.float32)
    assert_same(first, second)


# Quantization


def test_a_codebook_has_buffers_only() -> None:
    book = make_book()
    assert list(book.parameters()) == []
    assert set(dict(book.named_buffers())) == {"codes", "cluster_size", "code_sum", "usage", "num_updates"}
    assert set(book.state_dict()) == set(dict(book.named_buffers())), "every buffer is saved"


def test_ids_to_codes_to_ids_is_a_round_trip() -> None:
    book = make_book()
    ids = torch.arange(CODES).view(2, 8)
    chosen, again = book(book.lookup(ids))
    assert torch.equal(again, ids)
    assert torch.equal(chosen, book.codes[ids])


@pytest.mark.parametrize("ids", [[[-1, 0]], [[0, CODES]]])
def test_lookup_refuses_ids_out_of_range(ids: list[list[int]]) -> None:
    with pytest.raises(ValueError, match=r"ids: got values in \[.*\]; allowed are 0 to 15"):
        make_book().lookup(torch.tensor(ids))


def test_lookup_of_no_ids_is_empty() -> None:
    assert make_book().lookup(torch.zeros(0, 3, dtype=torch.long)).shape == (0, 3, WIDTH)


def test_unit_segments_cut_in_order_and_have_unit_length() -> None:
    embedding = torch.arange(1.0, 25).view(2, 12)
    segments = unit_segments(embedding, WIDTH)
    assert segments.shape == (2, 3, WIDTH)
    torch.testing.assert_close(segments[1, 2], normalize(torch.tensor([21.0, 22, 23, 24]), dim=-1))


def test_a_quantized_embedding_is_its_codes_side_by_side() -> None:
    books = make_books()
    quantized = books.quantize("shared", "vision", torch.randn(5, 24))
    assert quantized.ids is not None
    codes = torch.stack([torch.cat([books.shared.codes[k] for k in row]) for row in quantized.ids.tolist()])
    torch.testing.assert_close(quantized.embedding, normalize(codes, dim=-1))
    for row, segments in zip(quantized.ids.tolist(), quantized.segments, strict=True):
        assert row == [reference.nearest_code(segment, books.shared.codes) for segment in segments]


def test_every_part_uses_its_own_book() -> None:
    books = make_books(vision_config={"num_specific_codes": 7}, eeg_config={"num_specific_codes": 0})
    assert books.book("shared", "vision") is books.book("shared", "audio") is books.shared
    assert books.book("specific", "vision").num_codes == 7
    assert books.book("specific", "audio").num_codes == 10
    assert books.book("specific", "eeg") is None
    assert books.book("specific", "text") is None
    unquantized = books.quantize("specific", "eeg", torch.randn(2, 20))
    assert unquantized.ids is None
    assert torch.equal(unquantized.embedding, unquantized.continuous)


def test_the_scale_of_an_embedding_does_not_matter() -> None:
    books, x = make_books(), torch.randn(5, 24)
    first, second = books.quantize("shared", "text", x), books.quantize("shared", "text", 7 * x)
    assert torch.equal(first.ids, second.ids)
    torch.testing.assert_close(first.continuous, second.continuous)


def test_the_gradient_passes_straight_through_the_codes() -> None:
    """The gradient of the quantized embedding is that of its normalization, as if codes had been the input."""
    books = make_books()
    segments = unit(5, 6, WIDTH).requires_grad_()
    weight = torch.randn(5, 24)
    quantized = books.quantize("shared", "text", segments.flatten(-2))
    (quantized.embedding * weight).sum().backward()
    codes = quantized.chosen.clone().requires_grad_()
    (normalize(codes.flatten(-2), dim=-1) * weight).sum().backward()
    inward = (codes.grad * segments.detach()).sum(-1, keepdim=True) * segments.detach()
    torch.testing.assert_close(segments.grad, codes.grad - inward, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("on_sphere", [True, False])
def test_ids_give_back_the_embedding_exactly_with_and_without_gradient(on_sphere: bool) -> None:
    books = make_books(normalize_codes=on_sphere)
    books.shared.reset(torch.randn(CODES, WIDTH) * 3)
    for x in (torch.randn(5, 24), torch.randn(5, 24, requires_grad=True)):
        quantized = books.quantize("shared", "audio", x)
        assert torch.equal(books.embeds("shared", "audio", quantized.ids), quantized.embedding)


def test_codes_of_other_norms_are_matched_by_cosine_and_returned_as_stored() -> None:
    book = make_book(normalize_codes=False)
    stored = unit(CODES, WIDTH, seed=3) * torch.linspace(0.1, 5, CODES).unsqueeze(1)
    book.reset(stored)
    chosen, ids = book(normalize(stored, dim=-1))
    assert ids.tolist() == list(range(CODES))
    assert torch.equal(chosen, stored)


def test_embeds_of_a_part_without_codebook_say_so() -> None:
    with pytest.raises(ValueError, match="'specific' of 'text' has no codebook"):
        make_books().embeds("specific", "text", torch.zeros(1, 5, dtype=torch.long))


def test_looking_up_codes_changes_no_buffer() -> None:
    books = make_books().train()
    before = buffers_of(books)
    books.quantize("shared", "text", torch.randn(5, 24))
    books.eval().quantize("specific", "vision", torch.randn(5, 20))
    assert_same(before, buffers_of(books))


def test_autocast_does_not_change_the_choice() -> None:
    books, x = make_books(num_shared_codes=512), torch.randn(200, 24)
    expected = books.quantize("shared", "text", x)
    with torch.autocast("cpu", torch.bfloat16):
        cast = books.quantize("shared", "text", x)
    assert torch.equal(cast.ids, expected.ids)
    assert torch.equal(cast.embedding, expected.embedding)


# Moving averages


def test_one_update_with_decay_zero_is_the_mean_of_what_chose_a_code() -> None:
    book, segments = make_book(codebook_decay=0.0), unit(60, WIDTH, seed=4)
    old = book.codes.clone()
    ids = step(book, segments)
    for k in range(CODES):
        chosen = segments[ids == k]
        expected = normalize(chosen.mean(0), dim=-1) if len(chosen) else old[k]
        torch.testing.assert_close(book.codes[k], expected)


def test_two_updates_equal_the_paper_s_moving_averages() -> None:
    book = make_book(codebook_decay=0.8)
    size, total = book.cluster_size.clone(), book.code_sum.clone()
    for seed in (4, 5):
        segments = unit(60, WIDTH, seed=seed)
        ids = step(book, segments)
        counts, sums, codes = reference.ema_step(size, total, segments, ids, 0.8)
        torch.testing.assert_close(book.cluster_size, torch.tensor(counts, dtype=torch.float32))
        torch.testing.assert_close(book.code_sum, torch.tensor(sums, dtype=torch.float32))
        torch.testing.assert_close(book.codes, torch.tensor(codes, dtype=torch.float32))
        size, total = book.cluster_size.clone(), book.code_sum.clone()
    assert book.num_updates == 2


def test_codes_of_a_converted_checkpoint_move_to_the_plain_mean() -> None:
    book, segments = make_book(codebook_decay=0.0, normalize_codes=False), unit(60, WIDTH, seed=4)
    ids = step(book, segments)
    k = int(ids[0])
    torch.testing.assert_close(book.codes[k], segments[ids == k].mean(0))


@pytest.mark.parametrize("restarts", [True, False])
def test_codes_stay_on_the_sphere(restarts: bool) -> None:
    """In the released code their norm falls to 0.91 after one step."""
    book = make_book(codebook_decay=0.99, restart_codes=restarts, loss_weights={"cuni": 1.0}, codebook_spread_rate=1)
    for seed in range(5):
        step(book, unit(20, WIDTH, seed=seed), anchors=unit(CODES, WIDTH, seed=100 + seed))
        torch.testing.assert_close(lengths(book.codes), torch.ones(CODES))


def test_repeated_updates_find_planted_clusters() -> None:
    book, centres = make_book(codebook_decay=0.5, restart_codes=True), unit(5, WIDTH, seed=8)
    for seed in range(30):
        noise = 0.02 * torch.randn(100, WIDTH, generator=torch.Generator().manual_seed(seed))
        segments = normalize(centres.repeat(20, 1) + noise, dim=-1)
        step(book, segments, anchors=segments[:CODES])
    assert ((centres @ book.codes.T).amax(1) > 0.99).all()


# Restarts


def dead_and_alive(**overrides: Any) -> tuple[Codebook, Tensor, Tensor]:
    """A book whose code 0 alone is used, segments that choose it, and anchors elsewhere."""
    book = make_book(codebook_decay=0.99, restart_codes=True, **overrides)
    segments = book.codes[:1].expand(32, -1).clone()
    anchors = unit(CODES, WIDTH, seed=50)
    return book, segments, anchors


def test_alpha_restarts_a_dead_code_and_spares_a_live_one() -> None:
    # A code with the fair share p = 1 / K keeps exp(-10) of itself at decay 0.99's first step; a dead one nothing.
    fair = reference.restart_alpha((1 - 0.99) / CODES, CODES)
    assert reference.restart_alpha(0.0, CODES) == pytest.approx(0.999, abs=1e-3)
    assert fair == pytest.approx(4.5e-5, rel=0.01)


def test_a_dead_code_restarts_at_a_segment_of_the_batch_and_a_live_one_stays() -> None:
    book, segments, anchors = dead_and_alive()
    alive = book.codes[0].clone()
    step(book, segments, anchors=anchors)
    torch.testing.assert_close(book.codes[0], alive)
    assert ((book.codes[1:] * anchors[1:]).sum(-1) > 0.99).all()


def test_without_restarts_a_dead_code_stays() -> None:
    book, segments, anchors = dead_and_alive()
    book.restarts = False
    before = book.codes.clone()
    step(book, segments, anchors=anchors)
    torch.testing.assert_close(book.codes, before)


def test_a_restarted_code_is_not_overwritten_by_the_next_update() -> None:
    """In the released code a dead code moves 0.82 per step."""
    book, segments, anchors = dead_and_alive()
    step(book, segments, anchors=anchors)
    restarted = book.codes.clone()
    for seed in range(5):
        step(book, segments, anchors=unit(CODES, WIDTH, seed=60 + seed))
        assert (lengths(book.codes - restarted) < 0.05).all()


def test_a_restarted_code_that_nothing_chooses_restarts_again_in_the_end() -> None:
    book, segments, anchors = dead_and_alive()
    step(book, segments, anchors=anchors)
    elsewhere = unit(CODES, WIDTH, seed=77)
    for _ in range(600):
        step(book, segments, ids=torch.zeros(len(segments), dtype=torch.long), anchors=elsewhere)
    assert ((book.codes[1:] * elsewhere[1:]).sum(-1) > 0.99).all()


def test_the_blend_of_a_restart_follows_alpha() -> None:
    book, _, anchors = dead_and_alive()
    book.usage.copy_(torch.linspace(0, 0.3, CODES) * 0.01 / CODES)
    size, total = book.cluster_size.clone(), book.code_sum.clone()
    alphas = torch.tensor([reference.restart_alpha(float(p), CODES) for p in book.usage])
    book._restart(anchors)
    expected = (1 - alphas).unsqueeze(1) * total + alphas.unsqueeze(1) * anchors
    torch.testing.assert_close(book.code_sum, expected)
    torch.testing.assert_close(book.cluster_size, (1 - alphas) * size + alphas)


def test_the_anchors_are_segments_of_the_batch_and_change_from_update_to_update() -> None:
    book, vectors = make_book(), unit(50, WIDTH, seed=6)
    first = codebooks._anchors(book, vectors)
    assert all((vectors == anchor).all(1).any() for anchor in first)
    assert len(first.unique(dim=0)) > CODES // 2
    assert torch.equal(first, codebooks._anchors(book, vectors))
    book.num_updates += 1
    assert not torch.equal(first, codebooks._anchors(book, vectors))


def test_the_anchors_do_not_depend_on_the_order_of_the_segments_and_each_is_as_likely() -> None:
    book, vectors = make_book(), unit(50, WIDTH, seed=6)
    shuffled = vectors[torch.randperm(50, generator=torch.Generator().manual_seed(1))]
    counts = torch.zeros(50)
    for _ in range(200):
        anchors = codebooks._anchors(book, vectors)
        assert torch.equal(anchors, codebooks._anchors(book, shuffled))
        counts += (anchors.unsqueeze(1) == vectors).all(-1).sum(0)
        book.num_updates += 1
    expected = 200 * CODES / 50
    assert counts.min() > 0.5 * expected
    assert counts.max() < 1.5 * expected


# Updates of all books together


def test_an_update_moves_exactly_the_books_that_were_used() -> None:
    books = make_books()
    before = buffers_of(books)
    chosen = [
        ("shared", "text", books.quantize("shared", "text", torch.randn(5, 24))),
        ("specific", "depth", books.quantize("specific", "depth", torch.randn(5, 20))),
    ]
    books.update(chosen)
    moved = {name.rsplit(".", 1)[0] for name, value in books.named_buffers() if not torch.equal(value, before[name])}
    assert moved == {"shared", "specific.depth"}
    assert books.shared.num_updates == books.specific["depth"].num_updates == 1


def test_all_modalities_move_the_shared_book_in_one_step() -> None:
    books, apart = make_books(restart_codes=False), make_books(restart_codes=False)
    parts = [torch.randn(5, 24), torch.randn(3, 24)]
    quantized = [books.quantize("shared", name, x) for name, x in zip(("text", "vision"), parts, strict=True)]
    books.update([("shared", "text", quantized[0]), ("shared", "vision", quantized[1])])
    apart.update([("shared", "text", apart.quantize("shared", "text", torch.cat(parts)))])
    assert books.shared.num_updates == 1
    for name, value in apart.shared.named_buffers():
        torch.testing.assert_close(dict(books.shared.named_buffers())[name], value)


def test_frozen_books_do_not_move() -> None:
    books = make_books()
    books.shared.frozen = True
    before = buffers_of(books)
    books.update([("shared", "text", books.quantize("shared", "text", torch.randn(5, 24)))])
    assert_same(before, buffers_of(books))


def test_an_update_with_nothing_changes_nothing() -> None:
    books = make_books()
    before = buffers_of(books)
    books.update([])
    assert_same(before, buffers_of(books))


def test_a_model_without_codebooks_updates_nothing() -> None:
    books = make_books(num_shared_codes=0, num_specific_codes=0, align_on="continuous")
    assert books.shared is None
    assert len(books.specific) == 0
    books.update([])


def test_an_update_gives_the_same_codes_under_autocast() -> None:
    plain, cast = (make_books(loss_weights={"cuni": 1.0}, codebook_spread_rate=5) for _ in range(2))
    x = torch.randn(40, 24)
    plain.update([("shared", "text", plain.quantize("shared", "text", x))])
    with torch.autocast("cpu", torch.bfloat16):
        cast.update([("shared", "text", cast.quantize("shared", "text", x))])
    assert_same(buffers_of(plain), buffers_of(cast))


# The uniformity step


def test_a_spread_step_lowers_code_uniformity_along_its_gradient() -> None:
    book = make_book(loss_weights={"cuni": 1.0}, codebook_spread_rate=0.5, normalize_codes=False)
    book.reset(normalize(unit(CODES, WIDTH, seed=1) + 2 * unit(1, WIDTH, seed=2), dim=-1))
    leaf = book.codes.clone().requires_grad_()
    before = code_uniformity(leaf)
    before.backward()
    book._spread()
    torch.testing.assert_close(book.codes, leaf.detach() - 0.5 * leaf.grad, atol=1e-6, rtol=1e-4)
    assert code_uniformity(book.codes) < before
    torch.testing.assert_close(book.code_sum / book.cluster_size.unsqueeze(1), book.codes)


def test_the_spread_step_is_off_without_its_weight() -> None:
    segments = unit(60, WIDTH, seed=4)
    results = []
    for weights in ({}, {"cuni": 2.0}):
        book = make_book(loss_weights=weights, codebook_spread_rate=1.0)
        step(book, segments)
        results.append(code_uniformity(book.codes))
    assert results[1] < results[0]


# Casting


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_codes_survive_a_cast_of_the_model_bit_for_bit(dtype: torch.dtype) -> None:
    books = make_books()
    step(books.shared, unit(60, WIDTH, seed=4))
    before = buffers_of(books)
    assert_same(before, buffers_of(books.to(dtype)))
    assert_same(before, buffers_of(books.float()))
    assert_same(before, buffers_of(books.half().to("cpu", torch.bfloat16)))


def test_a_copy_of_a_codebook_is_independent() -> None:
    book = make_book()
    other = copy.deepcopy(book)
    step(other, unit(60, WIDTH, seed=4))
    assert torch.equal(book.codes, make_book().codes)


def test_a_resumed_codebook_continues_bit_for_bit() -> None:
    batches = [torch.randn(9, 24, generator=torch.Generator().manual_seed(seed)) for seed in range(4)]
    straight, stopped = make_books(), make_books()
    for x in batches:
        straight.update([("shared", "text", straight.quantize("shared", "text", x))])
    for x in batches[:2]:
        stopped.update([("shared", "text", stopped.quantize("shared", "text", x))])
    resumed = make_books()
    resumed.load_state_dict(stopped.state_dict())
    for x in batches[2:]:
        resumed.update([("shared", "text", resumed.quantize("shared", "text", x))])
    assert_same(buffers_of(straight), buffers_of(resumed))


# Reset and k-means


def test_a_reset_forgets_history_and_normalizes() -> None:
    book = make_book()
    step(book, unit(60, WIDTH, seed=4))
    fresh = 3 * unit(CODES, WIDTH, seed=9)
    book.reset(fresh)
    torch.testing.assert_close(book.codes, normalize(fresh, dim=-1))
    assert torch.equal(book.code_sum, book.codes)
    assert book.num_updates == 0
    assert torch.equal(book.cluster_size, torch.ones(CODES))
    assert book.usage.sum() == 0


def test_a_reset_with_codes_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"codes: got shape \(3, 4\); this codebook holds \(16, 4\)"):
        make_book().reset(torch.randn(3, WIDTH))


def test_kmeans_finds_planted_clusters() -> None:
    centres = unit(6, WIDTH, seed=8)
    vectors = normalize(centres.repeat(30, 1) + 0.03 * torch.randn(180, WIDTH), dim=-1)
    found = spherical_kmeans(vectors, 18, iterations=20)
    torch.testing.assert_close(lengths(found), torch.ones(18))
    assert ((centres @ found.T).amax(1) > 0.99).all(), "some planted cluster was not found"


def test_kmeans_lowers_the_error_of_its_start() -> None:
    vectors = unit(300, WIDTH, seed=3)
    errors = [(1 - (vectors @ spherical_kmeans(vectors, CODES, i).T).amax(1)).mean() for i in (0, 1, 10)]
    assert errors[2] < errors[1] < errors[0]


def test_kmeans_of_fewer_vectors_than_codes_covers_every_vector() -> None:
    vectors = unit(5, WIDTH, seed=3)
    centres = spherical_kmeans(vectors, CODES)
    assert centres.shape == (CODES, WIDTH)
    assert ((vectors @ centres.T).amax(1) > 0.9999).all()
    torch.testing.assert_close(lengths(centres), torch.ones(CODES))


def test_kmeans_is_reproducible_and_does_not_touch_the_global_generator() -> None:
    vectors = unit(100, WIDTH, seed=3)
    state = torch.get_rng_state()
    assert torch.equal(spherical_kmeans(vectors, 8, seed=1), spherical_kmeans(vectors, 8, seed=1))
    assert not torch.equal(spherical_kmeans(vectors, 8, seed=1), spherical_kmeans(vectors, 8, seed=2))
    assert torch.equal(state, torch.get_rng_state())


def test_kmeans_of_equal_vectors_is_finite() -> None:
    assert spherical_kmeans(torch.ones(20, WIDTH), CODES).isfinite().all()


# Even segments


def test_even_segments_are_all_that_quantization_changes() -> None:
    """Lengths of segments stay in a continuous embedding, unless it is told to have none."""
    embedding = torch.randn(5, 24) * torch.logspace(-1, 1, 6).repeat_interleave(4)
    plain, even = (make_books(even_segments=flag).quantize("shared", "text", embedding) for flag in (False, True))
    lengths = even.continuous.unflatten(-1, (-1, 4)).norm(dim=-1)
    torch.testing.assert_close(lengths, torch.full((5, 6), 6**-0.5))
    torch.testing.assert_close(even.continuous, reference_even(embedding))
    torch.testing.assert_close(plain.continuous, embedding / embedding.norm(dim=-1, keepdim=True))
    for name in ("embedding", "ids", "segments", "chosen"):
        assert torch.equal(getattr(plain, name), getattr(even, name)), name
    # With a code at every segment, nothing at all is lost.
    books = make_books(even_segments=True, num_shared_codes=30)
    books.shared.reset(even.segments.flatten(0, 1))
    exact = books.quantize("shared", "text", embedding)
    torch.testing.assert_close(exact.embedding, exact.continuous)


def reference_even(embedding: Tensor) -> Tensor:
    rows = []
    for row in embedding:
        segments = [segment / segment.norm() for segment in row.split(4)]
        rows.append(torch.cat(segments) / len(segments) ** 0.5)
    return torch.stack(rows)


@pytest.mark.parametrize("even", [False, True])
def test_every_way_to_a_continuous_embedding_gives_the_same(even: bool) -> None:
    model = tiny_model(small_config("text", "audio", specific_dim=24, even_segments=even))
    inputs = tiny_inputs(model.config)
    output = model(**inputs)
    features = model.get_audio_features(inputs["input_features"], quantize=False).pooler_output
    torch.testing.assert_close(features, output.continuous_embeds["audio"])
    for parts in (output.continuous_embeds, output.continuous_specific_embeds):
        lengths = parts["audio"].unflatten(-1, (-1, model.config.code_dim)).norm(dim=-1)
        assert bool((lengths.std(dim=1) < 1e-4).all()) == even
