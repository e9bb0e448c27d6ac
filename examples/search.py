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

What it does, in Python:

    from codebind_hf import CodeBindModel, CodeBindProcessor
    from codebind_hf.data import Manifest
    from codebind_hf.inference.gallery_search import search_gallery

    model = CodeBindModel.from_pretrained("runs/mine/checkpoint")
    processor = CodeBindProcessor.from_pretrained("runs/mine/checkpoint")
    answer = search_gallery(model, processor, Manifest("rows.jsonl"), "a glass ring", "text")
    print(*answer.lines(), sep="\\n")
"""

from codebind_hf.commands import app


def main() -> None:
    app.main("search")


if __name__ == "__main__":
    main()
