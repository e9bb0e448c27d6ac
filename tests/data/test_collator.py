from types import SimpleNamespace
from typing import Any

import pytest
import torch

from codebind_hf.data import CodeBindCollator, NineSenses, PreparedDataset
from codebind_hf.data.collator import modality_names
from codebind_hf.model.configuration_codebind import CodeBindConfig
from codebind_hf.model.modalities import MODALITIES
from codebind_hf.processing.processing_codebind import CodeBindProcessor
from codebind_hf.training.tokenization import build_tokenizer


@pytest.fixture(scope="module")
def processor() -> CodeBindProcessor:
    tokenizer = build_tokenizer(["a wooden ring", "there is a rubber star here"])
    return CodeBindProcessor.from_model_config(CodeBindConfig.from_preset("tiny"), tokenizer)


def prepared(**tensors: torch.Tensor) -> dict[str, Any]:
    return {"tensors": tensors, "id": "x", "label": None, "attributes": {}}


def test_all_nine_senses_stack_over_their_rows(processor: CodeBindProcessor) -> None:
    batch = CodeBindCollator(processor)(NineSenses("test", num_rows=3)[:])
    modalities = [name for name in MODALITIES if name != "imu"]
    assert list(batch["rows"]) == modalities
    for modality in modalities:
        assert len(batch[MODALITIES[modality].tensor]) == 3
        assert batch["rows"][modality].tolist() == [0, 1, 2]
    assert batch["attention_mask"].shape == batch["input_ids"].shape
    assert batch["return_loss"] is True


def test_rows_say_which_row_of_the_batch_a_tensor_belongs_to(processor: CodeBindProcessor) -> None:
    full = NineSenses("test", num_rows=4)[:]
    rows = [
        {"text": full[0]["text"], "eeg": full[0]["eeg"]},
        {"depth": full[1]["depth"], "text": None},
        {"eeg": full[2]["eeg"], "depth": full[2]["depth"]},
    ]
    batch = CodeBindCollator(processor)(rows)
    assert {modality: places.tolist() for modality, places in batch["rows"].items()} == {
        "text": [0],
        "depth": [1, 2],
        "eeg": [0, 2],
    }
    alone = processor(eeg=[full[2]["eeg"]])["eeg_values"]
    torch.testing.assert_close(batch["eeg_values"][1:], alone, rtol=0, atol=0)


def test_prepared_and_raw_rows_give_the_same_batch(processor: CodeBindProcessor) -> None:
    rows = [*NineSenses("test", num_rows=2), NineSenses("train", num_bridge=1, num_target=0)[0]]
    raw = CodeBindCollator(processor)(rows)
    items = PreparedDataset(rows, processor)
    ready = CodeBindCollator()(list(items))
    assert raw.keys() == ready.keys()
    for name, value in raw.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, ready[name]), name
    assert {modality: places.tolist() for modality, places in raw["rows"].items()} == {
        modality: places.tolist() for modality, places in ready["rows"].items()
    }


def test_text_is_as_wide_as_the_longest_of_the_batch(processor: CodeBindProcessor) -> None:
    rows = [{"text": "a ring"}, {"text": "there is a rubber star here"}]
    batch = CodeBindCollator(processor)(rows)
    assert batch["attention_mask"].sum(1).max() == batch["input_ids"].shape[1]
    short = CodeBindCollator(processor)(rows[:1])
    assert short["input_ids"].shape[1] < batch["input_ids"].shape[1]


def test_texts_of_unequal_length_are_padded_with_the_tokenizers_pad_id() -> None:
    rows = [prepared(input_ids=torch.tensor([5, 6, 1])), prepared(input_ids=torch.tensor([7, 1]))]
    stand_in = SimpleNamespace(tokenizer=SimpleNamespace(pad_token_id=9))
    batch = CodeBindCollator(stand_in)(rows)
    assert batch["input_ids"].tolist() == [[5, 6, 1], [7, 1, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    with pytest.raises(ValueError, match="different lengths need a pad token. Fix"):
        CodeBindCollator()(rows)


def test_an_added_modality_is_batched_under_its_own_tensor() -> None:
    batch = CodeBindCollator()([prepared(radar_values=torch.ones(2, 3)), prepared(radar_values=torch.zeros(2, 3))])
    assert batch["radar_values"].shape == (2, 2, 3)
    assert batch["rows"]["radar"].tolist() == [0, 1]


def test_modalities_come_in_the_order_of_the_table() -> None:
    assert modality_names({"eeg": 1, "radar": 2, "text": "x", "depth": None, "label": "y"}) == ("text", "eeg", "radar")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        pytest.param([], "got an empty batch", id="empty"),
        pytest.param([{"text": "a"}], "processor: got None, but the rows are raw. Fix", id="raw-without-processor"),
        pytest.param([{"text": "a"}, prepared(eeg_values=torch.ones(1))], "raw and prepared rows in one", id="mixed"),
        pytest.param([{"text": "a"}, {"id": "b"}], "row 1 .id 'b'. has no modality", id="no-modality"),
        pytest.param(
            [prepared(eeg_values=torch.ones(2)), prepared(eeg_values=torch.ones(3))],
            r"eeg: row 'x' has shape \(3,\), but 'x' has \(2,\)",
            id="shapes",
        ),
    ],
)
def test_batches_that_cannot_be_made_are_refused(rows: list[dict], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CodeBindCollator()(rows)
