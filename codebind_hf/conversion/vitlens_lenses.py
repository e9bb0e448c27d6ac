"""How many stages has a lens in a checkpoint, and do they share weights? Read from the tensors, never guessed.

perceiver-pytorch can tie all stages but the first. A state dict then holds their tensors several times, or once where
a tool has removed what is repeated. Ours are never tied: tied stages become equal ones, which compute the same.
Building tied stages for untied weights gives near-random output without an error (TencentARC/ViT-Lens issue 6).
"""

from collections.abc import Mapping

import torch
from torch import Tensor


_LAYERS = "perceiver.layers."


def lens_depth(
    source: dict[str, Tensor], name: str, published: int | None, asked: int | None, tied: bool | None
) -> int:
    """Stages of the lens of `name`; those that a tied lens left out are added to `source`.

    Args:
        source: tensors with merged keys.
        published: stages of the published lens with these shapes, if it has more than two.
        asked: stages that the caller names, if any.
        tied: what the caller says of tying, if anything.

    Raises:
        ValueError: stages are missing, tied in part, not tied although the caller says so, or may be those of either a
            short untied or a long tied lens.
    """
    stages = _stages(source, name)
    count = len(stages)
    if sorted(stages) != list(range(count)):
        raise ValueError(f"checkpoint: the lens of {name} has stages {sorted(stages)}; some are missing.")
    found = _are_tied(stages, name)
    if tied and found is False:
        raise ValueError(
            f"architecture: lens.weight_tie_layers is True, but the stages of {name} hold different weights. Fix: "
            "False."
        )
    if asked is None and count == 2 and tied:
        raise ValueError(
            f"architecture: lens.weight_tie_layers is True and the checkpoint has stages 0 and 1 of {name}; how many "
            f"there were is not said. Fix: pass lens.{name}.depth too."
        )
    if asked is None and count == 2 and tied is None and published is not None and published > count:
        raise ValueError(
            f"checkpoint: the lens of {name} has stages 0 and 1, where the published one has {published}: all of an "
            "untied lens, or what is left of a tied one. Fix: pass the true one of architecture={'lens': "
            f"{{'weight_tie_layers': True, {name!r}: {{'depth': {published}}}}}}} and "
            f"{{'lens': {{'weight_tie_layers': False, {name!r}: {{'depth': 2}}}}}}."
        )
    depth = count if asked is None else asked
    if depth < count or depth > count and not (tied and count == 2):
        raise ValueError(f"architecture: lens.{name}.depth is {depth}, but the checkpoint has {count} stages.")
    for number in range(count, depth):
        source.update({f"vitlens.{name}.{_LAYERS}{number}.{key}": tensor for key, tensor in stages[1].items()})
    return depth


def _stages(source: Mapping[str, Tensor], name: str) -> dict[int, dict[str, Tensor]]:
    prefix = f"vitlens.{name}.{_LAYERS}"
    stages: dict[int, dict[str, Tensor]] = {}
    for key, tensor in source.items():
        if key.startswith(prefix):
            number, _, rest = key.removeprefix(prefix).partition(".")
            stages.setdefault(int(number), {})[rest] = tensor
    return stages


def _are_tied(stages: Mapping[int, Mapping[str, Tensor]], name: str) -> bool | None:
    """Whether all stages but the first hold the same weights; `None` where fewer than two are left to compare.

    Only matrices tell: norms and biases that have hardly learned are alike in any lens.
    """
    first, *others = [stages[number] for number in sorted(stages)][1:] or [{}]
    if not others:
        return None
    same = {
        key: all(key in other and torch.equal(tensor, other[key]) for other in others) for key, tensor in first.items()
    }
    if all(same.values()):
        return True
    matrices = [equal for key, equal in same.items() if first[key].ndim > 1]
    if any(matrices):
        raise ValueError(
            f"checkpoint: the stages of the lens of {name} are tied in part: {sum(matrices)} of {len(matrices)} "
            "matrices are the same in all of them. No such lens was published."
        )
    return False
