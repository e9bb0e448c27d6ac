"""Odd tensors: `forward` and what takes embeddings give finite numbers, or refuse them by the name of the keyword."""

import math
from typing import Any

import pytest
import torch
from common import CodeBindModel, small_config, tiny_inputs, tiny_model
from fuzzing.doors import embedding_calls, forward_calls
from fuzzing.outcomes import REFUSED, TAKEN, Outcomes
from fuzzing.strategies import STORAGE

from codebind_hf import CodeBindProcessor
from codebind_hf.training.tokenization import build_tokenizer


EEG = torch.linspace(-1, 1, 2 * 5 * 33).view(2, 5, 33)
IDS = torch.tensor([[5, 6, 1], [7, 1, 2]])


@pytest.fixture(scope="module")
def model() -> CodeBindModel:
    return tiny_model()


@pytest.fixture(scope="module")
def small() -> CodeBindModel:
    return tiny_model(small_config("text", "eeg"))


@pytest.mark.filterwarnings("ignore")
def test_forward_takes_or_clearly_refuses_any_tensor(model: CodeBindModel) -> None:
    outcomes = Outcomes()
    with torch.no_grad():
        outcomes.try_all(forward_calls(model), 600)
    assert min(outcomes.counts["forward", TAKEN], outcomes.counts["forward", REFUSED]) > 50, outcomes.table()


@pytest.mark.filterwarnings("ignore")
def test_what_takes_embeddings_or_items_takes_or_clearly_refuses_anything() -> None:
    model = tiny_model(small_config("text", "eeg", "depth", text_config={"vocab_size": 700}))
    processor = CodeBindProcessor.from_model_config(model.config, build_tokenizer(["a", "b"] * 3, 700))
    outcomes = Outcomes()
    with torch.no_grad():
        outcomes.try_all(embedding_calls(model, processor), 400)
    for door in ("encode", "similarity", "probabilities", "decode", "codes_to_embeds"):
        assert outcomes.counts[door, REFUSED] > 0, outcomes.table()
    for door in ("encode", "similarity", "probabilities"):
        assert outcomes.counts[door, TAKEN] > 0, outcomes.table()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e19])
@pytest.mark.parametrize("training", [False, True])
def test_one_number_that_is_none_is_refused_and_found(small: CodeBindModel, value: float, training: bool) -> None:
    values = EEG.clone()
    values[1, 3, 7] = value
    small.train(training)
    message = r"eeg_values: got 1 numbers that are NaN, infinite or beyond .* at index \(1, 3, 7\); .*Fix: drop"
    with pytest.raises(ValueError, match=message):
        small(eeg_values=values)
    with pytest.raises(ValueError, match=message):
        small.get_eeg_features(values)
    small.eval()


def test_a_second_view_is_looked_at_as_closely(small: CodeBindModel) -> None:
    with pytest.raises(ValueError, match="eeg_values: got 330 numbers that are NaN"):
        small(eeg_values=EEG, views={"eeg_values": EEG * math.nan})


def test_the_largest_numbers_that_are_taken_give_finite_embeddings(small: CodeBindModel) -> None:
    for value in (1e18, -1e18, 0.0):
        assert small(eeg_values=torch.full_like(EEG, value)).embeds["eeg"].isfinite().all()


def test_the_look_at_numbers_can_be_left_out(small: CodeBindModel) -> None:
    small.check_inputs = False
    try:
        assert small(eeg_values=EEG * math.nan).continuous_embeds["eeg"].isnan().all()
        assert small(eeg_values=EEG).embeds["eeg"].isfinite().all()
        rows = torch.vmap(lambda x: small.get_eeg_features(x[None]).pooler_output[0])(EEG)
    finally:
        del small.check_inputs
    torch.testing.assert_close(rows, small.get_eeg_features(EEG).pooler_output)
    with pytest.raises(ValueError, match="eeg_values: got 330 numbers"):
        small(eeg_values=EEG * math.nan)


def test_a_compiled_model_does_not_look(small: CodeBindModel) -> None:
    torch.compiler.reset()
    compiled = torch.compile(small.get_eeg_features, fullgraph=True, backend="eager")
    assert compiled(EEG * math.nan, quantize=False).pooler_output.isnan().all()
    torch.compiler.reset()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            "sparse",
            r"got a tensor of layout torch.sparse_coo; expected a dense tensor with data. Fix: `.to_dense\(\)`",
        ),
        ("opaque", r"got a tensor of layout torch._mkldnn"),
        ("nested", "got a nested tensor; expected a dense tensor.*to_padded_tensor"),
        ("jagged", "got a nested tensor"),
        ("meta", "got a tensor without data"),
        ("lazy", "got a tensor without data"),
        ("quantized", "got dtype torch.quint8; expected floating point of 16 to 64 bits"),
        ("conjugate", "got dtype torch.complex64; expected floating point"),
    ],
)
def test_a_tensor_that_is_not_dense_is_refused_by_name(small: CodeBindModel, kind: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"eeg_values: {message}"):
        small(eeg_values=STORAGE[kind](EEG))


@pytest.mark.parametrize("kind", ["negative view", "transposed", "learning", "parameter"])
def test_a_tensor_that_is_stored_in_another_way_gives_the_same_bits(small: CodeBindModel, kind: str) -> None:
    found, expected = (small(eeg_values=x).continuous_embeds["eeg"] for x in (STORAGE[kind](EEG), EEG))
    # The imaginary part of the conjugate of x - xi is x.
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"input_ids": IDS.to_sparse()}, "input_ids: got a tensor of layout torch.sparse_coo"),
        (
            {"input_ids": IDS, "attention_mask": IDS.float().to_sparse()},
            "attention_mask: got a tensor of layout torch.sparse_coo",
        ),
        ({"input_ids": IDS, "attention_mask": IDS.cfloat()}, "attention_mask: got dtype torch.complex64"),
        ({"eeg_values": EEG, "rows": {"eeg": torch.tensor(1)}}, r"rows\['eeg'\]: got torch.int64 of shape \(\)"),
        ({"eeg_values": EEG, "rows": {"eeg": torch.ones(2)}}, r"rows\['eeg'\]: got torch.float32 of shape \(2,\)"),
        ({"eeg_values": EEG, "views": EEG}, "views: got Tensor; expected a dictionary"),
        ({"eeg_values": EEG, "views": {"eeg_values": EEG.to_sparse()}}, "eeg_values: got a tensor of layout"),
    ],
)
def test_masks_rows_and_views_are_checked_like_inputs(
    small: CodeBindModel, keywords: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        small(**keywords)


def test_every_modality_refuses_nan_by_its_keyword(model: CodeBindModel) -> None:
    for name, values in tiny_inputs(model.config).items():
        if values.is_floating_point():
            with pytest.raises(ValueError, match=f"^{name}: got {values.numel()} numbers that are NaN"):
                model(**{name: torch.full_like(values, math.nan)})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_infinities_of_every_width_are_refused(model: CodeBindModel, dtype: torch.dtype) -> None:
    values = tiny_inputs(model.config)["eeg_values"].to(dtype)
    values[0, 0, 0] = math.inf
    with pytest.raises(ValueError, match=r"eeg_values: got 1 numbers that are NaN, infinite or beyond"):
        model(eeg_values=values)
