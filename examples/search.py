"""Which rows of a gallery belong to this file, or to these words?

    python examples/search.py --checkpoint runs/mine --query a.wav --gallery rows.jsonl --modalities image,depth
    python examples/search.py --checkpoint runs/mine --text "a glass ring" --dataset pictures:test
    python examples/search.py --checkpoint me/bridge --packs me/radar --text "a glass ring" --gallery rows.jsonl

`--checkpoint` is a run of `examples/train.py`, a folder with model and processor, or a name on the Hub, and `--packs`
what was bound to it. The gallery is a manifest of files, or what `datasets` reads; the flags of rows are those of
`examples/train.py`. Every modality of it is ranked by itself, because modalities differ in how close they lie to each
other as a whole; the number beside a file is the cosine. Of a row with several captions each is ranked; a text that
several rows share is listed once. The modality of the query follows from its suffix where only one modality has it
(`.wav` is audio, `.ply` a point cloud); say `--modality depth` for a `.png` or `.npy` that is a depth map.
`--by which` looks for this very unit, by the specific part, among items of the query's own encoder.
"""

import argparse
from itertools import islice
from pathlib import Path

from codebind_hf.inference.choices import BY, READ_OUTS
from codebind_hf.training.flags import add_model_flags, add_reading_flags, add_row_flags, data_of, whole_number


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model_flags(parser)
    query = parser.add_mutually_exclusive_group(required=True)
    query.add_argument("--query", help="a file (or a folder of video frames)")
    query.add_argument("--text", help="words instead of a file")
    parser.add_argument("--modality", help="modality of the query, when its suffix does not tell")
    add_row_flags(parser, also=("--gallery",))
    add_reading_flags(parser)
    parser.add_argument(
        "--modalities", "--senses", help="modalities to rank, such as image,depth; default: all but the query's own"
    )
    parser.add_argument("--top_k", type=whole_number(1), default=5)
    parser.add_argument("--read_out", choices=READ_OUTS, default="continuous", help="before or after the codes")
    by = "what: the kind of thing; which: this very unit, among items of the query's encoder; both: as much of each"
    parser.add_argument("--by", choices=BY, default="what", help=by)
    arguments = parser.parse_args()
    if arguments.text and arguments.modality not in (None, "text"):
        parser.error(f"--modality: got {arguments.modality} with --text. Fix: leave it out, or give a --query.")
    return arguments


def search(arguments: argparse.Namespace) -> None:
    from codebind_hf.data.prepared import by_fix
    from codebind_hf.evaluation import embed_dataset
    from codebind_hf.evaluation.embedding import modalities_to_read
    from codebind_hf.evaluation.provenance import checkpoint_of
    from codebind_hf.inference import gallery_search as asked
    from codebind_hf.training.run_rows import load_beside

    if arguments.query:
        asked.check_query(arguments.query)
    checkpoint = checkpoint_of(arguments.checkpoint, "--checkpoint")
    own = "text" if arguments.text else arguments.modality
    options = (arguments.depth_unit, [own] if own else [], arguments.on_error, arguments.packs)
    model, processor, named = load_beside(checkpoint, data_of(arguments), *options)
    rows = named.training
    own = own or asked.modality_of_query(arguments.query, model.config.modality_names)
    asked.check_modality(own, model.config.modality_names, "--text" if arguments.text else "--modality")
    present = modalities_to_read(model, rows, "gallery")
    modalities = asked.gallery_modalities(model.config, arguments.modalities, own, present, arguments.by)
    value = arguments.text or arguments.query
    query = asked.embedded_query(model, processor, own, value)
    found = embed_dataset(model, processor, rows, modalities=modalities, on_error=arguments.on_error)
    print(f"query: {value} ({own})")
    reasons = [(f"skipped row {each.position}, {each.modality}", each.message) for each in found.failures]
    for line in by_fix(reasons):
        print(line)
    folder = Path(arguments.manifest or "x").absolute().parent
    for name in (name for name in modalities if name in found.modalities):
        print(f"\n{name}")
        gallery = found.captions if name == "text" and found.captions is not None else found.modalities[name]
        positions = gallery.positions.tolist()
        matches = (
            (asked.name_of_item(rows, positions, item, name, folder), cosine)
            for item, cosine in asked.ranked(query, gallery, arguments.read_out, arguments.by)
        )
        answers = islice(asked.distinct(matches) if name == "text" else matches, arguments.top_k)
        for rank, (match, cosine) in enumerate(answers, start=1):
            print(f"{rank:3}. {cosine:+.3f}  {match}")


def main() -> None:
    arguments = parse_arguments()
    try:
        search(arguments)
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
