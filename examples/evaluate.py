"""Evaluate a checkpoint on labelled rows of your own: a manifest of files, or what `datasets` reads.

    python examples/evaluate.py --checkpoint runs/mine --manifest test.jsonl \\
        --template "the digit {}" --output report.json --figures figures
    python examples/evaluate.py --checkpoint runs/mine --dataset pictures:test --text_from_label "a photo of a {}"
    python examples/evaluate.py --checkpoint runs/sun --manifest test.jsonl --recipe examples/recipes/vl-sun.yaml

`--checkpoint` is a run of `examples/train.py`, a folder with model and processor, or a name on the Hub, and `--packs`
what was bound to it. A manifest is JSONL, CSV or Parquet: paths of files by modality (image, audio, depth, ...), and
per row an optional `label` and `attributes`; the flags of rows are those of `examples/train.py`. Written are
`report.json` and, beside it, `report.html` and `report.md` with the same numbers as tables: zero-shot accuracy into
the labels, retrieval between all modalities, codebook usage, probes, reconstruction. A few hundred rows of a tiny
checkpoint take well under a minute on two CPU cores.

Classes are shown as `--template` says; without it as the recipe, as `--text_from_label`, or as "a photo of a {}".

Probes and reconstructions read rows again: `--loading memory` keeps their tensors, `--loading disk` in a folder beside
the report, `report.rows`, for the next evaluation of the same rows too.

What it does, in Python:

    from codebind_hf import CodeBindModel, CodeBindProcessor
    from codebind_hf.data import Manifest
    from codebind_hf.evaluation import Evaluation, write_report

    model = CodeBindModel.from_pretrained("runs/mine/checkpoint")
    processor = CodeBindProcessor.from_pretrained("runs/mine/checkpoint")
    report = Evaluation(model, processor, Manifest("test.jsonl"), templates=["the digit {}"]).report()
    write_report(report, "reports")
"""

from codebind_hf.commands import app


def main() -> None:
    app.main("evaluate")


if __name__ == "__main__":
    main()
