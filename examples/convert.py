"""Turn a checkpoint of ImageBind, ViT-Lens or the official CodeBind into a folder that `from_pretrained` reads.

    python examples/convert.py --imagebind imagebind_huge.pth --bpe bpe_simple_vocab_16e6.txt.gz --output_dir ib-huge
    python examples/convert.py --codebind experiments/sun --base imagebind_huge.pth \\
        --bpe bpe_simple_vocab_16e6.txt.gz --output_dir codebind-sun
    python examples/convert.py --vitlens vitlensL.pt --bpe bpe_simple_vocab_16e6.txt.gz --output_dir vl-large
    python examples/convert.py --vitlens bigG14_sk16_openshape_all.pt open_clip_pytorch_model.bin \\
        --bpe bpe_simple_vocab_16e6.txt.gz --output_dir vl-bigg

`--bpe` is CLIP's merges file, which ImageBind keeps in `imagebind/bpe`; it becomes the processor's tokenizer. Several
files of ViT-Lens and OpenCLIP become one model if they share a bridge. A CodeBind experiment whose LoRA is kept
(`--lora adapter`) is written as its base and, in the folder `adapter`, the adapter:
`codebind_hf.training.adapters.load_adapter(model, "codebind-sun/adapter")` adds it. Files with code in them are
refused, never run.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from codebind_hf import CodeBindModel, CodeBindProcessor
from codebind_hf.conversion import (
    codebind_processor,
    convert_codebind,
    convert_imagebind,
    convert_vitlens,
    imagebind_processor,
    vitlens_processor,
)
from codebind_hf.conversion.cards import IMAGEBIND, VITLENS, write_conversion_card
from codebind_hf.conversion.lora import has_lora
from codebind_hf.training.adapters import remove_lora, save_adapter


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--imagebind", metavar="FILE", help="state dict of ImageBind")
    source.add_argument("--codebind", metavar="FOLDER", help="an experiment of the official CodeBind")
    source.add_argument("--vitlens", metavar="FILE", nargs="+", help="files of ViT-Lens and OpenCLIP with one bridge")
    parser.add_argument("--base", metavar="FILE", nargs="+", help="of --codebind: ImageBind, and files that follow it")
    parser.add_argument("--bpe", metavar="FILE", required=True, help="bpe_simple_vocab_16e6.txt.gz")
    parser.add_argument("--output_dir", required=True, help="a new folder")
    parser.add_argument(
        "--architecture", metavar="JSON", help="what the original was made with; default: as published"
    )
    parser.add_argument("--which", choices=("best", "last"), default="best", help="files of --codebind; default: best")
    parser.add_argument("--lora_which", choices=("best", "last"), help="the same for LoRA; default: as --which")
    parser.add_argument("--lora", choices=("merge", "adapter"), default="merge", help="default: merge")
    parser.add_argument("--max_shard_size", default="1GB", help="of one file; bounds the memory too; default: 1GB")
    arguments = parser.parse_args()
    if not arguments.codebind and (arguments.base or arguments.lora == "adapter" or arguments.lora_which):
        parser.error("--base, --lora, --lora_which: only with --codebind; the others have no base and no LoRA.")
    if arguments.codebind and not arguments.base:
        parser.error("--base: missing; an experiment needs the ImageBind checkpoint that it started from.")
    if not Path(arguments.bpe).is_file():
        parser.error(f"--bpe: no file {arguments.bpe}.")
    if Path(arguments.output_dir).exists():
        parser.error(f"--output_dir: {arguments.output_dir} exists; give a new folder.")
    return arguments


def read_architecture(file: str | None) -> dict[str, Any] | None:
    """Constructor arguments from a JSON file."""
    if file is None:
        return None
    architecture = json.loads(Path(file).read_text())
    if not isinstance(architecture, dict):
        raise ValueError(f"--architecture: {file} holds {type(architecture).__name__}; expected an object.")
    return architecture


def convert(arguments: argparse.Namespace) -> tuple[CodeBindModel, CodeBindProcessor]:
    architecture = read_architecture(arguments.architecture)
    if arguments.imagebind:
        model = convert_imagebind(arguments.imagebind, architecture)
        return model, imagebind_processor(model.config, arguments.bpe)
    if arguments.vitlens:
        model = convert_vitlens(arguments.vitlens, architecture)
        return model, vitlens_processor(model.config, arguments.bpe)
    model = convert_codebind(
        arguments.codebind,
        arguments.base,
        architecture,
        which=arguments.which,
        lora_which=arguments.lora_which,
        lora=arguments.lora,
    )
    return model, codebind_processor(model.config, arguments.bpe)


def save(model: CodeBindModel, processor: CodeBindProcessor, arguments: argparse.Namespace) -> None:
    """Write everything beside the folder first, so that a folder of this name is always whole."""
    folder = Path(arguments.output_dir)
    files = arguments.vitlens or [arguments.imagebind or arguments.codebind]
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    adapted = has_lora(model)
    if adapted:
        save_adapter(model, partial / "adapter")
        remove_lora(model)
    model.save_pretrained(partial, max_shard_size=arguments.max_shard_size)
    processor.save_pretrained(partial)
    source, origin = " and ".join(Path(file).name for file in files), VITLENS if arguments.vitlens else IMAGEBIND
    write_conversion_card(partial, folder.name, model.config, source, adapted, origin)
    partial.rename(folder)


def main() -> None:
    arguments = parse_arguments()
    folder = Path(arguments.output_dir)
    try:
        model, processor = convert(arguments)
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from error
    adapted = has_lora(model)
    save(model, processor, arguments)
    count = sum(parameter.numel() for parameter in model.parameters())
    print(f"{folder}: {count / 1e6:.1f} million parameters; modalities: {', '.join(model.config.modality_names)}")
    if points := model.config.point_config:
        # No tensor shows it, so a wrong one would go unseen.
        groups = f"{points.num_groups} groups of {points.group_size}"
        print(f"Point clouds: {points.input_size[0]} points in {groups} ({points.point_grouping}).")
    if arguments.lora == "adapter" and not adapted:
        print("The experiment has no LoRA, so there is no adapter.")
    print(f"Read it as {folder / 'README.md'} shows.")


if __name__ == "__main__":
    main()
