"""Training: arguments, loss balancing, stages, the trainer, and whole recipes."""

from codebind_hf.training.arguments import CodeBindTrainingArguments
from codebind_hf.training.balancing import LossBalancer
from codebind_hf.training.building import build
from codebind_hf.training.freezing import train_only
from codebind_hf.training.recipe import Recipe, save, senses_of, train
from codebind_hf.training.stages import SenseView, Stage, plan_stages
from codebind_hf.training.trainer import CodeBindTrainer


__all__ = [
    "CodeBindTrainer",
    "CodeBindTrainingArguments",
    "LossBalancer",
    "Recipe",
    "SenseView",
    "Stage",
    "build",
    "plan_stages",
    "save",
    "senses_of",
    "train",
    "train_only",
]
