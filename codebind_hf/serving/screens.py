"""Which screens does the app have? One function each, which lays it out and connects it to its answers."""

from collections.abc import Callable
from typing import Any

from codebind_hf.serving import answers, markup
from codebind_hf.serving.gradio_library import gr
from codebind_hf.serving.picker import PRIVATE, Picker, shown
from codebind_hf.serving.shared_map import COLORED_BY, SharedMap
from codebind_hf.serving.workbench import Query, Workbench


_MOST_NEIGHBOURS = 12
_NEIGHBOURS = 4


def search_screen(bench: Workbench, page: gr.Blocks) -> None:
    """An item, and the nearest items of every other modality, and words."""
    with gr.Row():
        picker = Picker(bench, "search", "Query", list(bench.config.modality_names), 0, "audio")
        with gr.Column(scale=2, min_width=300):
            words = gr.Textbox(
                answers.common_words(bench),
                label="Compare with words, separated by commas",
                max_lines=5,
                submit_btn="Compare",
                visible="text" in bench.config.modality_names,
                elem_id="cb-words",
            )
            bars = gr.HTML(elem_id="cb-bars")
            count = gr.Slider(1, _MOST_NEIGHBOURS, _NEIGHBOURS, step=1, label="Items of each modality")
    found = gr.HTML(elem_id="cb-found")

    def compare(query: Query | None, typed: str) -> str:
        return "" if query is None else shown(lambda: answers.word_bars(bench, query, typed))

    def search(query: Query | None, top_k: int) -> str:
        return "" if query is None else shown(lambda: answers.nearest_items(bench, query, int(top_k)))

    for event in _begun(page, picker):
        event.then(compare, [picker.query, words], bars, **PRIVATE)
        event.then(search, [picker.query, count], found, **PRIVATE)
    words.submit(compare, [picker.query, words], bars, **PRIVATE)
    count.release(search, [picker.query, count], found, **PRIVATE)


def codes_screen(bench: Workbench, page: gr.Blocks) -> None:
    """Two items, and which codes both have."""
    names = list(bench.config.modality_names)
    _of_two(bench, page, (names, names), ("image", "video"), "codes", answers.shared_codes)


def swap_screen(bench: Workbench, page: gr.Blocks) -> None:
    """The shared part of one item with the specific part of another, decoded."""
    names = list(bench.config.modality_names)
    _of_two(bench, page, (names, answers.decodable(bench) or names), ("image", "image"), "swap", answers.mixed)


def _of_two(
    bench: Workbench,
    page: gr.Blocks,
    modalities: tuple[list[str], list[str]],
    begin: tuple[str, str],
    screen: str,
    answer: Callable[[Workbench, Query, Query], str],
) -> None:
    with gr.Row():
        first = Picker(bench, screen, "A", modalities[0], 0, begin[0])
        second = Picker(bench, screen, "B", modalities[1], 1 if begin[0] == begin[1] else 0, begin[1])
    found = gr.HTML(elem_id=f"cb-{screen}")

    def both(one: Query | None, other: Query | None) -> str:
        if one is None or other is None:
            return markup.note("Pick two items.")
        return shown(lambda: answer(bench, one, other))

    for event in [*_begun(page, first), *_begun(page, second)]:
        event.then(both, [first.query, second.query], found, **PRIVATE)


def reconstruction_screen(bench: Workbench, page: gr.Blocks) -> None:
    """An item beside what the decoder makes of its codes."""
    names = answers.decodable(bench)
    if not names:
        gr.HTML(markup.note(answers.no_decoder(bench, bench.config.modality_names[0])))
        return
    with gr.Row():
        picker = Picker(bench, "rebuilt", "Item", names, 0, "image")
        with gr.Column(scale=2, min_width=300):
            found = gr.HTML(elem_id="cb-rebuilt")

    def rebuild(query: Query | None) -> str:
        return "" if query is None else shown(lambda: answers.rebuilt(bench, query))

    for event in _begun(page, picker):
        event.then(rebuild, picker.query, found, **PRIVATE)


def map_screen(bench: Workbench, tab: gr.Tab) -> None:
    """All items of the gallery on a map."""
    shared_map = SharedMap(bench)
    colored_by = gr.Radio(list(COLORED_BY), value=COLORED_BY[0], label="Colour by")
    found = gr.HTML(elem_id="cb-map")

    def draw(by: str) -> str:
        return shown(lambda: shared_map.view(by))

    for event in (tab.select, colored_by.input):
        event(draw, colored_by, found, **PRIVATE)


def _begun(page: gr.Blocks, picker: Picker) -> list[Any]:
    """What happens when an item was picked, or the page was opened."""
    opened = page.load(picker.begin, None, [picker.query, picker.upload, picker.preview], **PRIVATE)
    return [opened, *picker.events]
