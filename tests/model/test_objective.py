"""Which modalities and pairs every loss term sees: subsets of rows, frozen encoders, weights, ablations."""

from typing import Any

import pytest
import reference
import torch
from common import ALL_TERMS, BATCH, CodeBindModel, small_config, tiny_config, tiny_inputs, tiny_model
from torch import Tensor

from codebind_hf.model.codebooks import SharedSpecificCodebook
from codebind_hf.model.modalities import MODALITIES
from codebind_hf.model.objective import ModalityState, Objective
from codebind_hf.training.freezing import train_only


NAMES = ("text", "image", "thermal", "eeg")
SIZES = {"text": 4, "image": 5, "thermal": 3, "eeg": 2}
ROWS = {
    "text": torch.tensor([0, 1, 2, 4]),
    "image": torch.tensor([4, 0, 1, 3, 5]),
    "thermal": torch.tensor([1, 5, 4]),
    "eeg": torch.tensor([0, 3]),
}
# (anchor, other, positions in the anchor's batch, positions in the other's), worked out from ROWS by hand.
PAIRS = (
    ("image", "thermal", [0, 2, 4], [2, 0, 1]),
    ("image", "eeg", [1, 3], [0, 1]),
    ("text", "thermal", [1, 3], [0, 2]),
    ("text", "eeg", [0], [0]),
    ("image", "text", [0, 1, 2], [3, 0, 1]),
)
KIND = {"image": "image", "text": "text"}
WEIGHTS = {"image": 0.3, "text": 1.7, "bridge": 0.9}
SCALE = 3.0
ALL = frozenset(NAMES)


def make_states(books: SharedSpecificCodebook, sizes: dict[str, int] = SIZES) -> dict[str, ModalityState]:
    states = {}
    for seed, (name, size) in enumerate(sizes.items()):
        generator = torch.Generator().manual_seed(seed)
        modality = MODALITIES[name]
        shared = books.quantize("shared", modality.encoder, torch.randn(size, 24, generator=generator))
        own = books.quantize("specific", modality.encoder, torch.randn(size, 24, generator=generator))
        states[name] = ModalityState(modality, shared, None if name == "text" else own)
    return states


def make_objective(trained: frozenset[str] = ALL, sizes: dict[str, int] = SIZES, **overrides: Any) -> Objective:
    weights = {"specific_dim": 24, "pair_weights": WEIGHTS, "loss_weights": dict.fromkeys(ALL_TERMS, 1.0)}
    config = small_config(*NAMES, **{**weights, **overrides})
    books = SharedSpecificCodebook(config)
    scale = torch.tensor([SCALE])
    return Objective(config, books, scale, make_states(books, sizes), ROWS, trained)


def kind_of(anchor: str, other: str) -> str:
    return "bridge" if other == "text" else anchor


def weighted(values: list[tuple[float, float]]) -> float:
    return sum(weight * value for weight, value in values) / sum(weight for weight, _ in values)


def expected_over_pairs(objective: Objective, loss: Any, field: str) -> float:
    values = []
    for anchor, other, first, second in PAIRS:
        a = getattr(objective.states[anchor].shared, field)[first]
        b = getattr(objective.states[other].shared, field)[second]
        values.append((WEIGHTS[kind_of(anchor, other)], loss(a, b)))
    return weighted(values)


@pytest.mark.parametrize(("align_on", "field"), [("codes", "embedding"), ("continuous", "continuous")])
def test_align_is_the_weighted_mean_over_the_pairs_that_share_rows(align_on: str, field: str) -> None:
    objective = make_objective(align_on=align_on)
    expected = expected_over_pairs(objective, lambda a, b: reference.info_nce(a, b, SCALE), field)
    assert objective.terms()["align"].item() == pytest.approx(expected, rel=1e-4)


def test_a_video_is_the_picture_of_the_rows_that_have_none() -> None:
    modalities = ("text", "image", "video", "audio")
    sizes = {"text": 3, "image": 2, "video": 3, "audio": 4}
    rows = {"text": [0, 1, 2], "image": [1, 7], "video": [0, 1, 3], "audio": [3, 1, 0, 7]}
    # (video, audio) share rows 0, 1 and 3, but row 1 has an image.
    expected = {
        ("image", "video"): ([0], [1]),
        ("image", "audio"): ([0, 1], [1, 3]),
        ("video", "audio"): ([0, 2], [2, 0]),
        ("text", "video"): ([0, 1], [0, 1]),
        ("text", "audio"): ([0, 1], [2, 1]),
        ("image", "text"): ([0], [1]),
    }
    config = small_config(*modalities, align_on="continuous", loss_weights={"align": 1.0})
    books = SharedSpecificCodebook(config)
    positions = {name: torch.tensor(ids) for name, ids in rows.items()}
    states = make_states(books, sizes)
    objective = Objective(config, books, torch.tensor([SCALE]), states, positions, frozenset(modalities))
    found = [(pair.anchor, pair.other) for pair in objective.pairs]
    assert len(found) == len(expected)
    for (anchor, other), ((first, second), indices) in zip(found, expected.items(), strict=True):
        assert torch.equal(anchor, states[first].shared.continuous[indices[0]]), (first, second)
        assert torch.equal(other, states[second].shared.continuous[indices[1]]), (first, second)


def test_alignment_on_codes_and_on_the_continuous_embedding_differ() -> None:
    values = {on: make_objective(align_on=on).terms()["align"].item() for on in ("codes", "continuous")}
    assert values["codes"] != pytest.approx(values["continuous"], rel=1e-3)


def test_the_segment_term_has_a_temperature_of_its_own() -> None:
    objective = make_objective(segment_temperature=0.5)
    expected = expected_over_pairs(objective, lambda a, b: reference.segment_info_nce(a, b, 2.0), "segments")
    assert objective.terms()["seg"].item() == pytest.approx(expected, rel=1e-4)


def test_code_matching_uses_the_shared_codes_and_the_code_temperature() -> None:
    objective = make_objective(code_temperature=0.3)
    codes = objective.codebooks.shared.codes
    expected = expected_over_pairs(objective, lambda a, b: reference.code_matching(a, b, codes, 0.3), "segments")
    assert objective.terms()["cm"].item() == pytest.approx(expected, rel=1e-4)


def own_parts(objective: Objective) -> list[tuple[str, Any]]:
    return [(name, state) for name, state in objective.states.items() if state.specific is not None]


def test_terms_on_single_modalities_are_means_over_modalities() -> None:
    objective = make_objective()
    terms = objective.terms()
    own = own_parts(objective)
    orth = reference.mean([reference.orthogonality(x.shared.embedding, x.specific.embedding) for _, x in own])
    uni = reference.mean([reference.uniformity(x.specific.embedding) for _, x in own])
    decorr = reference.mean([reference.decorrelation(x.shared.continuous, x.specific.continuous) for _, x in own])
    assert terms["decorr"].item() == pytest.approx(decorr, rel=1e-2)
    assert terms["orth"].item() == pytest.approx(orth, rel=1e-4)
    assert terms["uni"].item() == pytest.approx(uni, rel=1e-4)


def test_commitment_sums_shared_and_specific_and_averages_modalities() -> None:
    objective = make_objective()
    values = []
    for state in objective.states.values():
        parts = [part for part in (state.shared, state.specific) if part is not None]
        values.append(sum(reference.commitment(part.segments, part.chosen) for part in parts))
    assert objective.terms()["commit"].item() == pytest.approx(reference.mean(values), rel=1e-4)


def test_code_contrast_takes_every_part_with_its_own_book() -> None:
    objective = make_objective()
    books, values = objective.codebooks, []
    for state in objective.states.values():
        values.append(reference.code_contrast(state.shared.segments, books.shared.codes))
        if state.specific is not None:
            codes = books.specific[state.modality.encoder].codes
            values.append(reference.code_contrast(state.specific.segments, codes))
    assert objective.terms()["cctr"].item() == pytest.approx(reference.mean(values), rel=1e-4)


def test_code_uniformity_is_the_mean_over_books() -> None:
    objective = make_objective()
    books = [objective.codebooks.shared, *objective.codebooks.specific.values()]
    expected = reference.mean([reference.code_uniformity(book.codes) for book in books])
    assert objective.terms()["cuni"].item() == pytest.approx(expected, rel=1e-4)


def test_reconstruction_is_the_mean_over_modalities_and_clouds_use_the_chamfer_distance() -> None:
    objective = make_objective()
    image, thermal = objective.states["image"], objective.states["thermal"]
    image.reconstruction, image.target = torch.zeros(5, 2), torch.ones(5, 2)
    thermal.reconstruction, thermal.target, thermal.is_points = torch.zeros(3, 2, 3), torch.ones(3, 4, 3), True
    # 1 for the picture; squared distance 3 to the nearest in both directions for the cloud: (1 + 6) / 2.
    assert objective.terms()["recon"].item() == pytest.approx(3.5)


def test_a_term_without_weight_is_not_computed() -> None:
    assert set(make_objective(loss_weights={"seg": 0.1}).terms()) == {"align", "seg"}
    assert set(make_objective(loss_weights={"align": 0.0, "uni": 0.1}).terms()) == {"uni"}


@pytest.mark.parametrize("kind", ["image", "text", "bridge"])
def test_a_pair_of_weight_zero_is_left_out(kind: str) -> None:
    objective = make_objective(pair_weights={**WEIGHTS, kind: 0.0})
    kept = [kind_of(anchor, other) for anchor, other, _, _ in PAIRS if kind_of(anchor, other) != kind]
    assert [pair.weight for pair in objective.pairs] == [WEIGHTS[name] for name in kept]


def test_pairs_that_teach_nobody_are_left_out() -> None:
    objective = make_objective(trained=frozenset({"thermal"}))
    assert [pair.weight for pair in objective.pairs] == [WEIGHTS["image"], WEIGHTS["text"]]
    assert [state.modality.name for state in objective.own] == ["thermal"]


def test_without_gradient_everything_is_evaluated() -> None:
    with torch.no_grad():
        assert len(make_objective(trained=frozenset({"thermal"})).pairs) == len(PAIRS)


def test_modalities_without_a_shared_row_make_no_pair() -> None:
    objective = make_objective(sizes={"thermal": 3, "text": 4, "eeg": 2})
    assert len(objective.pairs) == 2


@pytest.mark.parametrize("sizes", [{"thermal": 3, "eeg": 2}, {"text": 4}, {"eeg": 2}])
def test_a_batch_in_which_nothing_can_be_aligned_is_refused(sizes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"the batch has {', '.join(sizes)} and no two modalities to align"):
        make_objective(sizes=sizes).terms()


def test_a_batch_of_one_modality_is_fine_when_nothing_needs_alignment() -> None:
    objective = make_objective(sizes={"eeg": 2}, loss_weights={"align": 0.0, "commit": 1.0, "cm": 1.0})
    assert set(objective.terms()) == {"commit"}


def test_autocast_does_not_change_the_losses() -> None:
    expected = make_objective().terms()
    objective = make_objective()
    with torch.autocast("cpu", torch.bfloat16):
        terms = objective.terms()
    for name, value in terms.items():
        torch.testing.assert_close(value, expected[name])


# The whole model


def trained_model(**overrides: Any) -> CodeBindModel:
    fields = {"specific_dim": 24, "loss_weights": dict.fromkeys(ALL_TERMS, 1.0), "pair_weights": WEIGHTS}
    return tiny_model(small_config(*NAMES, **{**fields, **overrides})).train()


def gradients(model: CodeBindModel, inputs: dict[str, Any]) -> dict[str, float]:
    """Gradient norm of every child of every encoder, and of the temperature."""
    model.zero_grad()
    model(**inputs, return_loss=True).loss.backward()
    sums: dict[str, float] = {}
    for name, parameter in model.named_parameters():
        part = ".".join(name.split(".")[:3])
        norm = 0.0 if parameter.grad is None else float(parameter.grad.norm())
        sums[part] = sums.get(part, 0.0) + norm
    return sums


REACHES = {
    "align": {"tower", "shared_head", "logit_scale"},
    "seg": {"tower", "shared_head"},
    "recon": {"tower", "shared_head", "specific_head", "decoders"},
    "orth": {"tower", "shared_head", "specific_head"},
    "decorr": {"tower", "shared_head", "specific_head"},
    "uni": {"tower", "specific_head"},
    "commit": {"tower", "shared_head", "specific_head"},
    "cm": {"tower", "shared_head"},
    "cctr": {"tower", "shared_head", "specific_head"},
}


@pytest.mark.parametrize("term", REACHES)
def test_a_term_reaches_what_the_design_says_and_nothing_else(term: str) -> None:
    model = trained_model(loss_weights={"align": 0.0, term: 1.0})
    inputs = tiny_inputs(model.config)
    # Clips of a video are normalized jointly before their mean, which ties the specific part to the shared one.
    del inputs["pixel_values_videos"]
    found = {}
    for part, norm in gradients(model, inputs).items():
        names = part.split(".")
        encoder, kind = (names[1], names[2]) if names[0] == "encoders" else ("", names[0])
        found[encoder, kind] = found.get((encoder, kind), 0.0) + norm
    for (encoder, kind), norm in found.items():
        alone = encoder == "text" and term in ("recon", "orth", "decorr", "uni")
        assert (norm > 1e-5) == (kind in REACHES[term] and not alone), (encoder, kind, norm)


@pytest.mark.parametrize("term", [*REACHES, "all"])
def test_a_step_along_the_gradient_lowers_the_loss_of_the_model(term: str) -> None:
    weights = dict.fromkeys(ALL_TERMS, 1.0) if term == "all" else {"align": 0.0, term: 1.0}
    # In evaluation mode the codes stay where they are, and with many of them quantization is fine enough to follow.
    overrides = {"num_shared_codes": 400, "num_specific_codes": 400, "decoder_inputs": "codes"}
    model = trained_model(loss_weights=weights, **overrides).eval()
    inputs = tiny_inputs(model.config)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    values = []
    for _ in range(12):
        loss = model(**inputs, return_loss=True).loss
        values.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    assert min(values[1:]) < values[0]
    assert reference.mean(values[-3:]) < values[0]


def test_the_loss_is_the_sum_of_terms_times_unusual_weights() -> None:
    """Weights that are all different, so that two swapped ones show."""
    weights = {name: 0.1 + 0.37 * i for i, name in enumerate(ALL_TERMS)}
    model = trained_model(loss_weights=weights)
    output = model(**tiny_inputs(model.config), return_loss=True)
    assert set(output.loss_terms) == set(ALL_TERMS)
    expected = sum(weights[name] * value.item() for name, value in output.loss_terms.items())
    assert output.loss.item() == pytest.approx(expected, rel=1e-5)
    assert output.loss.shape == ()


def test_rows_select_the_same_pairs_as_smaller_aligned_batches() -> None:
    model = trained_model(loss_weights={}).eval()
    full = tiny_inputs(model.config, batch=6)
    full = {name: full[name] for name in ("input_ids", "attention_mask", "thermal_values")}
    some, chosen = dict(full), torch.tensor([5, 1, 2])
    some["thermal_values"] = full["thermal_values"][chosen]
    rows = {"text": torch.arange(6), "thermal": chosen}
    aligned = {"thermal_values": some["thermal_values"], "input_ids": full["input_ids"][chosen]}
    aligned["attention_mask"] = full["attention_mask"][chosen]
    first = model(**some, rows=rows, return_loss=True).loss
    torch.testing.assert_close(first, model(**aligned, return_loss=True).loss)


def test_a_specific_part_that_stays_is_not_computed_beside_one_that_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    model = trained_model(specific_readout="network", loss_weights={"decorr": 1.0, "orth": 1.0, "uni": 1.0})
    inputs = tiny_inputs(model.config)
    expected = model(**inputs, return_loss=True)
    train_only(model, ["thermal"], bridges=["text", "image"], bridge_mode="shared_heads")
    with torch.no_grad():
        assert set(model.eval()(**inputs, return_loss=True).specific_embeds) == {"image", "video", "thermal", "eeg"}
    for encoder in ("vision", "eeg"):
        monkeypatch.setattr(model.encoders[encoder].specific_readout, "forward", None)
    output = model.train()(**inputs, return_loss=True)
    assert set(output.specific_embeds) == {"thermal"}
    shared, own = expected.continuous_embeds["thermal"], expected.continuous_specific_embeds["thermal"]
    assert output.loss_terms["decorr"].item() == pytest.approx(reference.decorrelation(shared, own), rel=1e-2)
    uniformity = reference.uniformity(output.specific_embeds["thermal"])
    assert output.loss_terms["uni"].item() == pytest.approx(uniformity, rel=1e-3)


def test_frozen_encoders_get_no_gradient_no_decoder_and_no_term_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    model = trained_model()
    for name in ("text", "vision"):
        model.encoders[name].requires_grad_(False)
    decoded: list[str] = []
    for name, decoder in model.decoders.items():
        decoder.register_forward_hook(lambda *_, name=name: decoded.append(name))
    output = model(**tiny_inputs(model.config), return_loss=True)
    output.loss.backward()
    assert set(decoded) == {"thermal", "eeg"}
    assert all(parameter.grad is None for parameter in model.encoders["vision"].parameters())
    assert all(parameter.grad is not None for parameter in model.encoders["eeg"].shared_head.parameters())


ABLATIONS: dict[str, dict[str, Any]] = {
    "no shared codebook": {"num_shared_codes": 0, "align_on": "continuous"},
    "no codebook at all": {"num_shared_codes": 0, "num_specific_codes": 0, "align_on": "continuous"},
    "no decoupling": {"specific_dim": 0},
    "conventional VQ": {"code_dim": 24},
    "continuous specific part": {"quantize_specific": False},
    "decoder sees tokens": {"decoder_inputs": "codes+tokens"},
    "no decoder": {"decoder_config": None},
    "codes beside": {"align_on": "continuous"},
    "codes off the sphere": {"normalize_codes": False},
    "a second class token": {"specific_readout": "token", "reconstruction_gradient": "specific"},
    "pooled tokens": {"specific_readout": "pool"},
}


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_trains_and_embeds(name: str) -> None:
    model = trained_model(**ABLATIONS[name])
    output = model(**tiny_inputs(model.config), return_loss=True)
    output.loss.backward()
    absent = {
        "no shared codebook": {"cm"},
        "no codebook at all": {"cm", "cctr", "cuni", "commit"},
        "no decoupling": {"orth", "decorr", "uni"},
        "no decoder": {"recon"},
    }
    assert set(output.loss_terms) == set(ALL_TERMS) - absent.get(name, set())
    assert output.loss.isfinite()
    for embeds in (output.embeds, output.specific_embeds or {}):
        for value in embeds.values():
            torch.testing.assert_close(value.norm(dim=-1), torch.ones(BATCH))


def test_without_decoupling_there_is_no_specific_part() -> None:
    model = trained_model(specific_dim=0).eval()
    output = model(**tiny_inputs(model.config))
    assert output.specific_embeds is None
    assert len(model.codebooks.specific) == 0
    assert all(encoder.specific_head is None for encoder in model.encoders.values())


def test_conventional_vq_has_one_segment() -> None:
    model = trained_model(code_dim=24).eval()
    output = model(**tiny_inputs(model.config))
    assert output.codes["image"].shared.shape == (BATCH, 1)
    torch.testing.assert_close(
        output.embeds["image"], model.codebooks.shared.codes[output.codes["image"].shared[:, 0]]
    )


def test_without_codebook_quantized_and_continuous_are_equal() -> None:
    model = trained_model(**ABLATIONS["no codebook at all"]).eval()
    output = model(**tiny_inputs(model.config))
    for name, value in output.embeds.items():
        assert torch.equal(value, output.continuous_embeds[name])
        assert output.codes[name].shared is None


def test_a_continuous_specific_part_keeps_its_ids_but_not_its_codes() -> None:
    model = trained_model(quantize_specific=False).eval()
    output = model(**tiny_inputs(model.config))
    assert torch.equal(output.specific_embeds["eeg"], output.continuous_specific_embeds["eeg"])
    assert output.codes["eeg"].specific.shape == (BATCH, 6)


def losses_without_codes(books: SharedSpecificCodebook, objective: Objective) -> dict[str, Tensor]:
    for book in (books.shared, *books.specific.values()):
        book.reset(book.codes.flip(0).roll(1, dims=1))
    objective.states = make_states(books)
    objective.own = list(objective.states.values())
    return objective.terms()


def test_continuous_parts_are_judged_before_quantization() -> None:
    """Other codes change no term on embeddings when both parts stay continuous."""
    overrides = {"align_on": "continuous", "quantize_specific": False}
    objective = make_objective(loss_weights={"orth": 1.0, "uni": 1.0}, **overrides)
    before = objective.terms()
    after = losses_without_codes(objective.codebooks, objective)
    torch.testing.assert_close(before, after)


def test_the_decoder_of_the_paper_sees_codes_only() -> None:
    """Two inputs with the same codes have the same reconstruction; the released weights' decoder tells them apart."""
    for decoder_inputs, equal in (("codes", True), ("codes+tokens", False)):
        model = tiny_model(
            small_config("thermal", num_shared_codes=1, num_specific_codes=1, decoder_inputs=decoder_inputs)
        )
        first, second = (
            model(**tiny_inputs(model.config, seed=seed), output_reconstructions=True).reconstructions["thermal"]
            for seed in (1, 2)
        )
        assert torch.equal(first, second) == equal


def test_training_moves_the_codebooks_once_per_forward_and_evaluation_never() -> None:
    model = trained_model()
    inputs = tiny_inputs(model.config)
    model(**inputs, return_loss=True)
    assert model.codebooks.shared.num_updates == 1
    model(**inputs)
    model.eval()(**inputs, return_loss=True)
    assert model.codebooks.shared.num_updates == 1


def test_every_modality_of_the_tiny_model_takes_part_in_training() -> None:
    model = tiny_model(tiny_config(specific_dim=24, loss_weights=dict.fromkeys(ALL_TERMS, 1.0))).train()
    silent = [name for name, norm in gradients(model, tiny_inputs(model.config)).items() if norm == 0]
    assert silent == []
