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

What it does, in Python:

    from pathlib import Path
    from codebind_hf.publishing.staging import stage
    from codebind_hf.publishing.uploading import upload

    stage(Path("runs/demo"), Path("codebind-demo"), "me/codebind-demo")
    upload(Path("codebind-demo"), "me/codebind-demo", private=True)
"""

from codebind_hf.commands import app


def main() -> None:
    app.main("publish")


if __name__ == "__main__":
    main()
