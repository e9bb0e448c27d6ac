"""Turn a checkpoint of ImageBind, ViT-Lens or the official CodeBind into a folder that `from_pretrained` reads.

    python examples/convert.py --imagebind imagebind_huge.pth --bpe bpe_simple_vocab_16e6.txt.gz --output_dir ib-huge
    python examples/convert.py --codebind experiments/sun --base imagebind_huge.pth \\
        --bpe bpe_simple_vocab_16e6.txt.gz --output_dir codebind-sun
    python examples/convert.py --vitlens vitlensL.pt --bpe bpe_simple_vocab_16e6.txt.gz --output_dir vl-large
    python examples/convert.py --vitlens bigG14_sk16_openshape_all.pt open_clip_pytorch_model.bin \\
        --bpe bpe_simple_vocab_16e6.txt.gz --output_dir vl-bigg
    python examples/convert.py --verify imagebind_huge.pth vitlensL.pt bpe_simple_vocab_16e6.txt.gz

`--bpe` is CLIP's merges file, for the processor's tokenizer. Files of ViT-Lens and OpenCLIP with one bridge become one
model. `--lora adapter` keeps LoRA apart: `codebind_hf.training.adapters.load_adapter(model, "codebind-sun/adapter")`.
`--verify` only compares files with what was published (docs/conversion.md); status 1 says that one is something else.
"""

import shutil
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path

from codebind_hf import CodeBindModel, CodeBindProcessor, conversion
from codebind_hf.conversion.architectures import read_architecture
from codebind_hf.conversion.cards import IMAGEBIND, VITLENS, write_conversion_card
from codebind_hf.conversion.lora import has_lora
from codebind_hf.conversion.verification import verify
from codebind_hf.training.adapters import remove_lora, save_adapter


def parse_arguments() -> Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter, allow_abbrev=False)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--imagebind", metavar="FILE", help="state dict of ImageBind")
    source.add_argument("--codebind", metavar="FOLDER", help="an experiment of the official CodeBind")
    source.add_argument("--vitlens", metavar="FILE", nargs="+", help="files of ViT-Lens and OpenCLIP with one bridge")
    source.add_argument("--verify", metavar="FILE", nargs="+", help="only compare: files, folders of experiments")
    parser.add_argument("--base", metavar="FILE", nargs="+", help="of --codebind: ImageBind, and files that follow it")
    parser.add_argument("--bpe", metavar="FILE", help="bpe_simple_vocab_16e6.txt.gz")
    parser.add_argument("--output_dir", help="a new folder")
    parser.add_argument("--architecture", metavar="JSON", help="sizes of the original; default: as published")
    parser.add_argument("--which", choices=("best", "last"), default="best", help="files of --codebind; default: best")
    parser.add_argument("--lora_which", choices=("best", "last"), help="the same for LoRA; default: as --which")
    parser.add_argument("--lora", choices=("merge", "adapter"), default="merge", help="default: merge")
    parser.add_argument("--max_shard_size", default="1GB", help="of one file; bounds the memory too; default: 1GB")
    arguments = parser.parse_args()
    if arguments.verify:
        return arguments
    if not arguments.bpe or not arguments.output_dir:
        parser.error("--bpe, --output_dir: a conversion needs both.")
    if not arguments.codebind and (arguments.base or arguments.lora == "adapter" or arguments.lora_which):
        parser.error("--base, --lora, --lora_which: only with --codebind; the others have no base and no LoRA.")
    if arguments.codebind and not arguments.base:
        parser.error("--base: missing; an experiment needs the ImageBind checkpoint that it started from.")
    if not Path(arguments.bpe).is_file():
        parser.error(f"--bpe: no file {arguments.bpe}.")
    if Path(arguments.output_dir).exists():
        parser.error(f"--output_dir: {arguments.output_dir} exists; give a new folder.")
    return arguments


def convert(arguments: Namespace) -> tuple[CodeBindModel, CodeBindProcessor]:
    architecture = read_architecture(arguments.architecture)
    if arguments.imagebind:
        model = conversion.convert_imagebind(arguments.imagebind, architecture)
        return model, conversion.imagebind_processor(model.config, arguments.bpe)
    if arguments.vitlens:
        model = conversion.convert_vitlens(arguments.vitlens, architecture)
        return model, conversion.vitlens_processor(model.config, arguments.bpe)
    chosen = {name: getattr(arguments, name) for name in ("which", "lora_which", "lora")}
    model = conversion.convert_codebind(arguments.codebind, arguments.base, architecture, **chosen)
    return model, conversion.codebind_processor(model.config, arguments.bpe)


def save(model: CodeBindModel, processor: CodeBindProcessor, arguments: Namespace) -> bool:
    """Write it beside the folder first, so that one of this name is always whole; whether it has an adapter."""
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
    return adapted


def compare(files: list[str], which: str) -> bool:
    """Print what each file is; whether all of them are originals."""
    verdicts = []
    for file in files:
        verdicts.append(verify(file, which))
        print(verdicts[-1], flush=True)
    return all(verdict.is_good for verdict in verdicts)


def main() -> None:
    arguments = parse_arguments()
    if arguments.verify:
        raise SystemExit(0 if compare(arguments.verify, arguments.which) else 1)
    folder = Path(arguments.output_dir)
    try:
        model, processor = convert(arguments)
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from error
    adapted = save(model, processor, arguments)
    modalities = ", ".join(model.config.modality_names)
    print(f"{folder}: {model.num_parameters() / 1e6:.1f} million parameters; modalities: {modalities}")
    if points := model.config.point_config:
        groups = f"{points.num_groups} groups of {points.group_size}"
        print(f"Point clouds: {points.input_size[0]} points in {groups} ({points.point_grouping}).")
    if arguments.lora == "adapter" and not adapted:
        print("The experiment has no LoRA, so there is no adapter.")
    print(f"Read it as {folder / 'README.md'} shows.")


if __name__ == "__main__":
    main()
