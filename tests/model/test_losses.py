"""Loss terms against naive transcriptions, hand-worked values, bounds and what their gradients do."""

import math
from collections.abc import Callable

import pytest
import reference
import torch
from common import unit
from memory import peak_memory
from torch import Tensor

from codebind_hf.model import losses


BATCH, SEGMENTS, WIDTH, CODES = 5, 3, 4, 23
E0, E1 = [1.0, 0.0], [0.0, 1.0]


def anchor() -> Tensor:
    return unit(BATCH, SEGMENTS, WIDTH, seed=1)


def other() -> Tensor:
    return unit(BATCH, SEGMENTS, WIDTH, seed=2)


def codes() -> Tensor:
    return unit(CODES, WIDTH, seed=3)


def cloud(points: int, seed: int) -> Tensor:
    return torch.randn(2, points, 3, generator=torch.Generator().manual_seed(seed))


# name: (our function, the transcription, inputs that learn, inputs that must not)
Case = tuple[Callable[..., Tensor], Callable[..., float], list[Tensor], list[Tensor]]
CASES: dict[str, Case] = {
    "align": (
        lambda a, b: losses.info_nce(a, b, 3.0),
        lambda a, b: reference.info_nce(a, b, 3.0),
        [anchor()[:, 0], other()[:, 0]],
        [],
    ),
    "seg": (
        lambda a, b: losses.segment_info_nce(a, b, 5.0),
        lambda a, b: reference.segment_info_nce(a, b, 5.0),
        [anchor(), other()],
        [],
    ),
    "recon": (losses.reconstruction, reference.reconstruction, [cloud(5, 1), cloud(5, 2)], []),
    "chamfer": (losses.chamfer_distance, reference.chamfer_distance, [cloud(5, 1), cloud(7, 2)], []),
    "orth": (losses.orthogonality, reference.orthogonality, [anchor()[:, 0], other()[:, 0]], []),
    "decorr": (losses.decorrelation, reference.decorrelation, [anchor()[:, 0], other()[:, 1]], []),
    "uni": (losses.uniformity, reference.uniformity, [anchor()[:, 0]], []),
    "commit": (losses.commitment, reference.commitment, [anchor()], [other()]),
    "cm": (losses.code_matching, reference.code_matching, [anchor(), other()], [codes()]),
    "cm at 0.1": (
        lambda a, b, c: losses.code_matching(a, b, c, temperature=0.1),
        lambda a, b, c: reference.code_matching(a, b, c, temperature=0.1),
        [anchor(), other()],
        [codes()],
    ),
    "cctr": (losses.code_contrast, reference.code_contrast, [anchor()], [codes()]),
}
all_terms = pytest.mark.parametrize("name", CASES)


@all_terms
def test_a_term_equals_its_naive_transcription(name: str) -> None:
    ours, naive, learning, fixed = CASES[name]
    assert float(ours(*learning, *fixed)) == pytest.approx(naive(*learning, *fixed), rel=1e-4)


def test_code_uniformity_equals_its_naive_transcription() -> None:
    assert float(losses.code_uniformity(codes())) == pytest.approx(reference.code_uniformity(codes()), rel=1e-5)


@all_terms
def test_gradient_reaches_every_input_that_learns_and_no_other(name: str) -> None:
    ours, _, learning, fixed = CASES[name]
    inputs = [x.clone().requires_grad_() for x in (*learning, *fixed)]
    ours(*inputs).backward()
    for x in inputs[: len(learning)]:
        assert x.grad is not None
        assert (x.grad.flatten(1).norm(dim=1) > 1e-6).all(), "some sample got no gradient"
    for x in inputs[len(learning) :]:
        assert x.grad is None


@all_terms
def test_a_small_step_along_any_one_gradient_lowers_the_term(name: str) -> None:
    ours, _, learning, fixed = CASES[name]
    inputs = [x.clone().requires_grad_() for x in learning]
    before = ours(*inputs, *fixed)
    gradients = torch.autograd.grad(before, inputs)
    for position, gradient in enumerate(gradients):
        moved = [x.detach() for x in inputs]
        moved[position] = moved[position] - 1e-2 * gradient / gradient.norm()
        assert ours(*moved, *fixed) < before


@all_terms
def test_a_term_is_finite_in_bfloat16_with_its_gradient(name: str) -> None:
    ours, naive, learning, fixed = CASES[name]
    inputs = [x.bfloat16().requires_grad_() for x in learning]
    value = ours(*inputs, *fixed)
    value.backward()
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(naive(*learning, *fixed), abs=0.05, rel=0.05)
    assert all(x.grad is not None and x.grad.isfinite().all() for x in inputs)


@all_terms
def test_a_term_is_finite_at_collapse_with_its_gradient(name: str) -> None:
    """All samples equal, and equal to a code: distances of 0, whose square root has no slope."""
    ours, _, learning, fixed = CASES[name]
    same = codes()[0] if name not in ("recon", "chamfer") else torch.zeros(3)
    inputs = [same.expand_as(x).clone().requires_grad_() for x in learning]
    fixed = [same.expand_as(x) if name == "commit" else x for x in fixed]
    value = ours(*inputs, *fixed)
    value.backward()
    assert value.isfinite()
    assert all(x.grad is not None and x.grad.isfinite().all() for x in inputs)


def test_info_nce_by_hand() -> None:
    # Cosines [[1, 0], [0, 1]] times 2. Every row and column: -log(e^2 / (e^2 + 1)) = log(1 + e^-2) = 0.126928.
    # Two directions are summed: 0.253856.
    x = torch.tensor([E0, E1])
    assert float(losses.info_nce(x, x, 2.0)) == pytest.approx(0.253856, abs=1e-5)


def test_info_nce_has_two_different_directions() -> None:
    # Anchors are both (1, 0); others (1, 0) and (0, 1); scale 1. Cosines [[1, 0], [1, 0]].
    # Rows: log(1 + e^-1) = 0.313262 and log(1 + e) = 1.313262, mean 0.813262.
    # Columns are constant, (1, 1) and (0, 0): log 2 = 0.693147 each. A forgotten transpose gives 2 x 0.813262.
    value = losses.info_nce(torch.tensor([E0, E0]), torch.tensor([E0, E1]), 1.0)
    assert float(value) == pytest.approx(0.813262 + 0.693147, abs=1e-5)


def test_segment_info_nce_by_hand() -> None:
    # Segment 1 as in the test above, 1.506409; segment 2 has equal vectors everywhere: log 2 twice, 1.386294.
    first = torch.tensor([[E0, E0], [E0, E0]])
    second = torch.tensor([[E0, E1], [E1, E1]])
    expected = (1.506409 + 1.386294) / 2
    assert float(losses.segment_info_nce(first, second, 1.0)) == pytest.approx(expected, abs=1e-5)


def test_segment_info_nce_of_one_segment_is_info_nce() -> None:
    a, b = anchor()[:, :1], other()[:, :1]
    torch.testing.assert_close(losses.segment_info_nce(a, b, 4.0), losses.info_nce(a[:, 0], b[:, 0], 4.0))


def test_align_moves_positives_together_and_negatives_apart() -> None:
    a, b = anchor()[:, 0].requires_grad_(), other()[:, 0]
    (gradient,) = torch.autograd.grad(losses.info_nce(a, b, 3.0), a)
    before, after = a @ b.T, (a - 0.05 * gradient) @ b.T
    change = (after - before).detach()
    assert (change.diagonal() > 0).all()
    assert change.sum() - change.trace() < 0


def test_align_is_low_for_matching_pairs_and_log_batch_without_information() -> None:
    x = torch.eye(6)
    assert losses.info_nce(x, x, 100.0) < 1e-5
    assert float(losses.info_nce(x[:1].expand(6, -1), x[:1].expand(6, -1), 9.0)) == pytest.approx(2 * math.log(6))


def test_align_of_one_pair_is_zero() -> None:
    assert losses.info_nce(anchor()[:1, 0], other()[:1, 0], 3.0) == 0


def test_align_teaches_the_scale() -> None:
    scale = torch.tensor(1.0, requires_grad=True)
    losses.info_nce(anchor()[:, 0], anchor()[:, 0], scale).backward()
    assert scale.grad is not None
    assert scale.grad < 0, "matching pairs ask for a sharper softmax"


@pytest.mark.parametrize("term", [losses.info_nce, losses.segment_info_nce])
def test_a_contrast_of_no_pair_is_zero_and_differentiable(term: Callable[..., Tensor]) -> None:
    a = anchor()[:0] if term is losses.segment_info_nce else anchor()[:0, 0]
    a.requires_grad_()
    value = term(a, a, 1.0)
    value.backward()
    assert value == 0


def test_code_matching_of_no_pair_is_zero() -> None:
    assert losses.code_matching(anchor()[:0], other()[:0], codes()) == 0


def test_reconstruction_by_hand() -> None:
    # ((1-3)^2 + (2-2)^2) / 2 = 2.
    assert losses.reconstruction(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 2.0])) == 2


def test_chamfer_distance_by_hand() -> None:
    # Output (0,0,0); target (1,0,0), (0,2,0). Output to target: 1. Target to output: (1 + 4) / 2 = 2.5. Sum 3.5.
    output, target = torch.zeros(1, 1, 3), torch.tensor([[[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]]])
    assert float(losses.chamfer_distance(output, target)) == pytest.approx(3.5)


def test_chamfer_distance_of_a_reordered_cloud_is_zero() -> None:
    points = cloud(30, 1)
    assert losses.chamfer_distance(points, points.flip(1)) < 1e-5


@pytest.mark.parametrize("chunk", [1, 4, 7, 30, 1024])
@pytest.mark.parametrize("channels", [3, 6])
def test_chamfer_distance_is_exact_whatever_the_chunk(chunk: int, channels: int) -> None:
    """Value and gradient of the whole matrix of distances, written out."""
    output = torch.randn(2, 30, channels, dtype=torch.float64).float().requires_grad_()
    target = torch.randn(2, 17, channels).requires_grad_()
    squared = (output.unsqueeze(2) - target.unsqueeze(1)).square().sum(-1)
    whole = squared.amin(2).mean() + squared.amin(1).mean()
    expected = torch.autograd.grad(whole, (output, target))
    found = losses.chamfer_distance(output, target, chunk)
    torch.testing.assert_close(found, whole)
    for one, other in zip(torch.autograd.grad(found, (output, target)), expected, strict=True):
        torch.testing.assert_close(one, other)
        assert other.abs().max() > 0


def test_chamfer_distance_of_points_that_almost_coincide_is_not_rounded_away() -> None:
    """Far from the origin, a distance through a matrix product would be noise of about 1e-2."""
    points = torch.rand(1, 40, 3) + 100
    moved = points + torch.tensor([1e-3, 0, 0])
    assert float(losses.chamfer_distance(moved, points)) == pytest.approx(2e-6, rel=0.05)
    assert losses.chamfer_distance(points, points.flip(1)) == 0


@pytest.mark.slow
def test_chamfer_distance_never_holds_all_distances() -> None:
    imports = "import torch; from codebind_hf.model.losses import chamfer_distance"
    inputs = "output, target = torch.randn(4, 2048, 3, requires_grad=True), torch.randn(4, 4096, 3)"
    whole = 4 * 2048 * 4096 * 4
    work = f"{inputs}; chamfer_distance(output, target, 64).backward()"
    assert (
        peak_memory(f"{imports}\n{inputs}; chamfer_distance(output[:, :8], target[:, :8]).backward()", work)
        < whole / 4
    )


def test_orthogonality_by_hand() -> None:
    # Inner products 0.6 and 0: (0.36 + 0) / 2 = 0.18.
    shared, specific = torch.tensor([E0, E0]), torch.tensor([[0.6, 0.8], E1])
    assert float(losses.orthogonality(shared, specific)) == pytest.approx(0.18)


def test_orthogonality_is_zero_when_orthogonal_and_one_when_equal() -> None:
    x = torch.tensor([E0, E1])
    assert losses.orthogonality(x, x.flip(0)) == 0
    assert losses.orthogonality(x, x) == 1
    assert losses.orthogonality(x, -x) == 1, "opposite is as dependent as equal"


def test_decorrelation_by_hand() -> None:
    # 0, 1, 2 correlates with 2, 4, 6 by 1 and with 0, 0, 3 by sqrt(3) / 2; 3, 3, 3 says nothing of either.
    # (1 + 0.75 + 0 + 0) / 4 = 0.4375.
    shared = torch.tensor([[0.0, 3.0], [1.0, 3.0], [2.0, 3.0]])
    specific = torch.tensor([[2.0, 0.0], [4.0, 0.0], [6.0, 3.0]])
    assert float(losses.decorrelation(shared, specific)) == pytest.approx(0.4375, abs=1e-4)


def test_decorrelation_is_zero_where_samples_say_nothing_of_each_other_and_orthogonality_is_not() -> None:
    signs = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    # The square of what rounding leaves of a sum of float32 numbers of size 1.
    assert float(losses.decorrelation(signs[:, :1], signs[:, 1:])) < torch.finfo(torch.float32).eps ** 2
    assert float(losses.orthogonality(signs[:, :1], signs[:, 1:])) == 1
    assert float(losses.decorrelation(signs, 5 - 2 * signs)) == pytest.approx(0.5, abs=1e-4)


def test_decorrelation_does_not_depend_on_length_or_place_of_a_dimension() -> None:
    shared, specific = anchor()[:, 0], other()[:, 0]
    value = losses.decorrelation(shared, specific)
    torch.testing.assert_close(losses.decorrelation(7 * shared - 2, specific), value, rtol=1e-3, atol=1e-5)


def test_decorrelation_makes_one_part_forget_what_the_other_knows() -> None:
    generator = torch.Generator().manual_seed(0)
    private = torch.randn(64, 1, generator=generator)
    noise = torch.randn(64, 4, generator=generator)
    # Where a correlation is 1 exactly, it has no slope.
    shared = (noise + torch.tensor([0.0, 0.0, 0.5, 3.0]) * private).requires_grad_()
    assert losses.decorrelation(shared, private) > 0.2
    for _ in range(300):
        (gradient,) = torch.autograd.grad(losses.decorrelation(shared, private), shared)
        shared = (shared - 30 * gradient).detach().requires_grad_()
    assert losses.decorrelation(shared, private) < 0.01


def test_decorrelation_of_fewer_than_three_samples_is_zero() -> None:
    for size in (0, 1, 2):
        x = anchor()[:size, 0].requires_grad_()
        value = losses.decorrelation(x, x)
        value.backward()
        assert value == 0


def test_uniformity_by_hand() -> None:
    # Three vectors: squared distances 2, 4 and 2. log((e^-2 + e^-4 + e^-2) / 3) = log(0.0963286) = -2.339990.
    x = torch.tensor([E0, E1, [-1.0, 0.0]])
    expected = math.log((2 * 0.1353353 + 0.0183156) / 3)
    assert float(losses.uniformity(x)) == pytest.approx(expected, abs=1e-5)


def test_uniformity_is_highest_at_collapse_and_bounded_below_by_opposites() -> None:
    assert losses.uniformity(anchor()[:1, 0].expand(4, -1)) == 0
    assert float(losses.uniformity(torch.tensor([E0, [-1.0, 0.0]]))) == pytest.approx(-4)
    assert -4 < losses.uniformity(anchor()[:, 0]) < 0


def test_uniformity_pushes_two_samples_apart() -> None:
    x = torch.tensor([E0, [0.8, 0.6]], requires_grad=True)
    losses.uniformity(x).backward()
    assert x.grad is not None
    moved = (x - 0.1 * x.grad).detach()
    assert (moved[0] - moved[1]).norm() > (x[0] - x[1]).norm()


def test_uniformity_of_fewer_than_two_samples_is_zero() -> None:
    for size in (0, 1):
        x = anchor()[:size, 0].requires_grad_()
        value = losses.uniformity(x)
        value.backward()
        assert value == 0


def test_commitment_by_hand() -> None:
    # |(1,0) - (0,1)|^2 = 2 and |(0,1) - (0,1)|^2 = 0; mean over the two segments 1; times 0.25.
    assert float(losses.commitment(torch.tensor([[E0, E1]]), torch.tensor([[E1, E1]]))) == pytest.approx(0.25)


def test_commitment_is_zero_on_the_codes_and_at_most_the_diameter() -> None:
    assert losses.commitment(anchor(), anchor()) == 0
    assert float(losses.commitment(anchor(), -anchor())) == pytest.approx(0.25 * 4)


def test_commitment_moves_a_segment_to_its_code() -> None:
    z, code = anchor().requires_grad_(), other()
    losses.commitment(z, code).backward()
    assert z.grad is not None
    torch.testing.assert_close(z.grad / z.grad.norm(), (z - code).detach() / (z - code).detach().norm())


def test_code_probabilities_by_hand() -> None:
    # Segment (1, 0); codes (1, 0) and (0, 1): squared distances 0 and 2. p = 1 / (1 + e^-2) = 0.880797.
    # At temperature 0.5 the distances double: 1 / (1 + e^-4) = 0.982014.
    segment, book = torch.tensor([[E0]]), torch.tensor([E0, E1])
    assert float(losses.code_log_probabilities(segment, book).exp()[0, 0, 0]) == pytest.approx(0.880797, abs=1e-5)
    sharper = losses.code_log_probabilities(segment, book, temperature=0.5).exp()
    assert float(sharper[0, 0, 0]) == pytest.approx(0.982014, abs=1e-5)


def test_code_probabilities_use_the_distance_also_for_codes_of_other_norms() -> None:
    # Segment (1, 0); codes (2, 0) and (0, 1): squared distances 1 and 2. p = 1 / (1 + e^-1) = 0.731059.
    log_p = losses.code_log_probabilities(torch.tensor([[E0]]), torch.tensor([[2.0, 0.0], E1]))
    assert float(log_p.exp()[0, 0, 0]) == pytest.approx(0.731059, abs=1e-5)


def test_code_matching_by_hand() -> None:
    # One segment; samples (1,0) and (0,1) on both sides; codes the same two. p = (q, 1-q) with q = 0.880797,
    # log q = -0.126928, log(1-q) = -2.126928.
    # S(equal) = 2 (q log q + (1-q) log(1-q)) = -0.730671; S(swapped) = 2 (q log(1-q) + (1-q) log q) = -3.777053.
    # -log softmax = log(1 + e^(-3.777053 + 0.730671)) = log(1 + e^-3.046382) = 0.046436.
    x = torch.tensor([[E0], [E1]])
    q = 0.880797
    equal = 2 * (q * -0.126928 + (1 - q) * -2.126928)
    swapped = 2 * (q * -2.126928 + (1 - q) * -0.126928)
    expected = math.log(1 + math.exp(swapped - equal))
    assert float(losses.code_matching(x, x, torch.tensor([E0, E1]))) == pytest.approx(expected, abs=1e-5)


def test_code_matching_is_log_batch_without_information() -> None:
    same = anchor()[:1].expand(BATCH, -1, -1)
    assert float(losses.code_matching(same, same, codes())) == pytest.approx(math.log(BATCH), abs=1e-5)


def test_code_matching_has_two_different_directions() -> None:
    forward = losses.code_matching(anchor(), other(), codes())
    assert float(forward) != pytest.approx(float(losses.code_matching(other(), anchor(), codes())), abs=1e-4)


def test_code_matching_makes_the_two_modalities_agree() -> None:
    a, b, book = anchor().requires_grad_(), other(), codes()
    for _ in range(60):
        (gradient,) = torch.autograd.grad(losses.code_matching(a, b, book, 0.1), a)
        a = torch.nn.functional.normalize((a - 0.5 * gradient).detach(), dim=-1).requires_grad_()
    chosen = [(x @ book.T).argmax(-1) for x in (anchor(), a, b)]
    assert (chosen[1] == chosen[2]).float().mean() > (chosen[0] == chosen[2]).float().mean() + 0.2


def test_code_matching_does_not_depend_on_the_chunk() -> None:
    whole = losses.code_matching(anchor(), other(), codes(), chunk=99)
    torch.testing.assert_close(losses.code_matching(anchor(), other(), codes(), chunk=2), whole)


def test_code_contrast_by_hand() -> None:
    # Segment (1, 0); four codes at distance sqrt(2 - 2 cos): (1,0) -> 0 is avoided, so (0.6,0.8) -> sqrt(0.8),
    # (0,1) -> sqrt(2), (-1,0) -> 2, (-0.6,-0.8) -> sqrt(3.2).
    # Closest 10 % of four is one code: 0.894427. Furthest half: (2 + 1.788854) / 2 = 1.894427. Ratio 0.472136.
    book = torch.tensor([[0.6, 0.8], E1, [-1.0, 0.0], [-0.6, -0.8]])
    assert float(losses.code_contrast(torch.tensor([E0]), book)) == pytest.approx(0.472136, abs=1e-5)


def test_code_contrast_is_between_zero_and_one_and_not_constant() -> None:
    values = [losses.code_contrast(unit(7, WIDTH, seed=seed), codes()) for seed in range(3)]
    assert all(0 < value < 1 for value in values)
    assert len({round(float(value), 4) for value in values}) == 3
    assert losses.code_contrast(codes(), codes()) < losses.code_contrast(unit(CODES, WIDTH, seed=9), codes())


def test_code_uniformity_by_hand() -> None:
    # Codes (1,0) and (0,1): distances 0, 2, 2, 0. log((1 + e^-2 + e^-2 + 1) / 4) = log(0.567668) = -0.566219.
    assert float(losses.code_uniformity(torch.tensor([E0, E1]))) == pytest.approx(-0.566219, abs=1e-5)


def test_code_uniformity_is_zero_for_equal_codes() -> None:
    assert losses.code_uniformity(codes()[:1].expand(6, -1)) == 0
