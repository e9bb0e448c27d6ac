"""How does somebody say which item they mean? An object of the gallery, a file of their own, or words."""

import logging
from collections.abc import Callable
from typing import Any

from codebind_hf.evaluation.figure_style import pretty
from codebind_hf.serving import markup
from codebind_hf.serving.gradio_library import gr
from codebind_hf.serving.uploads import Upload, modalities_of_upload, taken
from codebind_hf.serving.workbench import Query, Workbench


logger = logging.getLogger(__name__)

_TOLD_BY_FILE = ""
# Forgotten items of closed pages, in seconds.
_KEPT = 3600
PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "minimal"}


def shown(answer: Callable[[], str]) -> str:
    """What `answer` gives; what is wrong with an item as a message in its place, with what helps."""
    try:
        return answer()
    except (ValueError, OSError, ImportError) as error:
        logger.info("shown in the page: %s", error)
        return markup.note(str(error), "error")


class Picker:
    """Components that give one item, and functions behind them. Made inside a `gr.Blocks`.

    Args:
        bench: what the page works with.
        screen, name: of the screen, and of the item for the eye and for screen readers.
        modalities: that may be picked.
        row: of the gallery, to begin with.
        modality: of that row, to begin with.
    """

    def __init__(
        self, bench: Workbench, screen: str, name: str, modalities: list[str], row: int = 0, modality: str = ""
    ) -> None:
        self.bench, self.name, self.modalities = bench, name, modalities
        self.of_gallery = [each for each in bench.modalities if each in modalities]
        self.begins = (row, modality if modality in self.of_gallery else (self.of_gallery or [""])[0])
        self.query = gr.State(None, time_to_live=_KEPT)
        self.upload = gr.State(None, time_to_live=_KEPT)
        with gr.Column(min_width=280):
            with gr.Tabs():
                connections = [self._examples()] if self.of_gallery else []
                connections.append(self._files())
                connections += [self._words()] if "text" in modalities else []
            self.preview = gr.HTML(elem_classes="cb-preview", elem_id=f"cb-{screen}-{name.lower()}")
        # What happens whenever another item was picked.
        self.events = [event for connect in connections for event in connect()]

    @property
    def _outputs(self) -> list[Any]:
        return [self.query, self.upload, self.preview]

    def _examples(self) -> Callable[[], list[Any]]:
        choices = [(self.bench.title_of_row(row), row) for row in range(len(self.bench.rows))]
        begin, modality = min(self.begins[0], len(choices) - 1), self.begins[1]
        with gr.Tab("An example"):
            row = gr.Dropdown(choices, value=begin, label=f"{self.name}: object", filterable=True)
            kind = gr.Radio([(pretty(each), each) for each in self.of_gallery], value=modality, label="Modality")
        chosen = [row, kind]
        return lambda: [
            gr.on([row.input, kind.input], self.pick_example, chosen, self._outputs, **PRIVATE),
        ]

    def _files(self) -> Callable[[], list[Any]]:
        kinds = [("find out", _TOLD_BY_FILE), *((pretty(each), each) for each in self.modalities if each != "text")]
        with gr.Tab("Your file"):
            file = gr.File(label=f"{self.name}: file", type="filepath", height=120)
            kind = gr.Dropdown(kinds, value=_TOLD_BY_FILE, label="What it is")
        return lambda: [
            file.upload(self.take_file, [file, kind], [*self._outputs, file], **PRIVATE),
            kind.input(self.read_again, [self.upload, kind], self._outputs, **PRIVATE),
        ]

    def _words(self) -> Callable[[], list[Any]]:
        with gr.Tab("Words"):
            words = gr.Textbox(label=f"{self.name}: words", placeholder="a steel ring", max_lines=1, submit_btn="Take")
        return lambda: [words.submit(self.pick_words, words, self._outputs, **PRIVATE)]

    def begin(self) -> tuple[Query | None, None, str]:
        """The item that is there when the page opens."""
        if not self.of_gallery:
            return None, None, markup.note("Drop a file to begin.")
        return self.pick_example(*self.begins)

    def pick_example(self, row: int | None, modality: str | None) -> tuple[Query | None, None, str]:
        """An item of the gallery."""
        if row is None or modality is None:
            return None, None, markup.note("Pick an object and a modality.")
        query, view = self._asked(lambda: self.bench.query_of_row(int(row), modality))
        return query, None, view

    def pick_words(self, words: str) -> tuple[Query | None, None, str]:
        """Words that were typed; never a file, whatever they look like."""
        if not words.strip():
            return None, None, markup.note("Type some words first.")
        query, view = self._asked(lambda: self.bench.query("text", words.strip(), label=f'"{words.strip()}"'))
        return query, None, view

    def take_file(self, path: str, modality: str) -> tuple[Query | None, Upload | None, str, None]:
        """A file that was dropped; what the page stored of it is removed."""
        upload = taken(path)
        query, view = self._read(upload, modality)
        return query, upload, view, None

    def read_again(self, upload: Upload | None, modality: str) -> tuple[Query | None, Upload | None, Any]:
        """The file that was dropped last, as something else."""
        if upload is None:
            return None, None, gr.skip()
        query, view = self._read(upload, modality)
        return query, upload, view

    def _read(self, upload: Upload, modality: str) -> tuple[Query | None, str]:
        hints: list[str] = []

        def query() -> Query:
            features = tuple(each for each in self.modalities if self.bench.is_features(each))
            possible = [modality] if modality else modalities_of_upload(upload, tuple(self.modalities), features)
            if len(possible) > 1:
                others = ", ".join(map(pretty, possible[1:]))
                hints.append(f'Read as {pretty(possible[0])}. If it is {others}, say so under "What it is".')
            return self.bench.query(possible[0], upload.source, label=upload.name)

        found, view = self._asked(query)
        return found, view + "".join(map(markup.note, hints))

    def _asked(self, ask: Callable[[], Query]) -> tuple[Query | None, str]:
        found: list[Query] = []

        def answer() -> str:
            found.append(ask())
            title = found[0].label or pretty(found[0].modality)
            return markup.card(found[0].view, title, value=pretty(found[0].modality))

        view = shown(answer)
        return (found[0] if found else None), view
