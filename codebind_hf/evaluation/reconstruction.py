"""How well do the decoders rebuild the input from the codes, against always answering with the mean."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from codebind_hf.evaluation.embedding import EmbeddedSet, Rows, modality_inputs
from codebind_hf.model.evaluating import evaluating
from codebind_hf.model.losses import chamfer_distance
from codebind_hf.model.modalities import Modality
from codebind_hf.model.modeling_codebind import CodeBindModel
from codebind_hf.processing.processing_codebind import CodeBindProcessor


MOST_ROWS = 256
_CLOUDS = 32


def reconstruction_section(
    model: CodeBindModel,
    processor: CodeBindProcessor | None,
    rows: Rows,
    embedded: EmbeddedSet,
    batch_size: int = 64,
    most_rows: int = MOST_ROWS,
) -> dict[str, dict[str, Any]]:
    """Reconstruction error of every modality that has a decoder, over the first `most_rows` rows that have the
    modality.

    Args:
        rows: the rows that `embedded` was made from.
        embedded: says which rows have which modality (and could be read).

    Returns:
        `{modality: {mse, mse_of_mean, relative_mse, measure, n}}`. `mse_of_mean` is the error of the best constant
        answer, the mean of these very targets; `relative_mse` is their ratio, 1 being no better than that. For point
        clouds (`measure` "chamfer") an error is the mean squared distance to the nearest point, both ways added, and
        the constant answer is a random sample of the points of all these clouds. Empty for a model without decoders.
    """
    if model.config.decoder_config is None:
        return {}
    wanted = {name: part.positions[:most_rows].tolist() for name, part in embedded.modalities.items()}
    read = {position: rows[position] for position in sorted(set().union(*wanted.values()))}
    section = {}
    for name, positions in wanted.items():
        modality = model.config.modalities[name]
        pairs = reconstructions(model, processor, [read[position] for position in positions], modality, batch_size)
        if pairs is not None:
            section[name] = _entry(modality, *pairs)
    return section


def reconstructions(
    model: CodeBindModel,
    processor: CodeBindProcessor | None,
    rows: Sequence[Mapping[str, Any]],
    modality: Modality,
    batch_size: int = 64,
) -> tuple[Tensor, Tensor] | None:
    """Targets and reconstructions of one modality that all rows have, in the processor's value space.

    `None` for a modality without a decoder.
    """
    targets, answers = [], []
    with evaluating(model), torch.inference_mode():
        for start in range(0, len(rows), batch_size):
            inputs = modality_inputs(processor, modality, rows[start : start + batch_size])
            values = {name: value.to(model.device) for name, value in inputs.items()}
            output = model(**values, output_reconstructions=True)
            if modality.name not in (output.reconstructions or {}):
                return None
            targets.append(output.reconstruction_targets[modality.name].float().cpu())
            answers.append(output.reconstructions[modality.name].float().cpu())
    return torch.cat(targets), torch.cat(answers)


def error_of(modality: Modality, target: Tensor, answer: Tensor) -> float:
    """Error of one item, by the measure of its modality's entry in `reconstruction_section`."""
    is_cloud = modality.axes[0] == "points"
    return _chamfer(answer[None], target[None]) if is_cloud else float((target - answer).square().mean())


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
