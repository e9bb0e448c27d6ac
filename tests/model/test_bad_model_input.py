"""Bad input to the model: every case says which argument, what came and what is allowed."""

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from common import CodeBindModel, small_config, tiny_inputs, tiny_model


NAMES = ("text", "image", "video", "audio", "thermal", "point_cloud", "eeg")
INTEGERS = torch.ones(2, 5, 33, dtype=torch.long)
IDS = torch.tensor([[5, 6, 1], [7, 1, 2]])
EEG = torch.zeros(2, 5, 33)
THERMAL = torch.zeros(2, 1, 8, 20)
IMAGE = torch.zeros(2, 3, 16, 24)
VIDEO = torch.zeros(2, 1, 2, 3, 16, 24)
POINTS = torch.zeros(2, 40, 3)


@pytest.fixture(scope="module")
def model() -> CodeBindModel:
    return tiny_model(small_config(*NAMES))


def positions(*values: int) -> torch.Tensor:
    return torch.tensor(values)


# name: (keywords of forward, pattern of the message)
FORWARD: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({}, "forward: got no input; give at least one of input_ids, pixel_values"),
    "nothing but a mask": ({"attention_mask": torch.ones(2, 3)}, "forward: got no input"),
    "everything None": ({"input_ids": None, "eeg_values": None}, "forward: got no input"),
    "unknown keyword": ({"radar_values": EEG}, "radar_values: this checkpoint does not take it; it takes input_ids"),
    "modality of another checkpoint": ({"depth_values": EEG}, "depth_values: this checkpoint does not take it"),
    "list": ({"eeg_values": [[0.0]]}, "eeg_values: got list; expected a torch.Tensor"),
    "array": ({"eeg_values": EEG.numpy()}, "eeg_values: got ndarray; expected a torch.Tensor"),
    "integers": ({"eeg_values": INTEGERS}, "eeg_values: got dtype torch.int64; expected floating point"),
    "truths": ({"thermal_values": THERMAL.bool()}, "thermal_values: got dtype torch.bool"),
    "complex": ({"eeg_values": EEG.cfloat()}, "eeg_values: got dtype torch.complex64"),
    "no batch axis": ({"eeg_values": EEG[0]}, r"eeg_values: got shape \(5, 33\); expected \(batch, 5, 33\)"),
    "one number": ({"eeg_values": torch.tensor(0.0)}, r"eeg_values: got shape \(\); expected \(batch, 5, 33\)"),
    "swapped axes": ({"eeg_values": EEG.mT}, r"eeg_values: got shape \(2, 33, 5\).*\(batch, channels, time\)"),
    "empty batch": ({"eeg_values": EEG[:0]}, r"eeg_values: got shape \(0, 5, 33\); batch and clips must be 1"),
    "too short": ({"eeg_values": EEG[..., :32]}, r"eeg_values: got shape \(2, 5, 32\)"),
    "channels last": (
        {"pixel_values": IMAGE.movedim(1, -1)},
        r"pixel_values: got shape \(2, 16, 24, 3\).*\(batch, 3, 16, 24",
    ),
    "colour for thermal": (
        {"thermal_values": THERMAL.expand(-1, 3, -1, -1)},
        r"thermal_values: got shape \(2, 3, 8, 20",
    ),
    "image as video": ({"pixel_values_videos": IMAGE}, r"pixel_values_videos: got shape \(2, 3, 16, 24\); expected"),
    "video without clips": ({"pixel_values_videos": VIDEO[:, 0]}, "pixel_values_videos: got shape"),
    "odd frames": ({"pixel_values_videos": VIDEO[:, :, :1]}, "pixel_values_videos: .* multiple of 2 frames"),
    "no frames": ({"pixel_values_videos": VIDEO[:, :, :0]}, "pixel_values_videos: .* multiple of 2 frames"),
    "no clips": ({"pixel_values_videos": VIDEO[:, :0]}, "pixel_values_videos: got shape .*clips must be 1"),
    "video of another size": ({"pixel_values_videos": VIDEO[..., :8]}, r"pixel_values_videos: got shape .*3, 16, 24"),
    "audio without clips": ({"input_features": torch.zeros(2, 14, 18)}, r"input_features: got shape \(2, 14, 18\)"),
    "audio with no clip": (
        {"input_features": torch.zeros(2, 0, 14, 18)},
        "input_features: got shape .*clips must be 1",
    ),
    "audio of other bins": (
        {"input_features": torch.zeros(2, 1, 15, 18)},
        r"input_features: got shape \(2, 1, 15, 18\)",
    ),
    "points first": ({"point_values": POINTS.mT}, r"point_values: got shape \(2, 3, 40\); expected \(batch, 40, 3\)"),
    "too few points": ({"point_values": POINTS[:, :39]}, r"point_values: got shape \(2, 39, 3\)"),
    "coloured points": ({"point_values": torch.zeros(2, 40, 6)}, r"point_values: got shape \(2, 40, 6\)"),
    "text as floats": (
        {"input_ids": IDS.float()},
        r"input_ids: got torch.float32 of shape \(2, 3\); expected integers",
    ),
    "text without batch": ({"input_ids": IDS[0]}, r"input_ids: got torch.int64 of shape \(3,\)"),
    "no text": ({"input_ids": IDS[:0]}, r"input_ids: got torch.int64 of shape \(0, 3\)"),
    "text without tokens": ({"input_ids": IDS[:, :0]}, "input_ids: got 0 tokens; allowed are 1 to 12"),
    "long text": ({"input_ids": torch.ones(2, 13, dtype=torch.long)}, "input_ids: got 13 tokens; allowed are 1 to 12"),
    "negative id": ({"input_ids": IDS - 3}, "input_ids: got ids from -2 to 4; this checkpoint has 50 tokens"),
    "id of another tokenizer": ({"input_ids": IDS + 45}, "input_ids: got ids from 46 to 52.*own tokenizer"),
    "text without end": ({"input_ids": IDS[:, :1]}, r"input_ids: row 0 has no end token \(id 1\)"),
    "mask of another size": (
        {"input_ids": IDS, "attention_mask": torch.ones(2, 4)},
        r"attention_mask: got shape \(2, 4\); expected that of input_ids, \(2, 3\)",
    ),
    "mask that is no tensor": (
        {"input_ids": IDS, "attention_mask": [[1]]},
        "attention_mask: got list; expected a torch",
    ),
    "unequal batches": (
        {"eeg_values": EEG, "input_ids": IDS[:1], "return_loss": True},
        "return_loss: the modalities have different batch sizes .*'text': 1, 'eeg': 2.*rows=",
    ),
    "rows without a modality": (
        {"eeg_values": EEG, "input_ids": IDS, "return_loss": True, "rows": {"text": positions(0, 1)}},
        "rows: got none positions for eeg, which has 2 samples",
    ),
    "rows of another size": (
        {"eeg_values": EEG, "input_ids": IDS, "rows": {"text": positions(0, 1), "eeg": positions(0)}},
        "rows: got 1 positions for eeg, which has 2 samples",
    ),
    "rows that are lists": (
        {"eeg_values": EEG, "input_ids": IDS, "rows": {"text": [0, 1], "eeg": [0, 1]}},
        r"rows\['text'\]: got list; expected a torch.Tensor",
    ),
    "rows that are no dictionary": ({"eeg_values": EEG, "rows": [0, 1]}, "rows: got list; expected a dictionary"),
    "rows twice": (
        {"eeg_values": EEG, "input_ids": IDS, "rows": {"text": positions(0, 1), "eeg": positions(1, 1)}},
        "rows: eeg has two samples for one row",
    ),
    "no shared row": (
        {
            "eeg_values": EEG,
            "input_ids": IDS,
            "return_loss": True,
            "rows": {"text": positions(0, 1), "eeg": positions(2, 3)},
        },
        "return_loss: the batch has text, eeg and no two modalities to align",
    ),
    "loss of one modality": (
        {"eeg_values": EEG, "return_loss": True},
        "return_loss: the batch has eeg and no two modalities",
    ),
}


@pytest.mark.parametrize("case", FORWARD)
def test_forward_refuses_bad_input(model: CodeBindModel, case: str) -> None:
    keywords, message = FORWARD[case]
    with pytest.raises(ValueError, match=re.compile(message, re.DOTALL)):
        model(**keywords)


# name: (call, pattern of the message)
CALLS: dict[str, tuple[Callable[[CodeBindModel], Any], str]] = {
    "features of nothing known": (lambda m: m.get_features("smell", EEG), "unknown modality 'smell'; known: text"),
    "features of an absent modality": (lambda m: m.get_imu_features(EEG), "modality: 'imu' is not in this checkpoint"),
    "features of a wrong shape": (lambda m: m.get_eeg_features(EEG.mT), r"eeg_values: got shape \(2, 33, 5\)"),
    "features of a wrong text": (lambda m: m.get_text_features(IDS + 45), "input_ids: got ids from 46"),
    "codes of nothing known": (lambda m: m.codes_to_embeds(IDS, "smell"), "unknown modality 'smell'"),
    "codes of an absent modality": (
        lambda m: m.codes_to_embeds(torch.zeros(1, 5).long(), "imu", "specific"),
        "modality: 'imu' is not in this checkpoint, which has text, image",
    ),
    "codes of another part": (
        lambda m: m.codes_to_embeds(IDS, "eeg", "common"),
        "part: got 'common'; allowed: 'shared'",
    ),
    "too few segments": (
        lambda m: m.codes_to_embeds(IDS, "eeg"),
        r"ids: got torch.int64 of shape \(2, 3\); expected integers with 6 segments last",
    ),
    "codes as floats": (lambda m: m.codes_to_embeds(torch.zeros(1, 6), "eeg"), "ids: got torch.float32"),
    "code id too large": (
        lambda m: m.codes_to_embeds(torch.full((1, 6), 16), "eeg"),
        r"ids: got values in \[16, 16\]; allowed are 0 to 15",
    ),
    "code id of the smaller book": (
        lambda m: m.codes_to_embeds(torch.full((1, 5), 10), "eeg", "specific"),
        r"ids: got values in \[10, 10\]; allowed are 0 to 9",
    ),
    "negative code id": (lambda m: m.codes_to_embeds(torch.full((1, 6), -1), "eeg"), r"ids: got values in \[-1, -1\]"),
    "specific codes of text": (
        lambda m: m.codes_to_embeds(torch.zeros(1, 0).long(), "text", "specific"),
        "part: 'specific' of 'text' has no codebook",
    ),
    "encode to an unknown output": (
        lambda m: m.encode(["a"], None, output="list"),
        "output: got 'list'; allowed: 'numpy', 'torch', 'codes'",
    ),
    "encode in batches of none": (lambda m: m.encode(["a"], None, batch_size=0), "batch_size: got 0"),
    "encode one text": (lambda m: m.encode("a dog", None), "items: got str; expected a dictionary"),
    "encode nothing": (lambda m: m.encode([], None), "items: got nothing; expected one value or more"),
    "encode a number": (
        lambda m: m.encode([3], None),
        r"items\[0\]: got int; allowed: an item whose modality is known.*a wrapper such as Depth",
    ),
    "encode two modalities at once": (lambda m: m.encode([{"text": "a", "eeg": 1}], None), r"items\[0\]: got dict"),
    "encode an absent modality": (lambda m: m.encode({"imu": [1]}, None), "items: 'imu' is not in this checkpoint"),
    "encode a modality without items": (
        lambda m: m.encode({"eeg": []}, None),
        r"items\['eeg'\]: got nothing; expected one value",
    ),
    "encode a modality with one text": (lambda m: m.encode({"text": "a"}, None), r"items\['text'\]: expected a list"),
}


@pytest.mark.parametrize("case", CALLS)
def test_a_method_refuses_bad_input(model: CodeBindModel, case: str) -> None:
    call, message = CALLS[case]
    with pytest.raises(ValueError, match=re.compile(message, re.DOTALL)):
        call(model)


def test_what_tokenizers_and_the_trainer_add_is_ignored(model: CodeBindModel) -> None:
    given = tiny_inputs(model.config)
    extra = {"token_type_ids": torch.zeros(1), "num_items_in_batch": 3}
    torch.testing.assert_close(model(**given, **extra).embeds, model(**given).embeds)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_any_floating_point_type_is_taken(model: CodeBindModel, dtype: torch.dtype) -> None:
    given = {"eeg_values": EEG + 1, "point_values": torch.randn(2, 40, 3), "pixel_values_videos": VIDEO + 1}
    result = model(**{name: x.to(dtype) for name, x in given.items()})
    assert {x.dtype for x in result.embeds.values()} == {torch.float32}


def test_int32_token_ids_are_taken(model: CodeBindModel) -> None:
    first, second = (model.get_text_features(ids).pooler_output for ids in (IDS, IDS.int()))
    assert torch.equal(first, second)


def test_different_batch_sizes_are_fine_without_a_loss(model: CodeBindModel) -> None:
    assert model(eeg_values=EEG, input_ids=IDS[:1]).logits["eeg"].shape == (2, 1)


def test_encoding_restores_the_mode_of_the_model_when_the_processor_fails(model: CodeBindModel) -> None:
    def broken(**_: Any) -> SimpleNamespace:
        raise OSError("unreadable")

    model.train()
    with pytest.raises(OSError, match="unreadable"):
        model.encode({"eeg": [1, 2]}, broken)
    assert model.training
    model.eval()


def test_codes_of_a_model_without_codebook_are_refused() -> None:
    model = tiny_model(small_config("eeg", num_shared_codes=0, align_on="continuous"))
    with pytest.raises(ValueError, match='output: got "codes", but this model has no shared codebook'):
        model.encode({"eeg": [1]}, None, output="codes")
