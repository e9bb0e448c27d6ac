"""`codebind demo`: the app in a browser, for a finished model."""

import socket
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from codebind_hf.commands import options as of
from codebind_hf.commands.values import needs


EXAMPLE = "codebind demo runs/demo"


def demo(
    checkpoint: Annotated[
        str, typer.Argument(metavar="MODEL", help="a run, the folder of a checkpoint, or a name on the Hub")
    ],
    gallery: Annotated[
        str | None,
        of.flag("gallery", "rows to search; without it the files of the run", metavar="FILE", also=("manifest",)),
    ] = None,
    host: Annotated[
        str, of.flag("host", "address to listen at; 0.0.0.0 is every one", metavar="ADDRESS")
    ] = "127.0.0.1",
    port: Annotated[int, of.count("port", "port to listen at", most=65535)] = 7860,
    share: Annotated[bool, of.flag("share", "also at a public address of Gradio's, for three days")] = False,
    no_browser: Annotated[bool, of.flag("no_browser", "open no browser")] = False,
    space: Annotated[
        Path | None,
        of.flag("space", "write the folder of a Hugging Face Space of MODEL instead of starting", metavar="FOLDER"),
    ] = None,
) -> None:
    """Open the demo app of a finished model in a browser.

    It shows search across senses, reconstructions, swaps and a map of the shared space, and needs the extra
    `demo`: pip install "codebind-hf[demo]".
    """
    needs("gradio", "demo", "the demo")
    from codebind_hf.evaluation.provenance import checkpoint_of

    if not space:
        checkpoint_of(checkpoint, "MODEL")
    if space:
        written = import_module("codebind_hf.serving.space").write_space(space, checkpoint, gallery)
        typer.echo(f"Wrote {written}. Put it online: hf upload --repo-type space USER/NAME {written}")
        return
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((host, port))
        except OSError as error:
            reason = f"{port} at {host} cannot be had ({error.strerror})"
            raise OSError(f"--port: {reason}. Fix: another --port.") from error
    app = import_module("codebind_hf.serving.demo_app")
    app.launch(checkpoint, gallery, host, port, share, open_browser=not no_browser)
