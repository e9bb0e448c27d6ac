"""Name what a sensor sees, find its picture, and share the result: the pipelines on objects of NineSenses.

    python examples/pipelines.py
    python examples/pipelines.py --checkpoint runs/mine/checkpoint --modalities depth,eeg --num_items 400
    python examples/pipelines.py --output_dir shared        # a folder that works without this package

Prints for every modality how often the best of the 20 labels is right (chance 5 %), and how often the object's own
picture is among the ten closest. `make demo` makes the default checkpoint. One CPU: some seconds a modality.
"""

import argparse
from pathlib import Path

from transformers import pipeline

import codebind_hf  # noqa: F401  (registers the tasks)
from codebind_hf.data import NineSenses
from codebind_hf.evaluation.provenance import checkpoint_of


TOP_K = 10


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="runs/demo", help="a run, a checkpoint, or a name on the Hub")
    parser.add_argument("--modalities", "--senses", help="such as depth,eeg; default: all there are")
    parser.add_argument("--num_items", type=int, default=100)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="auto", help="such as bfloat16")
    parser.add_argument("--output_dir", type=Path, help="also save a folder to share")
    arguments = parser.parse_args()
    if not Path(arguments.checkpoint).exists() and arguments.checkpoint.startswith("runs/"):
        parser.error(f"--checkpoint: no {arguments.checkpoint}; `make demo` makes one.")
    try:
        arguments.checkpoint = checkpoint_of(arguments.checkpoint, "--checkpoint")
    except OSError as error:
        parser.error(str(error))
    return arguments


def modalities_of(wanted: str | None, known: tuple[str, ...], rows: NineSenses) -> list[str]:
    """The modalities asked for, or all that can be named and have a picture to find."""
    possible = [modality for modality in rows.modalities if modality in known and modality not in ("text", "image")]
    chosen = possible if wanted is None else [modality.strip() for modality in wanted.split(",")]
    unknown = [modality for modality in chosen if modality not in possible]
    if unknown:
        raise SystemExit(f"--modalities: got {unknown[0]}; checkpoint and data have {', '.join(possible)}.")
    return chosen


def main() -> None:
    arguments = parse_arguments()
    rows = NineSenses("test", num_rows=arguments.num_items)
    common = {"model": arguments.checkpoint, "device": arguments.device, "dtype": arguments.dtype}
    classify = pipeline(
        "zero-shot-sensor-classification",
        candidate_labels=rows.class_names,
        hypothesis_template=rows.templates,
        top_k=1,
        batch_size=arguments.batch_size,
        **common,
    )
    retrieve = pipeline("cross-modal-retrieval", top_k=TOP_K, batch_size=arguments.batch_size, **common)
    pictures = retrieve.embed_gallery(rows, modality="image")
    for modality in modalities_of(arguments.modalities, tuple(classify.model.config.modalities), rows):
        # Rows are rendered one by one while batches are embedded; only answers are kept.
        answers = classify(rows, modality=modality)
        named = [best["label"] == row["label"] for (best,), row in zip(answers, rows, strict=True)]
        matches = retrieve(rows, gallery=pictures, modality=modality)
        found = [any(match["index"] == own for match in best) for own, best in enumerate(matches)]
        shares = f"named {sum(named) / len(named):6.1%}   picture among {TOP_K} of {len(rows)}: "
        print(f"{modality:12} {shares}{sum(found) / len(found):6.1%}")
    if arguments.output_dir:
        classify.save_pretrained(arguments.output_dir)
        print(f'pipeline("{classify.task}", model="{arguments.output_dir}", trust_remote_code=True)')


if __name__ == "__main__":
    main()
