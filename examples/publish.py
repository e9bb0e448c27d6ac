"""Publish a checkpoint or a pack on the Hub: with code, card, report and pictures, in one commit.

    python examples/publish.py --checkpoint runs/demo --repo_id me/codebind-demo --dry_run codebind-demo
    hf auth login
    python examples/publish.py --checkpoint runs/demo --repo_id me/codebind-demo --private
    python examples/publish.py --pack runs/radar --bridge me/codebind-demo --repo_id me/radar

`--checkpoint` is a run of `examples/train.py`, its `checkpoint` folder, or what `examples/convert.py` wrote. Weights
and processor are loaded and saved again, so a folder that does not load is never published, and a state of training
(optimizer, scheduler) stays at home. The card is kept as it is. `--dry_run` writes the folder that would be uploaded,
byte for byte, and uploads nothing. Anyone loads the result with `AutoModel` and `AutoProcessor`,
`trust_remote_code=True`, with or without this package.

`--pack` is a run that bound a modality, or its `pack` folder; `--bridge` names the model that it was bound to as it is
called on the Hub, if the pack has another name for it.
"""

import argparse
import json
import re
import shutil
import tempfile
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, ModelCard
from PIL import Image

from codebind_hf import CodeBindModel, CodeBindProcessor
from codebind_hf.evaluation import checkpoint_digest
from codebind_hf.evaluation.provenance import checkpoint_of
from codebind_hf.packs import read_pack
from codebind_hf.packs.pack_card import check_card_of, name_for_hub
from codebind_hf.packs.pack_files import PACK_FILE, WEIGHTS_FILE
from codebind_hf.processing.pipelines_codebind import MultimodalEmbeddingPipeline


CARD = "README.md"
# Beside model and processor: from the checkpoint, and from the run that it belongs to.
OF_THE_CHECKPOINT = (CARD, "LICENSE*", "adapter/*", "*.png")
OF_THE_RUN = ("report.json", "report.md", "figures/*.png")
# A vocabulary may hold anything that looks like a path; code is the package's own.
UNCHECKED = ("tokenizer.json",)
WEIGHTS = (".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json")
# What the examples in a card load.
LOADED_NAME = re.compile(r"""(from_pretrained\(["'])[^"']+(["'])""")
TEXT = (".json", ".md", ".txt", ".jinja")
ROOTS = "home|root|Users|tmp|mnt|media|data|scratch|work|srv|opt|var|private|Volumes"
MACHINE_PATH = re.compile(rf"(?<![\w.~:/-])/({ROOTS})/[\w.][^\s\"'`)\]]*|(?<![A-Za-z])[A-Z]:\\+\w+")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--checkpoint", type=Path, metavar="FOLDER", help="a run or a checkpoint")
    what.add_argument("--pack", type=Path, metavar="FOLDER", help="a run that bound a modality, or its pack")
    parser.add_argument("--bridge", metavar="NAME", help="of a pack: what its bridge is called on the Hub")
    parser.add_argument("--repo_id", required=True, metavar="NAME", help="such as me/codebind-demo")
    parser.add_argument("--private", action="store_true", help="only you and your organization can see it")
    parser.add_argument("--dry_run", type=Path, metavar="FOLDER", help="write the upload to this new folder instead")
    arguments = parser.parse_args()
    if arguments.dry_run and arguments.dry_run.exists():
        parser.error(f"--dry_run: {arguments.dry_run} exists; give a new folder.")
    if arguments.bridge and not arguments.pack:
        parser.error("--bridge needs --pack.")
    return arguments


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
                "(examples/evaluate.py), or take the file away."
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


def upload(folder: Path, repo_id: str, private: bool) -> str:
    """One commit with every file of `folder`: nobody ever sees half of it. Returns where it is.

    Raises:
        OSError: no network, no login, or no permission.
        ValueError: it should be private, and the repository is not.
    """
    api = HfApi()
    repo_id = api.create_repo(repo_id, private=private or None, exist_ok=True).repo_id
    # The Hub does not change a repository that exists.
    if private and not api.model_info(repo_id).private:
        raise ValueError(f"--private: {repo_id} exists and is public. Fix: make it private, or name a new one.")
    files = {path.relative_to(folder).as_posix(): path for path in files_of(folder)}
    operations: list = [CommitOperationAdd(name, path) for name, path in files.items()]
    # Older weights under other names, whole or in shards, would be found before these.
    present = [entry.rfilename for entry in api.model_info(repo_id).siblings or []]
    operations += [CommitOperationDelete(name) for name in present if name.endswith(WEIGHTS) and name not in files]
    return api.create_commit(repo_id, operations, commit_message="Upload weights, JSON and card").commit_url


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def main() -> None:
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        try:
            if arguments.pack:
                stage_pack(arguments.pack, folder, arguments.repo_id, arguments.bridge)
            else:
                stage(arguments.checkpoint, folder, arguments.repo_id)
            sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in files_of(folder)}
            for name, size in sizes.items():
                print(f"{size:>15,}  {name}")
            if arguments.dry_run:
                place = shutil.copytree(folder, arguments.dry_run)
            else:
                place = upload(folder, arguments.repo_id, arguments.private)
        except (OSError, ValueError) as error:
            raise SystemExit(f"error: {error}") from error
    done = "Wrote" if arguments.dry_run else "Uploaded"
    print(f"{done} {len(sizes)} files, {sum(sizes.values()):,} bytes: {place}")


if __name__ == "__main__":
    main()
