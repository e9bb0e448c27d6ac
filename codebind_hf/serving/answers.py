"""What stands behind the buttons? From items to HTML, with no word about the library that draws the page."""

from collections.abc import Sequence
from typing import Any

import torch

from codebind_hf.evaluation.embedding import EmbeddedModality, EmbeddedSet, embed_texts
from codebind_hf.evaluation.figure_style import color_of, pretty
from codebind_hf.evaluation.reconstruction import reconstructions
from codebind_hf.inference.gallery_search import ranked
from codebind_hf.inference.matches import CodeMatch, explain_match
from codebind_hf.model.evaluating import evaluating
from codebind_hf.serving import markup
from codebind_hf.serving.tensor_views import tensor_views
from codebind_hf.serving.workbench import Query, Workbench


NO_GALLERY = "There is no gallery to compare with. Fix: start with a manifest of files, --gallery rows.jsonl."
MOST_WORDS = 100
_MOST_BARS = 10
_MOST_CODES = 8
_EXAMPLES = 2
_INK_ON_DARK = "#8a8a8a"


def nearest_items(bench: Workbench, query: Query, top_k: int) -> str:
    """The nearest items of every other modality, one shelf each; of a gallery with one modality, of that."""
    embedded = bench.loaded().embedded
    if embedded is None:
        return markup.note(NO_GALLERY)
    names = [name for name in bench.modalities if name in embedded.modalities]
    shelves = []
    for name in [each for each in names if each != query.modality] or names:
        shown = _cards(bench, query, name, embedded.modalities[name], top_k)
        shelves.append(markup.shelf(pretty(name), shown, dot_of(name)))
    return f'<div class="cb-shelves">{"".join(shelves)}</div>'


def _cards(bench: Workbench, query: Query, name: str, gallery: EmbeddedModality, top_k: int) -> list[str]:
    cards: list[str] = []
    seen = set[str]()
    for item, cosine in ranked(query.embedded, gallery):
        row = int(gallery.positions[item])
        view = bench.view_of_row(row, name)
        # A text that several rows share stands once; an item is no answer to itself.
        if (name == "text" and view in seen) or (row == query.row and name == query.modality):
            continue
        seen.add(view)
        marks = ["same object"] if row == query.row else []
        cards.append(markup.card(view, bench.title_of_row(row), marks, f"{cosine:+.2f}"))
        if len(cards) == top_k:
            break
    return cards


def word_bars(bench: Workbench, query: Query, words: str) -> str:
    """How near each of the typed words is: shares of the softmax that the model was trained with, and cosines."""
    typed = list(dict.fromkeys(part.strip() for part in words.replace("\n", ",").split(",") if part.strip()))
    if "text" not in bench.config.modality_names or not typed:
        return ""
    if len(typed) > MOST_WORDS:
        raise ValueError(f"words: got {len(typed)}; allowed: up to {MOST_WORDS}, separated by commas.")
    found = bench.loaded()
    texts = bench.with_model(lambda model: embed_texts(model, found.processor, typed))
    cosines = texts.continuous_embeds @ query.embedded.continuous_embeds[0]
    shares = torch.softmax(found.model.logit_scale().detach().cpu() * cosines, dim=0)
    order = shares.argsort(descending=True).tolist()
    rows = [(typed[i], float(shares[i]), f"{100 * shares[i]:.0f} %  {cosines[i]:+.2f}") for i in order[:_MOST_BARS]]
    best = f"the best {_MOST_BARS} of " if len(typed) > _MOST_BARS else ""
    named = query.label or pretty(query.modality)
    return markup.bars(rows, f"{named}: {best}{len(typed)} words, each with its share among them and its cosine")


def common_words(bench: Workbench, most: int = 40) -> str:
    """Words to begin with: the classes of the gallery."""
    labels = [row.get("label") for row in bench.rows]
    classes = sorted({label for label in labels if isinstance(label, str)})
    return ", ".join(classes[:most])


def shared_codes(bench: Workbench, first: Query, second: Query) -> str:
    """Which codes two items share, segment by segment, and what else has them."""
    embedded = bench.loaded().embedded
    if embedded is None:
        return markup.note(NO_GALLERY)
    ids = []
    for query in (first, second):
        if query.embedded.shared_codes is None:
            raise ValueError("This checkpoint has no shared codes (num_shared_codes is 0).")
        ids.append((query.modality, query.embedded.shared_codes[0].numpy()))
    book: Any = bench.loaded().model.codebooks.shared
    codes = getattr(book, "codes", None)
    match = explain_match(embedded, ids[0], ids[1], examples=_EXAMPLES + 2, codes=codes)
    return _match_view(bench, embedded, match, [each[1].tolist() for each in ids], (first, second))


def _match_view(
    bench: Workbench, embedded: EmbeddedSet, match: CodeMatch, ids: list[list[int]], queries: tuple[Query, Query]
) -> str:
    most = max(float(abs(match.contributions).max()), 1e-12)
    segments = "".join(
        f'<li class="{"cb-same" if one == other else "cb-other"}" title="segment {place}: adds {added:+.3f}" '
        f'style="--adds:{max(0.0, added) / most:.2f}">'
        f"<b>{one}</b>{'' if one == other else f'<b>{other}</b>'}<span>{added:+.2f}</span></li>"
        for place, (one, other, added) in enumerate(zip(*ids, match.contributions.tolist(), strict=True))
    )
    summary = (
        f"Equal codes in {len(match.shared)} of {len(match.contributions)} segments; two items of the gallery have "
        f"{match.expected:.1f} by chance. Cosine of the codes: {match.cosine:+.2f}."
    )
    keys = {identity or position: position for position, identity in enumerate(embedded.ids)}
    own = {query.row for query in queries}
    blocks = []
    for one in match.shared[:_MOST_CODES]:
        cards = []
        for modality, found in one.examples.items():
            rows = [keys[key] for key in found if keys.get(key) not in own]
            cards += [
                markup.card(bench.view_of_row(row, modality), f"{pretty(modality)}: {bench.title_of_row(row)}")
                for row in rows[:_EXAMPLES]
                if modality not in ("video", "audio")
            ]
        title = f"Segment {one.segment}, code {one.code}"
        worth = f"adds {one.contribution:+.2f}; {one.surprise:.1f} bits of surprise"
        inside = f'<div class="cb-cards">{"".join(cards)}</div>' if cards else "<p>Nothing else in the gallery.</p>"
        blocks.append(f'<section class="cb-code"><h4>{title} <small>{worth}</small></h4>{inside}</section>')
    legend = "A box is a segment: the code of A, that of B (one where they are equal), and what it adds to the cosine."
    heading = "<h3>What else has the codes that both have</h3>" if blocks else ""
    return (
        f"{markup.note(summary)}<p>{legend}</p>"
        f'<ol class="cb-segments" aria-label="Segments">{segments}</ol>{heading}{"".join(blocks)}'
    )


def rebuilt(bench: Workbench, query: Query) -> str:
    """An item as the model sees it beside what the decoder makes of it."""
    if not decodable(bench):
        return markup.note(no_decoder(bench, query.modality))
    processor, modality = bench.loaded().processor, bench.config.modality(query.modality)
    rows = [{query.modality: query.value}]
    pair = bench.with_model(lambda model: reconstructions(model, processor, rows, modality))
    if pair is None:
        return markup.note(no_decoder(bench, query.modality))
    target, answer = pair[0][0], pair[1][0]
    views = tensor_views(
        query.modality, [target, answer], bench.part(query.modality), bench.is_features(query.modality)
    )
    error = ""
    if target.shape == answer.shape:
        error = f"mean squared error {float((target - answer).square().mean()):.3f}"
    cards = [
        markup.card(views[0], "What the model sees, at the decoder's size"),
        markup.card(views[1], "Rebuilt from the codes", value=error),
    ]
    return f'<div class="cb-pair cb-two">{"".join(cards)}</div>'


def mixed(bench: Workbench, first: Query, second: Query) -> str:
    """What has the shared part of one item and the specific part of another, as the second one's decoder shows it."""
    if not can_mix(bench, second.modality):
        return markup.note(no_decoder(bench, second.modality))
    parts = [(first, second)]
    if first.modality == second.modality:
        parts = [(first, first), (first, second), (second, first), (second, second)]
    shared = torch.cat([one.embedded.embeds for one, _ in parts])
    kept = [other.embedded.specific_embeds for _, other in parts]
    own = torch.cat([part for part in kept if part is not None]) if kept[0] is not None else None
    decoded = bench.with_model(lambda model: _decoded(model, shared, own, second.modality))
    views = tensor_views(
        second.modality, list(decoded), bench.part(second.modality), bench.is_features(second.modality)
    )
    letters = {id(first): "A", id(second): "B"}
    cards = [
        markup.card(view, f"shared of {letters[id(one)]}, specific of {letters[id(other)]}")
        for view, (one, other) in zip(views, parts, strict=True)
    ]
    title = f"Decoded as {pretty(second.modality)}"
    return f'<div class="cb-two">{markup.shelf(title, cards, color_of(second.modality))}</div>'


def _decoded(model: Any, shared: torch.Tensor, own: torch.Tensor | None, modality: str) -> torch.Tensor:
    with evaluating(model), torch.inference_mode():
        return model.decode(shared.to(model.device), None if own is None else own.to(model.device), modality=modality)


def can_mix(bench: Workbench, modality: str) -> bool:
    """Whether parts can be decoded to this modality."""
    return modality in decodable(bench) and bench.config.decoder_inputs == "codes"


def decodable(bench: Workbench) -> list[str]:
    """Modalities whose decoder the checkpoint has; known before it is loaded."""
    if bench.config.decoder_config is None:
        return []
    return [name for name in bench.config.modality_names if name != "text"]


def no_decoder(bench: Workbench, modality: str) -> str:
    """Why nothing can be shown, and of what it could be."""
    names = ", ".join(map(pretty, decodable(bench)))
    reason = "parts alone cannot be decoded (decoder_inputs is 'codes+tokens')" if names else "it has no decoders"
    reason = f"{pretty(modality)} has no decoder; those with one: {names}" if names and modality == "text" else reason
    return f"This checkpoint cannot show that: {reason}."


def dot_of(modality: str) -> str:
    """The colour of a modality on a page that may be dark, on which ink does not show."""
    return _INK_ON_DARK if modality == "text" else color_of(modality)


def legend_of(names: Sequence[str], colors: Sequence[str]) -> str:
    """Names with their colours."""
    entries = (
        f'<span><i class="cb-dot" style="background:{color}"></i>{markup.text(name)}</span>'
        for name, color in zip(names, colors, strict=True)
    )
    return f'<div class="cb-legend">{"".join(entries)}</div>'
