"""The fields that CodeBind adds to transformers' arguments."""

from pathlib import Path
from typing import Any

import pytest

from codebind_hf.training import CodeBindTrainingArguments


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        pytest.param(
            {"train_mode": "adapter"}, r"train_mode: got 'adapter'; allowed: 'full', 'heads', 'lora'", id="mode"
        ),
        pytest.param({"lora_rank": 0}, r"lora_rank: got 0", id="rank"),
        pytest.param({"lora_modules": "mlp"}, r"lora_modules: got 'mlp'; allowed: 'all', 'attention'", id="modules"),
        pytest.param({"balance": "auto"}, r"balance: got 'auto'; allowed: 'fixed', 'adaptive'", id="balance"),
        pytest.param({"input_noise": -0.1}, r"input_noise: got -0.1; it must be 0 or more", id="noise"),
        pytest.param({"view_noise": -1.0}, r"view_noise: got -1.0; it must be 0 or more", id="view"),
        pytest.param({"init_batches": 0}, r"init_batches: got 0; it must be 1 or more", id="batches"),
        pytest.param({"loss_warmup": {"decor": [0, 1]}}, r"loss_warmup: got 'decor'; allowed: 'align'", id="term"),
        pytest.param(
            {"loss_warmup": {"decorr": [0.9, 0.3]}}, r"loss_warmup\['decorr'\]: got \[0.9, 0.3\]", id="order"
        ),
        pytest.param({"loss_warmup": {"decorr": 0.3}}, r"loss_warmup\['decorr'\]: got 0.3", id="number"),
        pytest.param({"max_steps": 0}, "max_steps: got 0; allowed: 1 or more, or -1 to count epochs", id="no-step"),
        pytest.param({"max_steps": -2}, "max_steps: got -2; allowed: 1 or more", id="steps"),
        pytest.param({"num_train_epochs": 0}, "num_train_epochs: got 0; it must be greater than 0", id="epochs"),
        pytest.param(
            {"per_device_train_batch_size": 0},
            "per_device_train_batch_size: got 0; allowed: a whole number of at least 1",
            id="batch",
        ),
        pytest.param({"dataloader_num_workers": -1}, "dataloader_num_workers: got -1; allowed: a whole", id="workers"),
        pytest.param(
            {"train_bridge_heads": "all"}, r"train_bridge_heads: got 'all'; allowed: False, True", id="heads"
        ),
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        CodeBindTrainingArguments(output_dir=str(tmp_path), **fields)


def test_an_unknown_field_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="input_noize"):
        CodeBindTrainingArguments(output_dir=str(tmp_path), input_noize=0.1)


def test_the_defaults_change_nothing_that_was_not_asked_for(tmp_path: Path) -> None:
    arguments = CodeBindTrainingArguments(output_dir=str(tmp_path))
    assert arguments.train_mode == "full"
    assert arguments.balance == "fixed"
    assert arguments.new_module_learning_rate is None
    assert not arguments.freeze_shared_codes
    assert not arguments.train_bridge_heads
    assert (arguments.lora_rank, arguments.lora_layers, arguments.lora_modules) == (4, None, "all")
    assert arguments.input_noise == 0.0


def test_arguments_round_trip_through_their_dictionary(tmp_path: Path) -> None:
    arguments = CodeBindTrainingArguments(output_dir=str(tmp_path), balance="adaptive", input_noise=0.2)
    fields = arguments.to_dict()
    assert fields["balance"] == "adaptive"
    assert fields["input_noise"] == 0.2
    assert "help" in CodeBindTrainingArguments.__dataclass_fields__["init_codebooks"].metadata
