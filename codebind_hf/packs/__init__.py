"""Packs: what binding a modality to a bridge made, small enough to mail, loaded beside a bridge that it left alone."""

from typing import TYPE_CHECKING

from codebind_hf.lazy_names import lazy_names


if TYPE_CHECKING:
    from codebind_hf.packs.loading import add_packs as add_packs
    from codebind_hf.packs.loading import add_packs_to_processor as add_packs_to_processor
    from codebind_hf.packs.loading import load_model as load_model
    from codebind_hf.packs.loading import load_processor as load_processor
    from codebind_hf.packs.pack_files import Pack as Pack
    from codebind_hf.packs.pack_files import read_pack as read_pack
    from codebind_hf.packs.saving import save_pack as save_pack

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "codebind_hf.packs.loading": "add_packs add_packs_to_processor load_model load_processor",
        "codebind_hf.packs.pack_files": "Pack read_pack",
        "codebind_hf.packs.saving": "save_pack",
    },
)
