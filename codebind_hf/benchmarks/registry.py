"""Which benchmarks are there? All of the paper's, by name and in the order of its tables."""

from codebind_hf.benchmarks import brain, depth, pictures, points, sounds, thermal, touch, videos
from codebind_hf.benchmarks.entry import Benchmark
from codebind_hf.processing.values import check_choice, nearest


_ORDER = (
    *("in1k", "places365", "k400", "msr-vtt", "nyu-d", "sun-d", "audioset", "vggsound", "esc-50", "clotho"),
    *("audiocaps", "llvip", "flir-v2", "tag-m", "tag-hs", "tag-rs", "in-eeg", "modelnet40", "shapenet55", "ave"),
)
_FAMILIES = (pictures, videos, depth, sounds, thermal, touch, brain, points)
_BY_NAME = {one.name: one for family in _FAMILIES for one in family.BENCHMARKS}


def names() -> list[str]:
    """Names of all benchmarks."""
    return list(_ORDER)


def get(name: str) -> Benchmark:
    """The benchmark called `name`.

    Raises:
        ValueError: there is none; the message names all and the nearest.
    """
    check_choice("benchmark", name, _ORDER, nearest(name, _ORDER))
    return _BY_NAME[name]
