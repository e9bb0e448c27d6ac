"""`codebind publish`: a checkpoint or a pack on the Hub, with code, card, report and pictures."""

import shlex
import shutil
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from codebind_hf.commands import options as of
from codebind_hf.commands.values import exactly_one, refuse


EXAMPLE = "codebind publish --checkpoint runs/demo --repo_id me/codebind-demo --dry_run codebind-demo"


def publish(
    repo_id: Annotated[str, of.flag("repo_id", "name on the Hub, such as me/codebind-demo", metavar="NAME")],
    checkpoint: Annotated[
        Path | None, of.flag("checkpoint", "a run or the folder of a checkpoint", metavar="FOLDER")
    ] = None,
    pack: Annotated[Path | None, of.flag("pack", "a run that bound a modality, or its pack", metavar="FOLDER")] = None,
    bridge: Annotated[
        str | None, of.flag("bridge", "of a pack: what its bridge is called on the Hub", metavar="NAME")
    ] = None,
    private: Annotated[bool, of.flag("private", "only you and your organization can see it")] = False,
    dry_run: Annotated[
        Path | None, of.flag("dry_run", "write the upload to this new folder instead", metavar="FOLDER")
    ] = None,
) -> None:
    """Publish a checkpoint or a pack on the Hub.

    Log in first with `hf auth login`. Weights and processor are loaded and saved again, so a folder that does not
    load is never published, and a state of training stays at home. The card is kept as it is. --dry_run writes
    the folder that would be uploaded, byte for byte. Anyone loads the result with AutoModel and AutoProcessor,
    trust_remote_code=True.
    """
    exactly_one({"checkpoint": checkpoint, "pack": pack})
    if dry_run and dry_run.exists():
        refuse(f"--dry_run: {dry_run} exists; give a new folder.")
    if bridge and not pack:
        refuse("--bridge needs --pack.")
    from codebind_hf.publishing.staging import files_of, stage, stage_pack
    from codebind_hf.publishing.uploading import upload
    from codebind_hf.started import command_line

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if pack:
            stage_pack(pack, folder, repo_id, bridge)
        elif checkpoint:
            stage(checkpoint, folder, repo_id)
        sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in files_of(folder)}
        for name, size in sizes.items():
            typer.echo(f"{size:>15,}  {name}")
        place = shutil.copytree(folder, dry_run) if dry_run else upload(folder, repo_id, private)
    done = "Wrote" if dry_run else "Uploaded"
    typer.echo(f"{done} {len(sizes)} files, {sum(sizes.values()):,} bytes: {place}")
    if dry_run:
        given = {"checkpoint": checkpoint, "pack": pack, "bridge": bridge, "repo_id": repo_id}
        words = [word for name, value in given.items() if value for word in (f"--{name}", str(value))]
        typer.echo(f"Upload it: {command_line('publish')} {shlex.join([*words, *(['--private'] if private else [])])}")
