"""Renaming tensors between two layouts of a checkpoint, both ways, by tables of rules."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from transformers.utils import logging


# How a source tensor becomes its targets, and back. Every pair is exact: no value changes.
LAYOUTS: dict[str, tuple[Callable[[Tensor], tuple[Tensor, ...]], Callable[..., Tensor]]] = {
    "same": (lambda x: (x,), lambda x: x),
    # One fused matrix for query, key and value: copies, so that the fused one can be freed.
    "thirds": (lambda x: tuple(part.clone() for part in x.chunk(3)), lambda *x: torch.cat(x)),
    "halves": (lambda x: tuple(part.clone() for part in x.chunk(2)), lambda *x: torch.cat(x)),
    # A plain matrix that inputs are multiplied with from the left.
    "transposed": (lambda x: (x.T,), lambda x: x.T),
    # Kernels of a convolution over single points, of one cloud and of groups of points.
    "pointwise": (lambda x: (x[:, :, 0],), lambda x: x[:, :, None]),
    "pointwise_of_groups": (lambda x: (x[:, :, 0, 0],), lambda x: x[:, :, None, None]),
    "without_batch": (lambda x: (x[0],), lambda x: x[None]),
    "without_batch_and_token": (lambda x: (x[0, 0],), lambda x: x[None, None]),
    "scalar": (lambda x: (x.reshape(1),), lambda x: x.reshape(())),
    "counter": (lambda x: (x.long(),), lambda x: x.float()),
    # A linear layer on unfolded (channels x time) patches is a convolution; channels come first in both.
    "six_channels": (lambda x: (x.unflatten(1, (6, -1)),), lambda x: x.flatten(1)),
}
_PLACEHOLDER = re.compile(r"\\{(\w+)\\}")


@cache
def _pattern(template: str) -> re.Pattern[str]:
    """`blocks.{layer}.{kind}` as a regular expression; a placeholder stands for one part of a key."""
    return re.compile(_PLACEHOLDER.sub(r"(?P<\1>[^.]+)", re.escape(template)))


class MissingKeys(ValueError):
    """A checkpoint lacks tensors that the architecture needs."""


@dataclass(frozen=True)
class Rule:
    """Where one kind of tensor goes.

    Args:
        source: key in the original, with placeholders such as `{layer}` for one part of a key.
        targets: keys in ours, with the same placeholders; several when the original fuses them.
        layout: key of `LAYOUTS`.
    """

    source: str
    targets: tuple[str, ...]
    layout: str = "same"

    def keys(self, source: str) -> tuple[str, ...] | None:
        """Our keys for a key of the original, or `None` when this rule is not about it."""
        found = _pattern(self.source).fullmatch(source)
        return found and tuple(target.format(**found.groupdict()) for target in self.targets)

    def source_of(self, target: str) -> str | None:
        """The original's key for one of ours, or `None` when this rule is not about it."""
        for template in self.targets:
            if found := _pattern(template).fullmatch(target):
                return self.source.format(**found.groupdict())
        return None


@dataclass(frozen=True)
class KeyMap:
    """All rules between one original layout and ours.

    Args:
        rules: where tensors go.
        dropped: patterns of source keys that ours does not need, with the reason.
        scales: patterns of source keys with scalars that no embedding depends on; they go to the configuration.
    """

    rules: tuple[Rule, ...]
    dropped: Mapping[str, str]
    scales: tuple[str, ...] = ()

    def fate(self, source: str) -> tuple[Rule, tuple[str, ...]] | str | None:
        """What becomes of a source key: a rule and our keys, "scale", or the reason to drop it; `None` is unknown."""
        for rule in self.rules:
            if keys := rule.keys(source):
                return rule, keys
        if any(_pattern(scale).fullmatch(source) for scale in self.scales):
            return "scale"
        return next((why for dropped, why in self.dropped.items() if _pattern(dropped).fullmatch(source)), None)

    def convert(
        self, source: dict[str, Tensor], wanted: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Our tensors and the inert scales; `source` is emptied meanwhile, so that nothing is held twice.

        Args:
            wanted: our keys, with tensors (also on the meta device) of the shapes expected.

        Raises:
            ValueError: a source key that no rule knows or a wrong shape, named.
            MissingKeys: tensors that are missing, named.
        """
        unknown = [key for key in source if self.fate(key) is None]
        if unknown:
            raise ValueError(f"checkpoint: unknown keys {listed(unknown)}; no rule says where they go.")
        converted: dict[str, Tensor] = {}
        scales: dict[str, float] = {}
        for key in logging.tqdm(list(source), desc="Converting", unit="tensor"):
            fate, tensor = self.fate(key), source.pop(key)
            if fate == "scale":
                scales[key] = tensor.item()
            elif isinstance(fate, tuple):
                self._place(key, tensor, fate, wanted, converted)
        # A fused tensor is the origin of several of ours.
        missing = dict.fromkeys(self._origin(key) for key in wanted if key not in converted)
        if missing:
            raise MissingKeys(f"checkpoint: missing keys {listed(missing)}.")
        return converted, scales

    @staticmethod
    def _place(
        key: str,
        tensor: Tensor,
        fate: tuple[Rule, tuple[str, ...]],
        wanted: Mapping[str, Tensor],
        converted: dict[str, Tensor],
    ) -> None:
        rule, targets = fate
        if unwanted := [target for target in targets if target not in wanted]:
            raise ValueError(f"checkpoint: {key} would become {listed(unwanted)}, which this architecture lacks.")
        expected = _source_shape(rule, [wanted[target] for target in targets])
        if tensor.shape != expected:
            raise ValueError(
                f"checkpoint: {key} has shape {tuple(tensor.shape)}, but this architecture expects {tuple(expected)}. "
                "Fix: pass the `architecture` that the checkpoint was made with."
            )
        parts = LAYOUTS[rule.layout][0](tensor)
        converted.update({target: part.contiguous() for target, part in zip(targets, parts, strict=True)})

    def _origin(self, target: str) -> str:
        """The source key that one of ours comes from."""
        return next((source for rule in self.rules if (source := rule.source_of(target))), target)

    def revert(self, state: Mapping[str, Tensor], scales: Mapping[str, float] | None) -> dict[str, Tensor]:
        """The original's tensors from ours; what `dropped` names is gone.

        Raises:
            ValueError: a key of ours that no rule knows.
        """
        reverted: dict[str, Tensor] = {key: torch.tensor(value) for key, value in (scales or {}).items()}
        for key in state:
            rule = next((rule for rule in self.rules if rule.source_of(key)), None)
            if rule is None:
                raise ValueError(f"state: {key} has no place in the original layout.")
            source = rule.source_of(key)
            if source is not None and source not in reverted:
                targets = rule.keys(source) or ()
                reverted[source] = LAYOUTS[rule.layout][1](*(state[target] for target in targets)).contiguous()
        return reverted


def _source_shape(rule: Rule, targets: list[Tensor]) -> torch.Size:
    """Shape of the source tensor whose targets have these shapes; nothing is computed."""
    return LAYOUTS[rule.layout][1](*(torch.empty(x.shape, device="meta") for x in targets)).shape


def listed(keys: Iterable[str], most: int = 8) -> str:
    """The first keys, and how many more there are."""
    keys = list(keys)
    shown = ", ".join(keys[:most])
    return shown if len(keys) <= most else f"{shown} and {len(keys) - most} more"
