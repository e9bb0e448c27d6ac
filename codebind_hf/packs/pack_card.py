"""The card of a pack: which bridge it needs, how both are loaded, and what goes in."""

import json
import re
from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData

from codebind_hf.evaluation.figure_style import pretty
from codebind_hf.evaluation.report import markdown_table
from codebind_hf.evaluation.writing import write_text
from codebind_hf.packs.pack_files import PACK_FILE, WEIGHTS_FILE, Pack, read_pack
from codebind_hf.processing.arguments import argument_of, tensor_of


CARD = "README.md"
_TAGS = ("codebind", "codebind-pack", "multimodal", "embeddings", "retrieval")
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_USE = """```python
from codebind_hf import CodeBindModel, CodeBindProcessor

model = CodeBindModel.from_pretrained("{bridge}", packs=["{pack}"])
processor = CodeBindProcessor.from_pretrained("{bridge}", packs=["{pack}"])
embeds = model.encode({{{example}}}, processor=processor)
```"""


def write_pack_card(pack: Pack, name: str | None = None, license: str = "apache-2.0", training: str = "") -> Path:
    """Write `README.md` beside a pack, every statement of it taken from the pack.

    Args:
        name: of the pack; in the example, what is loaded. By default that of its folder.
        license: of the weights.
        training: a paragraph on what they were trained on.

    Raises:
        OSError: the folder cannot be written.
    """
    bridge = pack.bridge["name"] or "the bridge"
    name = name or pack.folder.resolve().name
    size = (pack.folder / WEIGHTS_FILE).stat().st_size
    listed = " and ".join(pretty(each) for each in pack.modalities)
    example = ", ".join(f'"{each}": [...]' for each in pack.modalities)
    shared = pack.bridge["layout"]["shared_dim"]
    sections = [
        f"---\n{_header(pack, name, license)}\n---",
        f"# {name}",
        f"A pack of CodeBind, {size / 1e6:.1f} MB: it adds {listed} to the space of {shared} numbers of `{bridge}`, "
        "whose own vectors stay what they are, bit for bit.",
        "## Use",
        "It does nothing without its bridge, and loads beside no other: weights and codes are compared.",
        _USE.format(bridge=bridge, pack=name, example=example),
        "## What goes in",
        _inputs(pack),
        *(["## Training data", training] if training else []),
        "## Identity",
        f"This card is of the pack whose weights have the SHA-256 `{pack.sha256}`, written by codebind_hf "
        f"{pack.codebind_hf}.",
    ]
    return write_text(pack.folder / CARD, "\n\n".join(sections) + "\n")


def name_for_hub(folder: Path, repo_id: str, bridge: str | None = None) -> None:
    """Have the files of a pack call it and its bridge as they are called on the Hub, in place; the rest is kept.

    Args:
        bridge: name of the bridge there; `None` is the name that the pack has for it.

    Raises:
        ValueError: that is no name on the Hub, so that nobody would find what the pack needs.
        OSError: there is no pack, it is damaged, or cannot be written.
    """
    old = read_pack(folder).bridge["name"]
    bridge = bridge or old
    if not _HUB_NAME.fullmatch(bridge):
        raise ValueError(
            f"--bridge: the pack calls its bridge {bridge!r}; allowed: a name on the Hub, such as me/codebind-demo. "
            "Fix: publish the bridge as well, and give its name."
        )
    found = json.loads((folder / PACK_FILE).read_text(encoding="utf-8"))
    found["bridge"]["name"] = bridge
    write_text(folder / PACK_FILE, json.dumps(found, indent=1))
    card = ModelCard.load(folder / CARD)
    card.data.base_model = bridge
    text = re.sub(r"""(from_pretrained\(["'])[^"']+(["'])""", rf"\g<1>{bridge}\g<2>", str(card))
    text = re.sub(r"""(packs=\[["'])[^"']+(["']\])""", rf"\g<1>{repo_id}\g<2>", text)
    write_text(folder / CARD, text.replace(f"`{old}`", f"`{bridge}`"))


def check_card_of(pack: Pack) -> None:
    """Refuse a card that is of another pack.

    Raises:
        ValueError: it names another digest.
        OSError: there is no card.
    """
    found = re.search(r"SHA-256 `([0-9a-f]{64})`", (pack.folder / CARD).read_text(encoding="utf-8"))
    if found and found[1] != pack.sha256:
        raise ValueError(
            f"{pack.folder / CARD}: is of {found[1]}, and this pack is {pack.sha256}. Fix: save the pack again."
        )


def _header(pack: Pack, name: str, license: str) -> str:
    # The Hub refuses a base that is no name of a repository.
    base = pack.bridge["name"] if _HUB_NAME.fullmatch(pack.bridge["name"]) else None
    data = ModelCardData(
        license=license,
        library_name="transformers",
        pipeline_tag="feature-extraction",
        base_model=base,
        tags=list(_TAGS),
        model_name=name,
    )
    return data.to_yaml().strip()


def _inputs(pack: Pack) -> str:
    rows = []
    for name, entry in pack.modalities.items():
        shape = entry["config"]
        size = " x ".join(map(str, (shape.get("num_channels"), *shape.get("input_size", ()))))
        kind = "what changed of the bridge's own" if entry["rest"] else "whole"
        rows.append([pretty(name), f"`{argument_of(name)}=`", f"`{tensor_of(name)}`", size, kind])
    return markdown_table(
        ["modality", "processor argument", "model keyword", "size of one sample", "encoder in the pack"], rows
    )
