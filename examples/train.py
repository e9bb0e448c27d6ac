"""Train CodeBind: from nothing on a manifest of your own files or on the embedded NineSenses, or from a checkpoint.

    accelerate launch examples/train.py --manifest rows.jsonl --output_dir runs/mine
    accelerate launch examples/train.py --config examples/recipes/demo.yaml --output_dir runs/demo
    accelerate launch examples/train.py --config examples/recipes/sun.yaml --base imagebind --output_dir runs/sun
    accelerate launch examples/train.py --bind eeg --bridge runs/demo --manifest rows.jsonl --output_dir runs/eeg
    accelerate launch examples/train.py --resume --output_dir runs/demo

`accelerate launch` finds GPUs by itself. A few hundred rows take two to five minutes on two CPU cores, the demo seven.
On one device `codebind train`, with the same flags, needs no launcher.

A manifest is JSONL, CSV or Parquet: per row, any subset of modalities (`text` itself, otherwise paths relative to the
manifest), and an optional `label` and `attributes`. `--dataset` takes what `datasets` reads instead: saved data sets,
folders of classes, shards. Written are `checkpoint/` (model and processor), `training.json` (the whole log, with how
many numbers learned in which parts), `run.json` (what the run was started with) and, when there are test rows,
`report.json`, `report.html`, pictures and the model card. A run with LoRA also writes `adapter/`, and merges it into
`checkpoint/`.

A run saves every two minutes, and when it is interrupted (Ctrl-C, SIGTERM). `--resume` finds its settings and goes
on, to the same bits as if nothing had happened; with the settings beside it, it starts a run that is not there yet.

`--bind` trains one modality on a finished model whose bridges, other modalities and (unless `--shared_codes
learning`) shared codes stay as they are; `pack/` then loads beside that model. `binding.json` says how far the
embeddings of the other modalities moved; beyond `--tolerance`, nothing is saved and the exit status is 1. A modality
of your own needs `--encoder`, the fields of its encoder as YAML or JSON, and a column of the manifest.

What it does, in Python:

    from pathlib import Path
    from codebind_hf.training import read_settings, run

    run(read_settings(data={"manifest": "rows.jsonl"}), Path("runs/mine"))
"""

from codebind_hf.commands import app


def main() -> None:
    app.main("train")


if __name__ == "__main__":
    main()
