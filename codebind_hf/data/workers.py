"""What does a caller learn of a loader's worker that the system killed? The number of workers by name, and a fix."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def named_workers(name: str) -> Iterator[None]:
    """Work with loaders whose number of workers is `name`.

    Raises:
        OSError: a worker was killed, as for want of memory.
    """
    try:
        yield
    except RuntimeError as error:
        # The loader's only sign of it.
        if "DataLoader worker" not in str(error):
            raise
        raise OSError(f"{name}: {error} Fix: fewer workers, and --resume.") from error
