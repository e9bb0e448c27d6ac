"""What of a checkpoint or a pack is published? The files of a folder, after checks that they may be."""

import json
import re
import shutil
from pathlib import Path

from huggingface_hub import ModelCard
from PIL import Image

from codebind_hf.evaluation.provenance import checkpoint_digest, checkpoint_of
from codebind_hf.model.modeling_codebind import CodeBindModel
from codebind_hf.packs import read_pack
from codebind_hf.packs.pack_card import check_card_of, name_for_hub
from codebind_hf.packs.pack_files import PACK_FILE, WEIGHTS_FILE
from codebind_hf.processing.pipelines_codebind import MultimodalEmbeddingPipeline
from codebind_hf.processing.processing_codebind import CodeBindProcessor


CARD = "README.md"
# Beside model and processor: from the checkpoint, and from the run that it belongs to.
OF_THE_CHECKPOINT = (CARD, "LICENSE*", "adapter/*", "*.png")
OF_THE_RUN = ("report.json", "report.md", "figures/*.png")
# A vocabulary may hold anything that looks like a path; code is the package's own.
UNCHECKED = ("tokenizer.json",)
# What the examples in a card load.
LOADED_NAME = re.compile(r"""(from_pretrained\(["'])[^"']+(["'])""")
TEXT = (".json", ".md", ".txt", ".jinja")
ROOTS = "home|root|Users|tmp|mnt|media|data|scratch|work|srv|opt|var|private|Volumes"
MACHINE_PATH = re.compile(rf"(?<![\w.~:/-])/({ROOTS})/[\w.][^\s\"'`)\]]*|(?<![A-Za-z])[A-Z]:\\+\w+")


def folders_of(given: Path) -> tuple[Path, Path | None]:
    """Checkpoint and, if there is one, the run that it belongs to; an `OSError` if there is no checkpoint."""
    checkpoint = Path(checkpoint_of(given, "--checkpoint"))
    if not checkpoint.is_dir():
        raise OSError(f"--checkpoint: {given} is on the Hub already. Fix: give a folder.")
    return checkpoint, checkpoint.resolve().parent if checkpoint.resolve().name == "checkpoint" else None


def check_card(checkpoint: Path) -> None:
    """Refuse weights that nobody can know the licence of."""
    file = checkpoint / CARD
    if not file.is_file():
        raise ValueError(
            f"{file}: no such file; what is published needs a card. Fix: call "
            "`codebind_hf.evaluation.write_model_card`."
        )
    weights_license = ModelCard.load(file).data.license
    if weights_license in (None, "unknown"):
        raise ValueError(
            f"{file}: got license {weights_license!r} in its header; name the licence of the weights. Weights "
            "derived from others carry theirs: cc-by-nc-sa-4.0 for ImageBind's."
        )


def check_belongs(checkpoint: Path, run: Path | None) -> None:
    """Refuse a report, card or picture that is of another checkpoint."""
    digest = checkpoint_digest(checkpoint)
    named: dict[Path, str | None] = {}
    for folder in filter(None, (checkpoint, run)):
        for file in folder.glob("report.json"):
            named[file] = json.loads(file.read_text(encoding="utf-8")).get("checkpoint_sha256", "no checkpoint")
        for file in folder.glob("run.json"):
            named[file] = json.loads(file.read_text(encoding="utf-8")).get("checkpoint") or "no checkpoint"
        for file in (*folder.glob("figures/*.png"), *folder.glob("*.png")):
            with Image.open(file, formats=("PNG",)) as picture:
                named[file] = picture.info.get("Checkpoint")
    in_card = re.search(r"SHA-256 `([0-9a-f]{64})`", (checkpoint / CARD).read_text(encoding="utf-8"))
    named[checkpoint / CARD] = in_card[1] if in_card else None
    for file, other in named.items():
        if other not in (None, digest):
            raise ValueError(
                f"{file}: is of {other}, and this checkpoint is {digest}. Fix: evaluate this one "
                "(codebind evaluate), or take the file away."
            )


def check_paths(folder: Path, checkpoint: Path) -> None:
    """Refuse files that name a place on this machine."""
    own = {str(Path.home()), str(checkpoint.resolve())} - {"/"}
    for file in sorted(path for path in folder.rglob("*") if path.suffix in TEXT and path.name not in UNCHECKED):
        text = file.read_text(encoding="utf-8")
        found = MACHINE_PATH.search(text)
        named = found.group() if found else next((path for path in sorted(own) if path in text), None)
        if named:
            raise ValueError(f"{file.relative_to(folder)}: holds {named!r}, a path of one machine. Fix: take it out.")


def stage(given: Path, folder: Path, repo_id: str) -> None:
    """Write into `folder` exactly what is to be uploaded.

    Raises:
        OSError: there is no checkpoint, or it cannot be read.
        ValueError: no card, no licence, a report or picture of another checkpoint, weights missing, or a path of this
            machine in a file.
    """
    checkpoint, run = folders_of(given)
    check_card(checkpoint)
    model, information = CodeBindModel.from_pretrained(checkpoint, output_loading_info=True)
    if missing := sorted(information["missing_keys"]):
        raise ValueError(f"{checkpoint}: lacks {len(missing)} tensors of the model, such as {missing[0]}.")
    # The pipeline writes model and processor, and the code of all pipelines, for those without the package.
    processor = CodeBindProcessor.from_pretrained(checkpoint)
    MultimodalEmbeddingPipeline(model=model, processor=processor).save_pretrained(folder, max_shard_size="5GB")
    sources = [(checkpoint, pattern) for pattern in (*OF_THE_CHECKPOINT, *OF_THE_RUN)]
    sources += [(run, pattern) for pattern in OF_THE_RUN] if run else []
    for source, pattern in sources:
        for file in source.glob(pattern):
            target = folder / file.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
    card = folder / CARD
    card.write_text(LOADED_NAME.sub(rf"\g<1>{repo_id}\g<2>", card.read_text(encoding="utf-8")), encoding="utf-8")
    check_paths(folder, checkpoint)
    check_belongs(checkpoint, run)


def stage_pack(given: Path, folder: Path, repo_id: str, bridge: str | None) -> None:
    """Write into `folder` exactly what is to be uploaded of a pack, which is read and compared with its hash first.

    Raises:
        OSError: there is no pack, or it is damaged.
        ValueError: no card or one of another pack, no licence, a bridge that is not on the Hub, or a path of this
            machine in a file.
    """
    pack = read_pack(given)
    check_card(pack.folder)
    check_card_of(pack)
    for pattern in (PACK_FILE, WEIGHTS_FILE, CARD, "LICENSE*"):
        for file in pack.folder.glob(pattern):
            shutil.copyfile(file, folder / file.name)
    name_for_hub(folder, repo_id, bridge)
    check_paths(folder, pack.folder)


def files_of(folder: Path) -> list[Path]:
    """All files below a folder, sorted."""
    return sorted(path for path in folder.rglob("*") if path.is_file())
