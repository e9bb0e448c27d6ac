"""`codebind search`: which rows of a gallery belong to this file, or to these words?"""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from codebind_hf.commands import options as of
from codebind_hf.commands.running import data_of, given
from codebind_hf.commands.values import exactly_one, refuse


EXAMPLE = "codebind search --checkpoint runs/demo --text 'a glass ring' --gallery runs/demo/files/manifest.jsonl"


def search(
    checkpoint: of.Checkpoint,
    query: Annotated[str | None, of.flag("query", "a file, or a folder of video frames", metavar="FILE")] = None,
    text: Annotated[str | None, of.flag("text", "words instead of a file", metavar="WORDS")] = None,
    modality: of.Modality = None,
    manifest: of.Gallery = None,
    dataset: of.Dataset = None,
    columns: of.Columns = None,
    text_from_label: of.TextFromLabel = None,
    encoding: of.Encoding = None,
    modalities: Annotated[
        str | None,
        of.flag(
            "modalities",
            "modalities to rank, such as image,depth; without it all but the query's own",
            metavar="NAME,...",
            also=("senses",),
        ),
    ] = None,
    packs: of.Packs = None,
    depth_unit: of.DepthUnit = None,
    on_error: of.OnError = "raise",
    top_k: Annotated[int, of.count("top_k", "items of each modality")] = 5,
    read_out: of.ReadOut = "continuous",
    by: of.By = "what",
    html: Annotated[
        Path | None, of.flag("html", "also write the answer as a page with pictures and players", metavar="FILE")
    ] = None,
    as_json: of.AsJson = False,
) -> None:
    """Search files and texts by a file of any modality, or by words.

    Every modality is ranked by itself, because modalities differ in how close they lie to each other as a whole; the
    number beside an item is the cosine. A text that several rows share is listed once. The modality of the query
    follows from its suffix where only one modality has it; say --modality depth for a picture that is a depth map.
    """
    flags = given(locals())
    exactly_one({"query": query, "text": text})
    exactly_one({"manifest": manifest, "dataset": dataset})
    if html and html.suffix != ".html":
        refuse(f"--html: got {html}; give a file that ends in .html.")
    if text and modality not in (None, "text"):
        refuse(f"--modality: got {modality} with --text. Fix: leave it out, or give a --query.")
    from codebind_hf.evaluation.provenance import checkpoint_of
    from codebind_hf.inference.gallery_search import check_modality, check_query, modality_of_query, search_gallery
    from codebind_hf.training.run_rows import load_beside

    if query:
        check_query(query)
    own = "text" if text else modality
    place = checkpoint_of(checkpoint, "--checkpoint")
    model, processor, named = load_beside(
        place, data_of(flags), depth_unit, [own] if own else [], on_error, packs or []
    )
    known = model.config.modality_names
    own = own or modality_of_query(str(query), known)
    check_modality(own, known, "--text" if text else "--modality")
    folder = Path(manifest or "x").absolute().parent
    options: dict[str, Any] = {"top_k": top_k, "read_out": read_out, "by": by, "on_error": on_error, "folder": folder}
    answer = search_gallery(model, processor, named.training, str(text or query), own, modalities, **options)
    typer.echo(json.dumps(answer.as_json(), indent=1) if as_json else "\n".join(answer.lines()))
    if html:
        typer.echo(f"Wrote {answer.write_page(html)}.", err=as_json)
