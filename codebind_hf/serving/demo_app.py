"""How is a checkpoint shown to people? A page in the browser: search, codes, reconstructions, swaps, a map.

    codebind demo runs/demo

The page needs no network, and asks for none: fonts are those of the system, nothing is reported to anybody, and a
header forbids browsers to fetch from elsewhere.
"""

import os
from functools import cache
from importlib.resources import files
from tempfile import TemporaryDirectory
from typing import Any

from codebind_hf.serving import markup, screens
from codebind_hf.serving.gradio_library import gr
from codebind_hf.serving.workbench import MOST_ROWS, Workbench


_FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
_MONO = ["ui-monospace", "Consolas", "monospace"]
LARGEST_FILE = "64mb"
# How often leftovers of uploads are looked for, and how old they are then, in seconds.
_SWEEP = (60, 600)
_SESSIONS = 200
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self' data: blob:; worker-src 'self' blob:"
)


class _OnlyFromHere:
    """ASGI middleware: tells browsers to load nothing from other hosts."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                named = [*message.get("headers", []), (b"content-security-policy", _POLICY.encode("ascii"))]
                message = {**message, "headers": named}
            await send(message)

        await self.app(scope, receive, send_with_policy)


def build(checkpoint: str, gallery: str | None = None) -> gr.Blocks:
    """The page, not yet served. Model and gallery are loaded by another thread, and answers wait for it.

    Args:
        checkpoint: a run of training, the folder of a checkpoint, or a model's name on the Hub.
        gallery: a manifest of files to search in; by default the `files/manifest.jsonl` of a run. Its embeddings are
            kept beside it.

    Raises:
        OSError: no such checkpoint or manifest.
        ValueError: a manifest of nothing that the checkpoint reads.
    """
    os.environ.setdefault("GRADIO_TEMP_DIR", _uploads().name)
    bench = Workbench(checkpoint, gallery)
    with gr.Blocks(title=f"CodeBind: {bench.name}", analytics_enabled=False, delete_cache=_SWEEP) as page:
        gr.HTML(_title(bench), elem_classes="cb-title")
        with gr.Tabs(elem_classes="cb-screens"):
            with gr.Tab("Search"):
                screens.search_screen(bench, page)
            with gr.Tab("Codes"):
                screens.codes_screen(bench, page)
            with gr.Tab("Reconstruction"):
                screens.reconstruction_screen(bench, page)
            with gr.Tab("Swap"):
                screens.swap_screen(bench, page)
            with gr.Tab("Map") as tab:
                screens.map_screen(bench, tab)
    page.queue(default_concurrency_limit=2, api_open=False)
    return page


def serve(
    page: gr.Blocks,
    host: str = "127.0.0.1",
    port: int = 7860,
    share: bool = False,
    open_browser: bool = False,
    **options: Any,
) -> Any:
    """Serve a page of `build` until the process is stopped.

    Args:
        host, port: where; "0.0.0.0" is every address of this machine.
        share: have Gradio's own servers give it a public address for a while.
        open_browser: show it.
        options: further arguments of Gradio's `launch`, such as `prevent_thread_lock=True`.
    """
    return page.launch(
        server_name=host,
        server_port=port,
        share=share,
        inbrowser=open_browser,
        # As Starlette takes apart its own `Middleware`: class, arguments, keywords.
        app_kwargs={"middleware": [(_OnlyFromHere, (), {})]},
        css=_asset("page.css"),
        head=f"<script>{_asset('page.js')}</script>",
        theme=gr.themes.Default(font=_FONTS, font_mono=_MONO),
        footer_links=[],
        max_file_size=LARGEST_FILE,
        state_session_capacity=_SESSIONS,
        show_error=True,
        ssr_mode=False,
        **options,
    )


def launch(
    checkpoint: str,
    gallery: str | None = None,
    host: str = "127.0.0.1",
    port: int = 7860,
    share: bool = False,
    open_browser: bool = True,
) -> None:
    """Show a checkpoint in the browser until the process is stopped: `build`, then `serve`."""
    serve(build(checkpoint, gallery), host, port, share, open_browser)


@cache
def _uploads() -> "TemporaryDirectory[str]":
    """Where Gradio puts what is dropped, until it is read; gone with the process."""
    return TemporaryDirectory(prefix="codebind-demo-")


def _title(bench: Workbench) -> str:
    modalities = f"{len(bench.config.modality_names)} modalities in one space"
    rows = f"{len(bench.rows)} objects" + (f" (the first of {bench.total})" if bench.total > MOST_ROWS else "")
    gallery = f"a gallery of {rows}" if bench.rows else "no gallery"
    return f"<h1>CodeBind: {markup.text(bench.name)}</h1><p>{modalities}; {gallery}</p>"


def _asset(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")
