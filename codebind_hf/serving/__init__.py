"""What runs behind an address: the demo app, and the folder that makes a Hugging Face Space of it."""

from typing import TYPE_CHECKING

from codebind_hf.lazy_names import lazy_names


if TYPE_CHECKING:
    from codebind_hf.serving.demo_app import build as build
    from codebind_hf.serving.demo_app import launch as launch
    from codebind_hf.serving.demo_app import serve as serve
    from codebind_hf.serving.space import write_space as write_space

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "codebind_hf.serving.demo_app": "build launch serve",
        "codebind_hf.serving.space": "write_space",
    },
)
