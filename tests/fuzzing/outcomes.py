"""What became of a strange call: it was taken, refused in our own words, or neither? With counts, and guards of time
and memory, for tests and for longer runs alike."""

import contextlib
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as hypothesis_seed
from hypothesis.strategies import SearchStrategy

import codebind_hf


PACKAGE = str(Path(codebind_hf.__file__).parent)
TAKEN, REFUSED, UNCLEAR = "taken", "refused", "unclear"
# A message is for reading: nobody reads an array in it.
_LONGEST_MESSAGE = 2000


class Hang(BaseException):
    """A call took longer than it may; no `except Exception` on the way swallows it."""


def is_clear(error: BaseException) -> bool:
    """Whether an error is one of ours: raised by our code, of a documented kind, and naming what is wrong.

    A `TypeError` is clear where Python itself says that a call has a wrong keyword, or one too few.
    """
    if isinstance(error, TypeError):
        return "argument" in str(error) and "()" in str(error)
    frames = traceback.extract_tb(error.__traceback__)
    is_ours = bool(frames) and frames[-1].filename.startswith(PACKAGE)
    name, colon, rest = str(error).partition(": ")
    return (
        isinstance(error, (ValueError, OSError))
        and is_ours
        and bool(name and colon and rest)
        and len(str(error)) < _LONGEST_MESSAGE
    )


@contextlib.contextmanager
def guarded(seconds: float, megabytes: int) -> Iterator[None]:
    """Raise `Hang` after some seconds, and let allocations fail that take more memory than this beside what is used.

    Systems without the two limits run without them.
    """
    if sys.platform != "linux":
        yield
        return
    import resource

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGALRM, _hang)
    resource.setrlimit(resource.RLIMIT_AS, (used + (megabytes << 20), hard))
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _hang(*_: Any) -> None:
    raise Hang("took too long")


@dataclass
class Outcomes:
    """Counts of outcomes by door, and what was unclear.

    Args:
        seconds, megabytes: that one call may take.
        stop: raise at the first unclear outcome, as tests want, or go on counting.
    """

    seconds: float = 10.0
    megabytes: int = 1024
    stop: bool = True
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    unclear: list[str] = field(default_factory=list)

    def of(
        self,
        door: str,
        call: Callable[[], Any],
        holds: Callable[[Any], bool] = lambda result: True,
        folder: Path | None = None,
    ) -> Any:
        """The result of a call, or the error it was refused with; unclear ones are noted, and raised if wanted.

        Args:
            holds: what is true of every result; one of which it is not is unclear too.
            folder: an `OSError` of any library that names something in it is clear as well.

        Raises:
            AssertionError: with `stop`, an error that is not clear, or a call that hangs.
        """
        try:
            with guarded(self.seconds, self.megabytes):
                result = call()
            if not holds(result):
                raise AssertionError("the result is not what it should be")
        except (Exception, Hang) as error:
            result = error
        is_named = folder is not None and isinstance(result, OSError) and str(folder) in str(result)
        is_refused = isinstance(result, BaseException) and (is_named or is_clear(result))
        outcome = TAKEN if not isinstance(result, BaseException) else REFUSED if is_refused else UNCLEAR
        self.counts[door, outcome] += 1
        if outcome == UNCLEAR:
            frames = traceback.extract_tb(result.__traceback__)
            ours = [frame for frame in frames if frame.filename.startswith(PACKAGE)]
            place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "outside of the package"
            text = f"{door}: {type(result).__name__} from {place}: {str(result)[:200]}"
            self.unclear.append(text)
            if self.stop:
                raise AssertionError(text) from result
        return result

    def try_all(self, calls: SearchStrategy[Any], cases: int, seed: int | None = None) -> None:
        """Make `cases` calls `(door, call, holds)`; always the same ones, or with a seed others."""

        @settings(
            max_examples=cases,
            deadline=None,
            derandomize=seed is None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(calls)
        def try_one(call: Any) -> None:
            self.of(*call)

        (try_one if seed is None else hypothesis_seed(seed)(try_one))()

    def table(self) -> str:
        """One line for every door: how many calls were taken, refused and unclear."""
        doors = sorted({door for door, _ in self.counts})
        lines = [
            f"{door:20} " + " ".join(f"{name} {self.counts[door, name]:6}" for name in (TAKEN, REFUSED, UNCLEAR))
            for door in doors
        ]
        return "\n".join(lines)
