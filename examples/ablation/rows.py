"""What is compared: eight rows from an untrained encoder to our defaults, and what each choice costs by itself.

A row is settings of `examples/real/binding.py`; encoders, steps, batches, noise and first weights are those of all
rows.
What they share (rate, temperature, noise, weight of the pair with pictures) is tuned for hard alignment, the control.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from binding import ALONE, OURS, Settings


# Paper appendix, table 1, image; the weight of `commit` is divided by the numbers of a segment.
_PAPER_CODES = {"commit": 1.25}
_PAPER_PARTS = {"recon": 1.0, "orth": 0.1, "uni": 1.0}
_PAPER_BOOKS = {"cm": 0.05, "cctr": 0.01, "cuni": 0.01}
HARD = replace(ALONE, even_segments=False)
# One trunk for two heads, reconstruction that reaches both, and alignment through the codes.
_PAPER = replace(
    HARD,
    specific_readout="cls",
    reconstruction_gradient="both",
    align_on="codes",
    specific=True,
    codes=True,
    balance=True,
    weights={**_PAPER_PARTS, **_PAPER_CODES, **_PAPER_BOOKS},
)

# How rows are trained on worlds, where a sense has 300 rows and needs a network that is not linear.
WORLD: dict[str, Any] = {
    "hidden_size": 192,
    "blocks": 1,
    "dropout": 0.1,
    "batch": 64,
    "epochs": 0,
    "least_steps": 300,
    "noise": 0.15,
    "temperature": 0.2,
    "consistency": 1.0,
}
# Of our rows: on worlds their segments may differ in length, and `decorr` weighs less.
_WORLD_DECORRELATION = 15.0
MAIN: dict[str, Settings] = {
    "untrained": replace(HARD, train=False),
    "hard": HARD,
    "segments": ALONE,
    "decoupling": replace(_PAPER, codes=False, balance=False, weights=_PAPER_PARTS),
    "codebook": replace(_PAPER, specific=False, balance=False, weights=_PAPER_CODES),
    "codebook + decoupling": replace(_PAPER, balance=False, weights={**_PAPER_PARTS, **_PAPER_CODES}),
    "paper": _PAPER,
    "ours": OURS,
}
WORDS = {
    "untrained": "first weights of the sense's encoder",
    "hard": "InfoNCE alone, tuned",
    "segments": "InfoNCE on embeddings whose segments have one length, without codes",
    "decoupling": "hard, with the paper's specific part, decoder, orthogonality and uniformity",
    "codebook": "alignment through the paper's codes, with its commitment",
    "codebook + decoupling": "both",
    "paper": "both, code matching, both terms on codes, and the balancer",
    "ours": "our defaults: alignment beside the codes, a specific part with a network of its own",
}


def _without(row: Settings, term: str) -> Settings:
    return replace(row, weights={name: weight for name, weight in (row.weights or {}).items() if name != term})


FULL: dict[str, Settings] = {
    **MAIN,
    "paper, fixed weights": replace(_PAPER, balance=False),
    **{f"paper without {term}": _without(_PAPER, term) for term in (_PAPER.weights or {})},
    "paper, decoder sees tokens": replace(_PAPER, decoder_inputs="codes+tokens"),
    "paper, conventional": replace(_PAPER, code_dim=_PAPER.dim, num_shared_codes=1024),
    "paper, separate books": replace(_PAPER, shared_codebook="per_encoder", num_specific_codes=256),
    **{f"paper, code width {width}": replace(_PAPER, code_dim=width) for width in (2, 8, 16)},
    **{f"paper, {size} codes": replace(_PAPER, num_shared_codes=size) for size in (64, 1024)},
    **{f"ours without {term}": _without(OURS, term) for term in (OURS.weights or {})},
    "ours, code width 8": replace(OURS, code_dim=8),
    "ours through codes": replace(OURS, align_on="codes"),
    "ours, specific left continuous": replace(OURS, quantize_specific=False),
    "ours, decorr to specific": replace(OURS, decorrelation_gradient="specific"),
}


def on_worlds(rows: Mapping[str, Settings]) -> dict[str, Settings]:
    """The same rows, trained as worlds need it."""
    found = {}
    for name, settings in rows.items():
        weights = dict(settings.weights or {})
        if "decorr" in weights:
            weights["decorr"] = _WORLD_DECORRELATION
        even = settings.even_segments and not settings.codes
        found[name] = replace(settings, **WORLD, weights=weights, even_segments=even)
    return found
