"""For the site: types of arguments, which docstrings write as the library's do, without their backticks and stars."""

import re
from typing import Any


_TYPE = re.compile(r"<code>([^<]*)</code>")


def on_page_content(html: str, page: Any, **_: Any) -> str:
    """`torch.Tensor` of shape `(batch, dim)`, *optional*: as plain words, where it is set as code already."""
    return _TYPE.sub(_plain, html) if page.file.src_uri.startswith("reference/") else html


def _plain(match: re.Match[str]) -> str:
    return f"<code>{match[1].replace('`', '').replace('*optional*', 'optional')}</code>"
