"""`codebind convert`: checkpoints of ImageBind, ViT-Lens and the official CodeBind as folders of ours."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from codebind_hf.commands import options as of
from codebind_hf.commands.values import exactly_one, refuse


if TYPE_CHECKING:
    from codebind_hf.model.modeling_codebind import CodeBindModel
    from codebind_hf.processing.processing_codebind import CodeBindProcessor

EXAMPLE = "codebind convert --imagebind imagebind_huge.pth --bpe bpe_simple_vocab_16e6.txt.gz --output_dir ib-huge"
Which = Literal["best", "last"]


def convert(
    imagebind: Annotated[str | None, of.flag("imagebind", "state dict of ImageBind", metavar="FILE")] = None,
    codebind: Annotated[
        str | None, of.flag("codebind", "an experiment of the official CodeBind", metavar="FOLDER")
    ] = None,
    vitlens: Annotated[
        list[str] | None,
        of.flag("vitlens", "files of ViT-Lens and OpenCLIP with one bridge; repeatable", metavar="FILE"),
    ] = None,
    verify: Annotated[
        list[str] | None,
        of.flag("verify", "only compare with what was published: files, folders of experiments", metavar="FILE"),
    ] = None,
    base: Annotated[
        list[str] | None,
        of.flag("base", "of --codebind: ImageBind, and files that follow it; repeatable", metavar="FILE"),
    ] = None,
    bpe: Annotated[str | None, of.flag("bpe", "bpe_simple_vocab_16e6.txt.gz", metavar="FILE")] = None,
    output_dir: Annotated[Path | None, of.flag("output_dir", "a new folder", metavar="FOLDER")] = None,
    architecture: Annotated[
        str | None, of.flag("architecture", "sizes of the original; without it as published", metavar="JSON")
    ] = None,
    which: Annotated[str, of.choice("which", "files of --codebind", ("best", "last"))] = "best",
    lora_which: Annotated[
        str | None, of.choice("lora_which", "the same for LoRA; without it as --which", ("best", "last"))
    ] = None,
    lora: Annotated[
        str, of.choice("lora", "merge it, or keep it apart as an adapter", ("merge", "adapter"))
    ] = "merge",
    max_shard_size: Annotated[
        str, of.flag("max_shard_size", "of one file; bounds the memory too", metavar="SIZE")
    ] = "1GB",
) -> None:
    """Convert checkpoints of ImageBind, ViT-Lens and CodeBind.

    What is written is a folder that `from_pretrained` reads. --bpe is CLIP's merges file, for the processor's
    tokenizer. Files of ViT-Lens and OpenCLIP with one bridge become one model. --verify only compares files with
    what was published; status 1 says that one is something else.
    """
    exactly_one({"imagebind": imagebind, "codebind": codebind, "vitlens": vitlens, "verify": verify})
    if verify:
        _compare(verify, which)
        return
    if not bpe or not output_dir:
        refuse("--bpe, --output_dir: a conversion needs both.")
    if not codebind and (base or lora == "adapter" or lora_which):
        refuse("--base, --lora, --lora_which: only with --codebind; the others have no base and no LoRA.")
    if codebind and not base:
        refuse("--base: missing; an experiment needs the ImageBind checkpoint that it started from.")
    if not Path(bpe).is_file():
        refuse(f"--bpe: no file {bpe}.")
    if output_dir.exists():
        refuse(f"--output_dir: {output_dir} exists; give a new folder.")
    from codebind_hf.conversion import (
        codebind_processor,
        convert_codebind,
        convert_imagebind,
        convert_vitlens,
        imagebind_processor,
        vitlens_processor,
    )
    from codebind_hf.conversion.architectures import read_architecture
    from codebind_hf.started import command_line

    sizes = read_architecture(architecture)
    if imagebind:
        model = convert_imagebind(imagebind, sizes)
        processor = imagebind_processor(model.config, bpe)
    elif vitlens:
        model = convert_vitlens(list(vitlens), sizes)
        processor = vitlens_processor(model.config, bpe)
    else:
        parts = {"which": which, "lora_which": lora_which, "lora": lora}
        model = convert_codebind(str(codebind), list(base or []), sizes, **cast(dict, parts))
        processor = codebind_processor(model.config, bpe)
    adapted = _save(
        model, processor, output_dir, max_shard_size, vitlens or [str(imagebind or codebind)], bool(vitlens)
    )
    modalities = ", ".join(model.config.modality_names)
    typer.echo(f"{output_dir}: {model.num_parameters() / 1e6:.1f} million parameters; modalities: {modalities}")
    if points := model.config.point_config:
        groups = f"{points.num_groups} groups of {points.group_size}"
        typer.echo(f"Point clouds: {points.input_size[0]} points in {groups} ({points.point_grouping}).")
    if lora == "adapter" and not adapted:
        typer.echo("The experiment has no LoRA, so there is no adapter.")
    typer.echo(f"Read it as {output_dir / 'README.md'} shows.\nLook at it: {command_line('demo')} {output_dir}")


def _save(
    model: "CodeBindModel",
    processor: "CodeBindProcessor",
    folder: Path,
    max_shard_size: str,
    files: Sequence[str],
    is_vitlens: bool,
) -> bool:
    """Write it beside the folder first, so that one of this name is always whole; whether it has an adapter."""
    from codebind_hf.conversion.cards import IMAGEBIND, VITLENS, write_conversion_card
    from codebind_hf.conversion.lora import has_lora
    from codebind_hf.training.adapters import remove_lora, save_adapter

    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    adapted = has_lora(model)
    if adapted:
        save_adapter(model, partial / "adapter")
        remove_lora(model)
    model.save_pretrained(partial, max_shard_size=max_shard_size)
    processor.save_pretrained(partial)
    source, origin = " and ".join(Path(file).name for file in files), VITLENS if is_vitlens else IMAGEBIND
    write_conversion_card(partial, folder.name, model.config, source, adapted, origin)
    partial.rename(folder)
    return adapted


def _compare(files: Sequence[str], which: str) -> None:
    """Say what each file is.

    Raises:
        typer.Exit: one is no original.
    """
    from codebind_hf.conversion.verification import verify

    verdicts = []
    for file in files:
        verdicts.append(verify(file, which))
        typer.echo(verdicts[-1])
    if not all(verdict.is_good for verdict in verdicts):
        raise typer.Exit(1)
