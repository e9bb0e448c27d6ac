"""The scripts of `examples/real/` and `examples/ablation/` import each other by name, as scripts of one folder may."""

import sys
from pathlib import Path


_EXAMPLES = Path(__file__).parents[2] / "examples"
# Both have a `run.py`; the first folder's is found.
sys.path[:0] = [str(_EXAMPLES / "real"), str(_EXAMPLES / "ablation")]
