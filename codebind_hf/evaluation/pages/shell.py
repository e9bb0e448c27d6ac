"""How do findings, tables and items become one file that needs nothing else?"""

import re
from functools import lru_cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from codebind_hf.evaluation.figure_style import pretty


_CODE = re.compile(r"`([^`]+)`")
_EMPHASIS = re.compile(r"\*([^*]+)\*")


def page(template: str, **values: Any) -> str:
    """A template of this room with values, everything in them escaped unless it is `Markup`."""
    return _environment().get_template(template).render(**values)


def inline(text: str) -> Markup:
    """A line of Markdown with `code` and *emphasis* as HTML, everything else escaped."""
    marked = _CODE.sub(r"<code>\1</code>", str(escape(text)))
    # Escaped by the line above, but for the tags that were put in.
    return Markup(_EMPHASIS.sub(r"<em>\1</em>", marked))  # noqa: S704


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("codebind_hf.evaluation.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"inline": inline, "pretty": pretty}
    return environment
