"""Checks of what `CodeBindModel.forward` is given, and clips folded into the batch."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .configuration_codebind import CodeBindConfig
from .configuration_encoders import CodeBindEncoderConfig
from .modalities import Modality, shown


# What tokenizers, the Trainer and pipelines pass along and no encoder needs.
IGNORED_KEYWORDS = frozenset({"token_type_ids", "num_items_in_batch", "return_dict"})
# Squares of larger numbers are beyond float32, so that norms become infinite.
_LARGEST = 1e18
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
IDS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
_MASKS = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


class Checks(NamedTuple):
    """How closely inputs are looked at.

    Args:
        values: look at the numbers themselves, where that does not mean waiting.
        waits: wait for an accelerator to know its numbers.
    """

    values: bool = True
    waits: bool = False

    def looks_at(self, tensor: Tensor) -> bool:
        """Whether the numbers of this tensor are looked at."""
        return self.values and (self.waits or tensor.device.type == "cpu")


_CHECKS = Checks()


class ModalityInput(NamedTuple):
    """Values of one modality, ready for its encoder.

    Args:
        modality: which one.
        values: `(batch * clips, ...)`; pooled tokens are `(batch * clips, 1, hidden_size)`.
        clips: clips in every sample.
        attention_mask: of text.
        view: a second view of the same samples, in the shape of `values`.
        specific: whether anything depends on their specific part.
        is_pooled: whether `values` are what the tower gave, not what it reads.
    """

    modality: Modality
    values: Tensor
    clips: int
    attention_mask: Tensor | None
    view: Tensor | None = None
    specific: bool = True
    is_pooled: bool = False


def model_inputs(
    config: CodeBindConfig,
    tensors: dict[str, Tensor | None],
    attention_mask: Tensor | None,
    checks: Checks = _CHECKS,
    pooled_tokens: Mapping[str, Tensor] | None = None,
) -> dict[str, ModalityInput]:
    """The given tensors by modality name, checked.

    Raises:
        ValueError: an unknown keyword, a modality this checkpoint lacks or that comes twice, a wrong shape or dtype, a
            tensor that is not dense or has no data, NaN, infinite or unusably large numbers, or no input at all.
    """
    by_tensor = {modality.tensor: modality for modality in config.modalities.values()}
    given = {name: tensor for name, tensor in tensors.items() if tensor is not None and name not in IGNORED_KEYWORDS}
    for name in given:
        if name not in by_tensor:
            raise ValueError(
                f"{name}: this checkpoint does not take it; it takes {', '.join(by_tensor)} (for the modalities "
                f"{', '.join(config.modality_names)})."
            )
    if not given and not pooled_tokens:
        raise ValueError(f"forward: got no input; give at least one of {', '.join(by_tensor)}.")
    encoders = config.encoder_configs
    inputs = {}
    for name, tensor in given.items():
        modality = by_tensor[name]
        mask = attention_mask if modality.encoder == "text" else None
        inputs[modality.name] = model_input(modality, encoders[modality.encoder], tensor, mask, checks)
    return inputs if pooled_tokens is None else _with_pooled(config, inputs, pooled_tokens, checks)


def _with_pooled(
    config: CodeBindConfig, inputs: dict[str, ModalityInput], pooled_tokens: Mapping[str, Tensor], checks: Checks
) -> dict[str, ModalityInput]:
    """`inputs` and pooled tokens by modality, in the order in which all would be if none were pooled."""
    if not isinstance(pooled_tokens, Mapping):
        raise ValueError(f"pooled_tokens: got {type(pooled_tokens).__name__}; expected tensors by modality.")
    found = dict(inputs)
    for name, tokens in pooled_tokens.items():
        label, modality = f"pooled_tokens[{shown(name)}]", config.modality(name)
        if name in found:
            raise ValueError(f"{label}: got it beside {modality.tensor}; allowed: one of the two.")
        check_storage(label, tokens)
        check_floats(label, tokens)
        width = config.encoder_configs[modality.encoder].hidden_size
        if tokens.ndim != 3 or tokens.shape[2] != width or not tokens.numel():
            raise ValueError(
                f"{label}: got shape {tuple(tokens.shape)}; expected (batch, clips, {width}), as `get_pooled_tokens` "
                "gives it."
            )
        check_numbers(label, tokens, checks)
        found[name] = ModalityInput(modality, tokens.flatten(0, 1).unsqueeze(1), tokens.shape[1], None, is_pooled=True)
    return {name: found[name] for name in config.modalities if name in found}


def check_pooled(value: ModalityInput, tower: nn.Module, needs_tokens: bool, is_training: bool) -> None:
    """Refuse pooled tokens where they are less than what is asked for.

    Args:
        needs_tokens: whether something reads all tokens.
        is_training: whether towers may learn.
    """
    if not value.is_pooled:
        return
    label, fix = f"pooled_tokens[{value.modality.name!r}]", f"Fix: give {value.modality.tensor}"
    if needs_tokens:
        raise ValueError(f"{label}: this call reads all tokens, to reconstruct or for `parity_losses`. {fix}.")
    if is_training and any(parameter.requires_grad for parameter in tower.parameters()):
        raise ValueError(f"{label}: its tower learns, and would get no gradient. {fix}, or freeze the tower.")


def model_input(
    modality: Modality,
    config: CodeBindEncoderConfig,
    values: Tensor,
    attention_mask: Tensor | None = None,
    checks: Checks = _CHECKS,
) -> ModalityInput:
    """One modality's values, checked and with clips folded into the batch axis."""
    check_storage(modality.tensor, values)
    if config.stem == "tokens":
        return _text_input(modality, config, values, attention_mask, checks)
    check_floats(modality.tensor, values)
    clips = 1
    if config.stem == "features":
        _check_features(modality, config, values)
    elif modality.name == "video":
        values, clips = _video_clips(modality, config, values)
    elif modality.axes[0] == "clips":
        _check_shape(modality, values, values.shape[1:2] + _expected(config)[1:])
        values, clips = values.flatten(0, 1).unsqueeze(1), values.shape[1]
    else:
        _check_shape(modality, values, _expected(config))
    if not clips or not values.shape[0]:
        raise ValueError(f"{modality.tensor}: got shape {tuple(values.shape)}; batch and clips must be 1 or more.")
    check_numbers(modality.tensor, values, checks)
    return ModalityInput(modality, values, clips, None)


def with_views(
    config: CodeBindConfig, inputs: dict[str, ModalityInput], views: Mapping[str, Tensor] | None, checks: Checks
) -> dict[str, ModalityInput]:
    """`inputs` with the second views that `views` holds by name of the tensor, checked like the first.

    Raises:
        ValueError: a view of what was not given or has no specific part, or of another shape than the input.
    """
    if views is None:
        return inputs
    if not isinstance(views, Mapping):
        raise ValueError(f"views: got {type(views).__name__}; expected a dictionary of tensors by their keywords.")
    by_tensor = {
        value.modality.tensor: name for name, value in inputs.items() if config.specific_dim_of(value.modality.encoder)
    }
    seen = dict(inputs)
    for tensor, values in views.items():
        if tensor not in by_tensor:
            raise ValueError(
                f"views: got {tensor}; allowed are inputs of this call with a specific part: "
                f"{', '.join(by_tensor) or 'none'}."
            )
        value = inputs[by_tensor[tensor]]
        view = model_input(value.modality, config.encoder_configs[value.modality.encoder], values, None, checks)
        if view.values.shape != value.values.shape or view.clips != value.clips:
            raise ValueError(
                f"views[{tensor!r}]: got shape {tuple(values.shape)}, and the input has another. Fix: give one view "
                "of every sample, with as many clips."
            )
        seen[value.modality.name] = value._replace(view=view.values)
    return seen


def check_storage(name: str, values: object) -> None:
    """Refuse what is no dense tensor with data; of some of them not even the shape may be asked for."""
    if not isinstance(values, Tensor):
        raise ValueError(f"{name}: got {type(values).__name__}; expected a torch.Tensor.")
    odd = None
    if values.is_nested:
        odd, fix = "nested tensor", "`torch.nested.to_padded_tensor`, or one call for every length"
    elif values.layout != torch.strided:
        odd, fix = f"tensor of layout {values.layout}", "`.to_dense()`"
    elif values.is_meta or (not torch.compiler.is_compiling() and nn.parameter.is_lazy(values)):
        odd, fix = "tensor without data", "make it on the device of the model, or load it"
    if odd is not None:
        raise ValueError(f"{name}: got a {odd}; expected a dense tensor with data. Fix: {fix}.")


def check_floats(name: str, values: Tensor) -> None:
    """Refuse what is no floating point of 16 to 64 bits."""
    if values.dtype not in _FLOATS:
        raise ValueError(
            f"{name}: got dtype {values.dtype}; expected floating point of 16 to 64 bits, as processors give."
        )


def check_numbers(name: str, values: Tensor, checks: Checks) -> None:
    """Refuse NaN, infinities and what is too large to square: one of them would make every number of its row NaN."""
    if not checks.looks_at(values) or not values.numel():
        return
    values = values.detach()
    # The largest of numbers among which is a NaN is NaN, which is not smaller than anything. In float16 itself, the
    # bound would be infinite.
    if float(values.abs().amax()) <= _LARGEST:
        return
    wrong = ~(values.abs().double() <= _LARGEST)
    first = tuple(wrong.nonzero()[0].tolist())
    raise ValueError(
        f"{name}: got {int(wrong.sum())} numbers that are NaN, infinite or beyond {_LARGEST:g}, the first at index "
        f"{first}; expected finite ones, as CodeBindProcessor gives. Fix: drop the sample, or find what made it so."
    )


def _expected(config: CodeBindEncoderConfig) -> torch.Size:
    shape = (*config.input_size, config.num_channels) if config.stem == "points" else None
    return torch.Size(shape or (config.num_channels, *config.input_size))


def _check_shape(modality: Modality, values: Tensor, expected: torch.Size) -> None:
    if values.shape[1:] != expected or values.ndim != len(expected) + 1:
        axes = ", ".join(["batch", *modality.axes])
        raise ValueError(
            f"{modality.tensor}: got shape {tuple(values.shape)}; expected (batch, "
            f"{', '.join(map(str, expected))}) = ({axes}). CodeBindProcessor makes it from raw data."
        )


def _check_features(modality: Modality, config: CodeBindEncoderConfig, values: Tensor) -> None:
    """Refuse what are no vectors, or no sequences of vectors, of the encoder's size."""
    width, length = config.num_channels, config.input_size[0]
    expected = (width,) if length == 1 else (length, width)
    if values.ndim != len(expected) + 1 or values.shape[1:] != expected:
        axes = "features" if length == 1 else "tokens, features"
        raise ValueError(
            f"{modality.tensor}: got shape {tuple(values.shape)}; expected (batch, {', '.join(map(str, expected))}) = "
            f"(batch, {axes}), as the network of the features gave them; shorter sequences end in zeros."
        )


def _video_clips(modality: Modality, config: CodeBindEncoderConfig, values: Tensor) -> tuple[Tensor, int]:
    """`(batch, clips, frames, channels, H, W)` to one tubelet a row; more frames than a tubelet are more clips."""
    if values.ndim != 6 or not values.shape[2] or values.shape[2] % config.tubelet_size:
        raise ValueError(
            f"{modality.tensor}: got shape {tuple(values.shape)}; expected (batch, clips, frames, channels, height, "
            f"width) with a multiple of {config.tubelet_size} frames."
        )
    _check_shape(modality, values, values.shape[1:3] + _expected(config))
    tubes = values.unflatten(2, (-1, config.tubelet_size)).flatten(0, 2)
    clips = values.shape[1] * values.shape[2] // config.tubelet_size
    return (tubes.transpose(1, 2) if config.tubelet_size > 1 else tubes.squeeze(1)), clips


def _text_input(
    modality: Modality, config: CodeBindEncoderConfig, ids: Tensor, attention_mask: Tensor | None, checks: Checks
) -> ModalityInput:
    longest = config.max_position_embeddings
    if ids.ndim != 2 or ids.dtype not in (torch.int64, torch.int32) or not ids.shape[0]:
        raise ValueError(f"input_ids: got {ids.dtype} of shape {tuple(ids.shape)}; expected integers (batch, tokens).")
    if not 1 <= ids.shape[1] <= longest:
        raise ValueError(f"input_ids: got {ids.shape[1]} tokens; allowed are 1 to {longest}. Truncate the text.")
    if checks.looks_at(ids):
        low, high = int(ids.min()), int(ids.max())
        if low < 0 or high >= config.vocab_size:
            raise ValueError(
                f"input_ids: got ids from {low} to {high}; this checkpoint has {config.vocab_size} tokens. Use its "
                "own tokenizer."
            )
        has_end = ids.eq(config.eos_token_id).any(1)  # type: ignore[arg-type]
        if not has_end.all():
            raise ValueError(
                f"input_ids: row {int(has_end.int().argmin())} has no end token (id {config.eos_token_id}), where "
                "text is read; CodeBindProcessor adds it."
            )
    if attention_mask is not None:
        check_storage("attention_mask", attention_mask)
        if attention_mask.shape != ids.shape:
            got = tuple(attention_mask.shape)
            raise ValueError(f"attention_mask: got shape {got}; expected that of input_ids, {tuple(ids.shape)}.")
        if attention_mask.dtype not in (*_MASKS, *_FLOATS):
            raise ValueError(f"attention_mask: got dtype {attention_mask.dtype}; expected ones and zeros.")
    return ModalityInput(modality, ids.long(), 1, attention_mask)


def paired_rows(sizes: dict[str, int], rows: dict[str, Tensor] | None, device: torch.device) -> dict[str, Tensor]:
    """Which row of the batch every sample of every modality belongs to.

    Args:
        sizes: samples of each modality.
        rows: from the collator when modalities are missing in some rows; `None` when every modality has every row.

    Raises:
        ValueError: sizes differ without `rows`, or `rows` does not fit the sizes.
    """
    if rows is None:
        if len(set(sizes.values())) > 1:
            raise ValueError(
                f"return_loss: the modalities have different batch sizes {sizes}; give the same number of samples of "
                "each, or `rows={modality: positions}` (CodeBindCollator makes it)."
            )
        return {name: torch.arange(size, device=device) for name, size in sizes.items()}
    if not isinstance(rows, Mapping):
        raise ValueError(f"rows: got {type(rows).__name__}; expected a dictionary of positions by modality.")
    for name, size in sizes.items():
        positions = rows.get(name)
        if positions is not None:
            check_storage(f"rows[{name!r}]", positions)
            if positions.ndim != 1 or positions.dtype not in (torch.int32, torch.int64):
                got = f"{positions.dtype} of shape {tuple(positions.shape)}"
                raise ValueError(f"rows[{name!r}]: got {got}; expected integers (samples,), positions in the batch.")
        if positions is None or len(positions) != size:
            got = "none" if positions is None else str(len(positions))
            raise ValueError(f"rows: got {got} positions for {name}, which has {size} samples.")
        if len(positions.unique()) < size:
            raise ValueError(f"rows: {name} has two samples for one row of the batch; give every sample its own row.")
    return rows
