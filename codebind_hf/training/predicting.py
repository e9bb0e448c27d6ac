"""What do `predict` and `compute_metrics` get of rows with different modalities? Arrays in the order of the rows."""

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import Trainer

from codebind_hf.data.collator import modality_names
from codebind_hf.model.configuration_codebind import CodeBindConfig
from codebind_hf.model.outputs import CodeBindOutput
from codebind_hf.training.processes import largest_of_all
from codebind_hf.training.stages import can_be_aligned


# Outputs that are kept, and the part whose size they have.
PREDICTIONS = {
    "embeds": "shared",
    "continuous_embeds": "shared",
    "specific_embeds": "specific",
    "continuous_specific_embeds": "specific",
}


def modalities_in(rows: Any, config: CodeBindConfig) -> list[str]:
    """The modalities of a data set, in the order of the model; all of the model's where looking would mean reading."""
    known = getattr(rows, "row_modalities", None)
    if known is None and isinstance(rows, (list, tuple)):
        known = [modality_names(row) for row in rows]
    found = set(config.modality_names if known is None else (name for names in known for name in names))
    return [name for name in config.modality_names if name in found]


def row_predictions(
    output: CodeBindOutput,
    rows: Mapping[str, Tensor],
    config: CodeBindConfig,
    modalities: Collection[str],
    ignored: Collection[str],
) -> dict[str, dict[str, Tensor]]:
    """Embeddings of a batch by output and modality, `(rows, dim)` each, with NaN where a row lacks the modality.

    So batches of any modalities have one shape, and row i of every array is row i of the data set.

    Args:
        rows: by modality, the positions of its samples in the batch.
        modalities: of all batches.
        ignored: outputs that are left out.
    """
    count, device = 1 + max(int(places.max()) for places in rows.values()), next(iter(rows.values())).device
    found: dict[str, dict[str, Tensor]] = {}
    for key, part in PREDICTIONS.items():
        if key not in ignored:
            embeds = output.get(key, {})
            sizes = {name: config.dim_of(part, config.modality(name).encoder) for name in modalities}
            found[key] = {
                name: _spread(embeds.get(name), rows.get(name), (count, size), device)
                for name, size in sizes.items()
                if size
            }
    return {key: by_modality for key, by_modality in found.items() if by_modality}


def _spread(values: Tensor | None, places: Tensor | None, shape: tuple[int, int], device: torch.device) -> Tensor:
    spread = torch.full(shape, torch.nan, device=device)
    if values is not None and places is not None:
        spread[places] = values.detach().float()
    return spread


class PredictingTrainer(Trainer):
    """Evaluates and predicts rows of different modalities, in any order and batches."""

    _plain_model: Any
    _judged: Collection[str] = ()

    def evaluation_loop(self, dataloader: DataLoader, *args: Any, **kwargs: Any) -> Any:
        """The library's; predictions are embeddings by output and modality, in the order of the rows, see
        `row_predictions`."""
        self._judged = modalities_in(getattr(dataloader, "dataset", None), self._plain_model.config)
        return super().evaluation_loop(dataloader, *args, **kwargs)

    def prediction_step(
        self, model: nn.Module, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[Tensor | None, Any, Any]:
        """The loss of a batch, `None` where no row of it can be aligned; its predictions; and no labels."""
        if inputs.get("rows") is None:
            return super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        inputs, config = self._prepare_inputs(inputs), self._plain_model.config
        names = [name for name in config.modality_names if name in inputs["rows"]]
        can = inputs.get("return_loss") and can_be_aligned(self._plain_model, names, config.modality_names)
        # Negatives come from all processes, which therefore compute the loss together, or none of them.
        has_loss = largest_of_all(int(bool(can))) > 0
        with torch.no_grad(), self.compute_loss_context_manager():
            if has_loss:
                loss, output = self.compute_loss(model, inputs, return_outputs=True)
                loss = loss.detach().mean()
            else:
                loss, output = None, model(**{**inputs, "return_loss": False})
        if prediction_loss_only:
            return loss, None, None
        ignored = config.keys_to_ignore_at_inference if ignore_keys is None else ignore_keys
        return loss, row_predictions(output, inputs["rows"], config, self._judged, ignored), ()
