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

What it does, in Python:

    from codebind_hf.conversion import convert_imagebind, imagebind_processor

    model = convert_imagebind("imagebind_huge.pth")
    model.save_pretrained("ib-huge")
    imagebind_processor(model.config, "bpe_simple_vocab_16e6.txt.gz").save_pretrained("ib-huge")
"""

from codebind_hf.commands import app


def main() -> None:
    app.main("convert")


if __name__ == "__main__":
    main()
