"""The card of a converted checkpoint: where it comes from, under which licence, and how it is loaded."""

import os
from pathlib import Path

from huggingface_hub import ModelCardData

from codebind_hf.model.configuration_codebind import CodeBindConfig


# Of facebookresearch/ImageBind's weights; what is derived from them carries it too.
IMAGEBIND_LICENSE = "cc-by-nc-sa-4.0"


def write_conversion_card(
    folder: str | os.PathLike[str], name: str, config: CodeBindConfig, source: str, has_adapter: bool = False
) -> Path:
    """Write `README.md` beside a converted model.

    Args:
        name: what the folder will be called.
        source: what was converted, in a few words.
        has_adapter: the folder holds an adapter that has to be loaded too.
    """
    path = Path(folder) / "README.md"
    tags = ["codebind", "multimodal", "embeddings"]
    header = ModelCardData(license=IMAGEBIND_LICENSE, library_name="codebind_hf", tags=tags).to_yaml()
    senses = ", ".join(config.modality_names)
    lines = ["from codebind_hf import CodeBindModel, CodeBindProcessor"]
    lines += ["from codebind_hf.training.adapters import load_adapter"] * has_adapter
    lines += ["", f'model = CodeBindModel.from_pretrained("{name}")']
    lines += [f'load_adapter(model, "{name}/adapter")'] * has_adapter
    lines += [f'processor = CodeBindProcessor.from_pretrained("{name}")']
    snippet = "\n".join(lines)
    text = f"""---
{header}
---

# {name}

Converted from {source} by `codebind_hf`; the weights are those of the original. It embeds {senses}.

```python
{snippet}
```

The weights are derived from ImageBind's, which Meta released under CC BY-NC-SA 4.0 for research.
"""
    path.write_text(text)
    return path
