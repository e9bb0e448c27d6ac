"""What becomes of URLs: refused, or with the caller's leave fetched to files that are gone when the call is done."""

import os
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from .items import Item, Text, is_url


_SECONDS = 30
_MOST_BYTES = 2 << 30
_BLOCK = 1 << 20


def local_items(items: Iterator[tuple[str, Item]], allow_urls: bool, stack: ExitStack) -> Iterator[tuple[str, Item]]:
    """Items whose URLs, if any, have become files in a folder that `stack` removes at its end.

    Raises:
        ValueError: a URL without `allow_urls`, or one that is not http(s).
        OSError: it cannot be fetched, or is larger than 2 GiB.
    """
    folder: Path | None = None
    for label, item in items:
        if isinstance(item, Text) or not is_url(item.value):
            yield label, item
        elif not allow_urls:
            raise ValueError(
                f"{label}: got the URL {item.value!r}; allowed: local files. Fix: pass allow_urls=True, or "
                "download it first."
            )
        else:
            folder = folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
            yield label, replace(item, value=fetched(item.value, folder, label))


def fetched(url: str, folder: Path, label: str) -> str:
    """The file that a URL names, fetched into `folder` under a new name with the same suffix."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"{label}: got a URL with {parts.scheme}://; allowed: http:// and https://.")
    handle, name = tempfile.mkstemp(Path(parts.path).suffix, dir=folder)
    size = 0
    try:
        with os.fdopen(handle, "wb") as file, urllib.request.urlopen(url, timeout=_SECONDS) as answer:
            while block := answer.read(_BLOCK):
                size += len(block)
                if size > _MOST_BYTES:
                    raise OSError(f"{label}: {url} holds more than {_MOST_BYTES >> 30} GiB.")
                file.write(block)
    except (urllib.error.URLError, TimeoutError) as error:
        raise OSError(f"{label}: {url} cannot be fetched ({error}).") from error
    return name
