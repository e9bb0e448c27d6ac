"""Which parameters learn: bridges first, then targets against frozen bridges."""

from collections.abc import Iterable

from codebind_hf.model.codebooks import Codebook
from codebind_hf.model.modeling_codebind import CodeBindModel
from codebind_hf.training.arguments import MODES


NEW_MODULES = (".specific_head.", "decoders.")
_HEAD_PARTS = (".shared_head.", ".specific_head.", ".tower.cls_token")


def train_only(model: CodeBindModel, modalities: Iterable[str], mode: str = "full") -> list[str]:
    """Let only the encoders of `modalities`, their decoders, and the temperature learn; returns the encoders.

    Args:
        model: changed in place; frozen encoders stay in evaluation mode, also under `model.train()`.
        modalities: names such as "audio"; "image" and "video" are one encoder.
        mode: "full", or "heads" for both heads and the CLS token of each encoder.

    Raises:
        ValueError: a modality that the model does not have, no modality, or an unknown mode.
    """
    if mode not in MODES:
        raise ValueError(f"mode: got {mode!r}; allowed: {', '.join(map(repr, MODES))}.")
    known = model.config.modalities
    names = list(modalities)
    for name in names:
        if name not in known:
            raise ValueError(f"modalities: {name!r} is not in this model, which has {', '.join(known)}.")
    if not names:
        raise ValueError(f"modalities: got none; choose from {', '.join(known)}.")
    encoders = list(dict.fromkeys(known[name].encoder for name in names))
    for name, parameter in model.named_parameters():
        room, _, rest = name.partition(".")
        encoder = rest.partition(".")[0]
        learns = room == "logit_scale" or encoder in encoders
        if room == "encoders" and mode == "heads":
            learns = learns and any(part in name for part in _HEAD_PARTS)
        parameter.requires_grad_(learns)
    for encoder, book in model.codebooks.specific.items():
        if isinstance(book, Codebook):
            book.frozen = encoder not in encoders
    return encoders


def trainable_parameters(model: CodeBindModel) -> int:
    """How many numbers learn."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
