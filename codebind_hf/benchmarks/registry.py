"""Which benchmarks are there? All of the paper's, by name and in the order of its tables."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from codebind_hf.benchmarks import brain, depth, pictures, points, sounds, thermal, touch, videos
from codebind_hf.benchmarks.entry import Benchmark
from codebind_hf.processing.values import check_choice, nearest


Outcome = TypeVar("Outcome")
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


def folder_of(name: str, root: str | Path, names: Sequence[str]) -> Path:
    """The folder of one of several benchmarks, which each have one under `root`; of a single one, `root` itself."""
    return Path(root) / name if len(names) > 1 else Path(root)


def for_all(names: Sequence[str], root: str | Path, act: Callable[[Benchmark, Path], Outcome]) -> list[Outcome]:
    """What `act` gives of each benchmark and its folder; all are tried before any error is raised.

    Raises:
        ValueError: an unknown name.
        ValueError, OSError, ImportError: of one; of several one `OSError` that says everything that is wrong.
    """
    done, failed = [], list[Exception]()
    for benchmark in [get(name) for name in names]:
        try:
            done.append(act(benchmark, folder_of(benchmark.name, root, names)))
        except (ValueError, OSError, ImportError) as error:
            failed.append(error)
    if len(failed) == 1:
        raise failed[0]
    if failed:
        raise OSError("\n".join(map(str, failed)))
    return done
