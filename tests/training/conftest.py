"""A model with four modalities and one layer, and rows of synthetic tensors that it can learn to match."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from small_runs import settings_for

from codebind_hf.data import CodeBindCollator, NineSenses
from codebind_hf.model.configuration_codebind import CodeBindConfig
from codebind_hf.model.modalities import MODALITIES
from codebind_hf.model.modeling_codebind import CodeBindModel
from codebind_hf.training import CodeBindTrainer, CodeBindTrainingArguments, run


# Several test processes share few cores; more threads than cores make these small problems many times slower.
torch.set_num_threads(1)

CLASSES = 4
SHAPES = {"image": (3, 8, 8), "audio": (1, 8, 12), "depth": (1, 8, 8)}
GROUPS = (("text", "image"), ("text", "image", "audio"), ("text", "image", "depth"))
_TOWER = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}


def make_config(dropout: float = 0.1, **overrides: Any) -> CodeBindConfig:
    tower = {**_TOWER, "dropout": dropout}
    picture = {**tower, "input_size": [8, 8], "patch_size": [4, 4]}
    fields = {
        "shared_dim": 16,
        "specific_dim": 16,
        "code_dim": 4,
        "num_shared_codes": 12,
        "num_specific_codes": 8,
        "codebook_decay": 0.9,
        "align_on": "continuous",
        "initializer_range": 0.1,
        "logit_scale_init_value": 2.0,
        "loss_weights": {"recon": 0.3, "seg": 0.5, "orth": 0.1, "uni": 0.2, "commit": 0.4, "cm": 0.05},
        "text_config": {**tower, "vocab_size": 16, "max_position_embeddings": 6},
        "vision_config": {**picture, "num_channels": 3, "tubelet_size": 2},
        "audio_config": {**picture, "num_channels": 1, "input_size": [8, 12], "patch_stride": [4, 4]},
        "depth_config": {**picture, "num_channels": 1},
        "decoder_config": tower,
    }
    return CodeBindConfig(**{**fields, **overrides})


def make_model(**overrides: Any) -> CodeBindModel:
    torch.manual_seed(3)
    return CodeBindModel(make_config(**overrides))


def make_items(per_group: int = 8, groups: tuple[tuple[str, ...], ...] = GROUPS) -> list[dict[str, Any]]:
    """Prepared rows: a class pattern per modality plus noise."""
    generator = torch.Generator().manual_seed(1)
    patterns = {
        modality: torch.randn(CLASSES, *shape, generator=generator).clamp(-2, 2) for modality, shape in SHAPES.items()
    }
    items = []
    for modalities in groups:
        for number in range(per_group):
            tensors: dict[str, torch.Tensor] = {}
            for modality in modalities:
                if modality == "text":
                    tensors["input_ids"] = torch.tensor([0, 3 + number % CLASSES, 1])
                    tensors["attention_mask"] = torch.ones(3, dtype=torch.long)
                else:
                    noise = 0.3 * torch.randn(SHAPES[modality], generator=generator)
                    tensors[MODALITIES[modality].tensor] = patterns[modality][number % CLASSES] + noise
            items.append({"tensors": tensors, "id": f"{modalities[-1]}-{number}", "label": None, "attributes": {}})
    return items


@pytest.fixture
def trainer_of(tmp_path: Path) -> Callable[..., CodeBindTrainer]:
    """A trainer for a model and rows; keywords are training arguments."""

    def make(model: CodeBindModel, items: Any, balancer: Any = None, **fields: Any) -> CodeBindTrainer:
        settled = {
            "output_dir": str(tmp_path / "run"),
            "max_steps": 3,
            "per_device_train_batch_size": 4,
            "learning_rate": 3e-3,
            "lr_scheduler_type": "constant",
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            "remove_unused_columns": False,
            "dataloader_pin_memory": False,
            "use_cpu": True,
            "seed": 5,
        }
        arguments = CodeBindTrainingArguments(**{**settled, **fields})
        return CodeBindTrainer(
            model=model, args=arguments, train_dataset=items, data_collator=CodeBindCollator(), balancer=balancer
        )

    return make


@pytest.fixture(scope="session")
def tiny() -> Any:
    """The makers above, for tests that need no trainer."""
    return SimpleNamespace(config=make_config, model=make_model, items=make_items, classes=CLASSES)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    return Path(NineSenses("train", num_bridge=6, num_target=6, modalities=["text", "image", "audio"]).export(folder))


@pytest.fixture(scope="module")
def straight(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to."""
    folder = tmp_path_factory.mktemp("straight") / "run"
    run(settings_for(manifest), folder)
    return folder
