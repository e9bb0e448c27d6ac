"""The card of a converted checkpoint: where it comes from, under which licence, and how it is loaded."""

import os
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import ModelCardData

from codebind_hf.model.configuration_codebind import CodeBindConfig


@dataclass(frozen=True)
class Origin:
    """Whose weights a converted model has.

    Args:
        license: that they carry, and everything that is derived from them.
        sentence: that says so.
    """

    license: str
    sentence: str


IMAGEBIND = Origin(
    "cc-by-nc-sa-4.0",
    "The weights are derived from ImageBind's, which Meta released under CC BY-NC-SA 4.0 for research.",
)
VITLENS = Origin(
    "apache-2.0",
    "The weights are ViT-Lens's, which Tencent released under Apache 2.0; its image and text towers are OpenCLIP's.",
)

_WITHOUT_PACKAGE = """
Without the package, by the code that lies beside the weights:

```python
from transformers import AutoModel, AutoProcessor

model = AutoModel.from_pretrained("{name}", trust_remote_code=True)
processor = AutoProcessor.from_pretrained("{name}", trust_remote_code=True)
```
"""


def write_conversion_card(
    folder: str | os.PathLike[str],
    name: str,
    config: CodeBindConfig,
    source: str,
    has_adapter: bool = False,
    origin: Origin = IMAGEBIND,
) -> Path:
    """Write `README.md` beside a converted model.

    Args:
        name: what the folder will be called.
        source: what was converted, in a few words.
        has_adapter: the folder holds an adapter that has to be loaded too.
    """
    path = Path(folder) / "README.md"
    tags = ["codebind", "multimodal", "embeddings"]
    header = ModelCardData(license=origin.license, library_name="codebind_hf", tags=tags).to_yaml()
    modalities = ", ".join(config.modality_names)
    lines = ["from codebind_hf import CodeBindModel, CodeBindProcessor"]
    lines += ["from codebind_hf.training.adapters import load_adapter"] * has_adapter
    lines += ["", f'model = CodeBindModel.from_pretrained("{name}")']
    lines += [f'load_adapter(model, "{name}/adapter")'] * has_adapter
    lines += [f'processor = CodeBindProcessor.from_pretrained("{name}")']
    snippet = "\n".join(lines)
    # An adapter is loaded by the package, so there is no way without it.
    bare = "" if has_adapter else _WITHOUT_PACKAGE.format(name=name)
    text = f"""---
{header}
---

# {name}

Converted from {source} by `codebind_hf`; the weights are those of the original. It embeds {modalities}.

```python
{snippet}
```
{bare}
{origin.sentence}
"""
    path.write_text(text)
    return path
