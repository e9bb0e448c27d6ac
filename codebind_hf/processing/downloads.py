"""What becomes of URLs: refused, or with the caller's leave fetched to files that are gone once they are used."""

import http.client
import os
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

from .items import Item, Text, is_url


_SECONDS, _MOST_SECONDS = 30, 3600
_MOST_BYTES = 2 << 30
_BLOCK = 1 << 20
_SCHEMES = ("http", "https")


class LocalItems:
    """Items whose URLs have become files, which are gone when this context ends.

    Args:
        allow_urls: whether a URL is fetched.
    """

    def __init__(self, allow_urls: bool) -> None:
        self._allow_urls = allow_urls
        self._folder: tempfile.TemporaryDirectory | None = None
        self._files: dict[int, str] = {}

    def __enter__(self) -> "LocalItems":
        return self

    def __exit__(self, *error: object) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    def of(self, item: Item, position: int, label: str) -> Item:
        """The item at a position, with a file in place of a URL.

        Raises:
            ValueError: a URL without `allow_urls`, or one that is not http(s).
            OSError: it cannot be fetched, is cut short, larger than 2 GiB or slower than an hour.
        """
        if isinstance(item, Text) or not is_url(item.value):
            return item
        if not self._allow_urls:
            raise ValueError(
                f"{label}: got the URL {item.value!r}; allowed: local files. Fix: pass allow_urls=True, or download "
                "it first."
            )
        self._folder = self._folder or tempfile.TemporaryDirectory()
        self._files[position] = fetched(item.value, Path(self._folder.name), label)
        return replace(item, value=self._files[position])

    def release(self, position: int) -> None:
        """Remove the file, if any, of the item at this position."""
        if position in self._files:
            os.remove(self._files.pop(position))


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Redirects, as long as they stay with http(s)."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if urllib.parse.urlsplit(newurl).scheme not in _SCHEMES:
            raise urllib.error.URLError(f"it redirects to {newurl}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def fetched(url: str, folder: Path, label: str) -> str:
    """The file that a URL names, fetched into `folder` under a new name with the same suffix."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in _SCHEMES:
        raise ValueError(f"{label}: got a URL with {parts.scheme}://; allowed: http:// and https://.")
    handle, name = tempfile.mkstemp(Path(parts.path).suffix, dir=folder)
    try:
        with (
            os.fdopen(handle, "wb") as file,
            urllib.request.build_opener(_Redirects).open(url, timeout=_SECONDS) as answer,
        ):
            _copy(answer, file)
    except (OSError, http.client.HTTPException) as error:
        raise OSError(f"{label}: {url} cannot be fetched ({error}).") from error
    return name


def _copy(answer: Any, file: Any) -> None:
    expected, size, end = answer.length, 0, time.monotonic() + _MOST_SECONDS
    while block := answer.read1(_BLOCK):
        size += len(block)
        if size > _MOST_BYTES:
            raise OSError(f"it holds more than {_MOST_BYTES >> 30} GiB")
        if time.monotonic() > end:
            raise OSError(f"it takes more than {_MOST_SECONDS} s")
        file.write(block)
    if expected is not None and size != expected:
        raise OSError(f"it is cut short: {size} of {expected} bytes")
