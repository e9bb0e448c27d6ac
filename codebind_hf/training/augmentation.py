"""What training adds to its inputs: noise, and second views of them."""

from typing import Any

import torch
from torch import Tensor

from codebind_hf.model.point_stems import gather_points, originals
from codebind_hf.training.arguments import CodeBindTrainingArguments


def augmented(model: Any, inputs: dict[str, Any], args: CodeBindTrainingArguments) -> dict[str, Any]:
    """Inputs of encoders that learn with `input_noise`, and second views where a specific part learns by them."""
    noisy, views = dict(inputs), {}
    for modality in model.config.modalities.values():
        values, encoder = inputs.get(modality.tensor), model.encoders[modality.encoder]
        if values is None or not values.is_floating_point() or not encoder.learns():
            continue
        is_points = encoder.config.stem == "points"
        is_compared = model.config.loss_weight("views") and encoder.specific_head is not None
        has_view = is_compared and encoder.specific_learns()
        if not args.input_noise and not has_view:
            continue
        spread = _spread(values)
        if args.input_noise:
            noisy[modality.tensor] = _with_noise(values, args.input_noise * spread, is_points)
        if has_view:
            views[modality.tensor] = _second_view(values, args.view_noise * spread, is_points)
    return {**noisy, "views": views} if views else noisy


def _spread(values: Tensor) -> Tensor:
    """Standard deviation of each sample's own numbers, in the shape of one number a sample."""
    return values.flatten(1).std(dim=1).view(-1, *[1] * (values.ndim - 1))


def _second_view(values: Tensor, deviation: Tensor, is_points: bool) -> Tensor:
    """A noisy copy or, of clouds, which noise would blur into a ball, another draw of the same points."""
    if not is_points:
        return _with_noise(values, deviation, is_points=False)
    return gather_points(values, torch.randint_like(values[..., 0], values.shape[1]).long())


def _with_noise(values: Tensor, deviation: Tensor, is_points: bool) -> Tensor:
    """`values` with Gaussian noise of this standard deviation, a number for each sample."""
    noise = torch.randn_like(values)
    if is_points:
        # Repetitions that fill up a small cloud stay repetitions.
        noise = gather_points(noise, originals(values[..., :3]))
    return values + deviation * noise
