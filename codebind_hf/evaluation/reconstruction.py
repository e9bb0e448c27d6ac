"""How well do the decoders rebuild the input from the codes, against always answering with the mean."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from codebind_hf.evaluation.embedding import Rows, evaluating, has_sense, sense_inputs
from codebind_hf.model.losses import chamfer_distance
from codebind_hf.model.modalities import Modality
from codebind_hf.model.modeling_codebind import CodeBindModel
from codebind_hf.model.processing_codebind import CodeBindProcessor


MOST_ROWS = 256
_CLOUDS = 32


def reconstruction_section(
    model: CodeBindModel,
    processor: CodeBindProcessor | None,
    rows: Rows,
    batch_size: int = 64,
    most_rows: int = MOST_ROWS,
) -> dict[str, dict[str, Any]]:
    """Reconstruction error of every sense that has a decoder, over the first `most_rows` rows.

    Returns:
        `{modality: {mse, mse_of_mean, relative_mse, measure, n}}`. `mse_of_mean` is the error of the best constant
        answer, the mean of these very targets; `relative_mse` is their ratio, 1 being no better than that. For point
        clouds (`measure` "chamfer") an error is the mean squared distance to the nearest point, both ways added, and
        the constant answer is a random sample of the points of all these clouds. Empty for a model without decoders.
    """
    if getattr(model.config, "decoder_config", None) is None:
        return {}
    section = {}
    for name, modality in model.config.modalities.items():
        pairs = list(reconstructions(model, processor, rows, modality, batch_size, most_rows))
        if pairs:
            targets, answers = (torch.cat(column).float() for column in zip(*pairs, strict=True))
            section[name] = _entry(modality, targets, answers)
    return section


def reconstructions(
    model: CodeBindModel,
    processor: CodeBindProcessor | None,
    rows: Rows,
    modality: Modality,
    batch_size: int = 64,
    most_rows: int = MOST_ROWS,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of (target, reconstruction) of one sense, in the processor's value space; none without a decoder."""
    for start in range(0, min(len(rows), most_rows), batch_size):
        stop = min(start + batch_size, len(rows), most_rows)
        present = [row for row in (rows[position] for position in range(start, stop)) if has_sense(row, modality)]
        if not present:
            continue
        inputs = sense_inputs(processor, modality, present)
        with evaluating(model), torch.inference_mode():
            values = {name: value.to(model.device) for name, value in inputs.items()}
            output = model(**values, output_reconstructions=True)
            if modality.name not in (output.reconstructions or {}):
                return
            yield output.reconstruction_targets[modality.name].cpu(), output.reconstructions[modality.name].cpu()


@dataclass
class _Errors:
    answer: float
    constant: float


def _entry(modality: Modality, targets: Tensor, answers: Tensor) -> dict[str, Any]:
    is_cloud = modality.axes[0] == "points"
    errors = _cloud_errors(targets, answers) if is_cloud else _grid_errors(targets, answers)
    return {
        "mse": errors.answer,
        "mse_of_mean": errors.constant,
        "relative_mse": errors.answer / max(errors.constant, 1e-12),
        "measure": "chamfer" if is_cloud else "mse",
        "n": len(targets),
    }


def _grid_errors(targets: Tensor, answers: Tensor) -> _Errors:
    constant = targets.mean(dim=0, keepdim=True)
    return _Errors(float((targets - answers).square().mean()), float((targets - constant).square().mean()))


def _cloud_errors(targets: Tensor, answers: Tensor) -> _Errors:
    points = targets.reshape(-1, targets.shape[-1])
    chosen = torch.randperm(len(points), generator=torch.Generator().manual_seed(0))[: answers.shape[1]]
    constant = points[chosen].expand(len(targets), -1, -1)
    return _Errors(_chamfer(answers, targets), _chamfer(constant, targets))


def _chamfer(answers: Tensor, targets: Tensor) -> float:
    pairs = zip(answers.split(_CLOUDS), targets.split(_CLOUDS), strict=True)
    return sum(float(chamfer_distance(*pair)) * len(pair[0]) for pair in pairs) / len(targets)
