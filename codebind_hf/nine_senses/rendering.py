"""What does one modality record of one object? The table of renderers and of what each modality alone knows."""

from collections.abc import Callable
from typing import Any

import numpy as np

from codebind_hf.nine_senses.ranging_senses import render_depth, render_point_cloud, render_thermal
from codebind_hf.nine_senses.visual_senses import render_image, render_tactile, render_video
from codebind_hf.nine_senses.waveform_senses import AUDIO_RATE, render_audio, render_eeg
from codebind_hf.nine_senses.world import CLASS_NAMES, SceneObject, World, random_generator


TEMPLATES = (
    "a {}",
    "this is a {}",
    "there is a {} here",
    "one {} on the table",
    "a recording of a {}",
    "somebody holds a {}",
    "it must be a {}",
    "what we sense is a {}",
)
NUM_VALUES = 4
# What a modality knows alone, in the order in which its renderer reads it; each one of NUM_VALUES ranges of a uniform.
PRIVATE_ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "image": ("hue", "light"),
    "video": ("direction", "hue"),
    "audio": ("reverberation", "hum"),
    "depth": ("tilt", "distance"),
    "thermal": ("ambient", "hot_spot"),
    "tactile": ("wave", "press"),
    "point_cloud": ("bias",),
    "eeg": ("subject", "alpha"),
}
NINE_MODALITIES = ("text", *PRIVATE_ATTRIBUTES)

Renderer = Callable[[SceneObject, np.ndarray, np.random.Generator], np.ndarray]
_RENDERERS: dict[str, Renderer] = {
    "image": render_image,
    "video": render_video,
    "audio": render_audio,
    "depth": render_depth,
    "thermal": render_thermal,
    "tactile": render_tactile,
    "point_cloud": render_point_cloud,
    "eeg": render_eeg,
}


def _modality_generator(world: World, number: int, modality: str) -> np.random.Generator:
    return random_generator(world.seed, number, 1 + NINE_MODALITIES.index(modality))


def _render_text(world: World, number: int, label: int) -> str:
    rng = _modality_generator(world, number, "text")
    return TEMPLATES[rng.integers(len(TEMPLATES))].format(CLASS_NAMES[label])


def render_modalities(
    world: World, number: int, thing: SceneObject, modalities: tuple[str, ...]
) -> tuple[dict[str, Any], dict[str, int]]:
    """Values and private attributes of object `number` for the named modalities.

    Every modality has a random stream of its own, so that its bits do not depend on which others are rendered.
    """
    values: dict[str, Any] = {}
    attributes: dict[str, int] = {}
    for modality in modalities:
        if modality == "text":
            values["text"] = _render_text(world, number, thing.label)
            continue
        rng = _modality_generator(world, number, modality)
        private = rng.random(len(PRIVATE_ATTRIBUTES[modality]))
        value = _RENDERERS[modality](thing, private, rng)
        values[modality] = {"array": value, "sampling_rate": AUDIO_RATE} if modality == "audio" else value
        for name, number_in_unit in zip(PRIVATE_ATTRIBUTES[modality], private, strict=True):
            attributes[f"{modality}.{name}"] = int(number_in_unit * NUM_VALUES)
    return values, attributes
