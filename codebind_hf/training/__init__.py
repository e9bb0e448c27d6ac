"""Training: arguments, loss balancing, stages, the trainer, and whole recipes."""

from typing import TYPE_CHECKING

from codebind_hf.lazy_names import lazy_names


if TYPE_CHECKING:
    from codebind_hf.training.arguments import CodeBindTrainingArguments as CodeBindTrainingArguments
    from codebind_hf.training.balancing import LossBalancer as LossBalancer
    from codebind_hf.training.building import build as build
    from codebind_hf.training.freezing import train_only as train_only
    from codebind_hf.training.interruption import RunInterrupted as RunInterrupted
    from codebind_hf.training.recipe import Recipe as Recipe
    from codebind_hf.training.recipe import modalities_of as modalities_of
    from codebind_hf.training.running import save as save
    from codebind_hf.training.running import train as train
    from codebind_hf.training.runs import run as run
    from codebind_hf.training.settings import BindSettings as BindSettings
    from codebind_hf.training.settings import RunSettings as RunSettings
    from codebind_hf.training.settings import read_settings as read_settings
    from codebind_hf.training.stages import ModalityView as ModalityView
    from codebind_hf.training.stages import Stage as Stage
    from codebind_hf.training.stages import plan_stages as plan_stages
    from codebind_hf.training.trainer import CodeBindTrainer as CodeBindTrainer

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "codebind_hf.training.arguments": "CodeBindTrainingArguments",
        "codebind_hf.training.balancing": "LossBalancer",
        "codebind_hf.training.building": "build",
        "codebind_hf.training.freezing": "train_only",
        "codebind_hf.training.recipe": "Recipe modalities_of",
        "codebind_hf.training.interruption": "RunInterrupted",
        "codebind_hf.training.running": "save train",
        "codebind_hf.training.runs": "run",
        "codebind_hf.training.settings": "BindSettings RunSettings read_settings",
        "codebind_hf.training.stages": "ModalityView Stage plan_stages",
        "codebind_hf.training.trainer": "CodeBindTrainer",
    },
    renamed={"SenseView": "ModalityView", "senses_of": "modalities_of"},
)
