"""The picture on top of the README: one object as nine senses have it, and the code ids that each of them gets.

    python examples/overview.py --run runs/demo --object 00007 --output docs/images/overview.png

Needs a run of `make demo`, which keeps the files of some test objects. A shared code that several senses of the object
pick in the same place has a colour there; codes that one sense alone picks are grey.
"""

import argparse
import colorsys
import textwrap
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import trimesh
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from codebind_hf import CodeBindModel, CodeBindProcessor
from codebind_hf.data import Manifest
from codebind_hf.evaluation import embed_dataset
from codebind_hf.evaluation.figure_style import INK, bare, color_of, heading, new_figure, pretty


SENSES = ("text", "image", "video", "audio", "depth", "thermal", "tactile", "point_cloud", "eeg")
_MAPS = {"depth": "viridis", "thermal": "inferno"}
_GREY = "#dddddd"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="of `make demo`")
    parser.add_argument("--object", required=True, help="part of the names of its files")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    checkpoint = arguments.run / "checkpoint"
    model, processor = CodeBindModel.from_pretrained(checkpoint), CodeBindProcessor.from_pretrained(checkpoint)
    rows = Manifest(arguments.run / "files/manifest.jsonl")
    row = next((row for row in rows if arguments.object in str(row.get("image"))), None)
    if row is None:
        parser.error(
            f"--object: got {arguments.object}, which no picture of {arguments.run / 'files'} is named after."
        )
    found = embed_dataset(model, processor, [row], progress=False).modalities
    shared = {name: found[name].shared_codes[0].tolist() for name in SENSES}
    specific = {name: ids[0].tolist() for name in SENSES if (ids := found[name].specific_codes) is not None}
    drawn(row, shared, specific).savefig(arguments.output, dpi=150)
    print(f"Wrote {arguments.output}.")


def drawn(row: Mapping[str, Any], shared: Mapping[str, list[int]], specific: Mapping[str, list[int]]) -> Figure:
    """Tiles of the senses on the left; on the right a line of code ids for each."""
    figure = new_figure(11, 4.4)
    left, right = figure.add_gridspec(1, 2, width_ratios=[1, 2], wspace=0.1)
    tiles = left.subgridspec(3, 3)
    for place, name in enumerate(SENSES):
        axes = figure.add_subplot(tiles[place])
        bare(axes)
        show(axes, name, row[name])
        axes.set_box_aspect(1)
        axes.set_title(pretty(name), fontsize=9, color=color_of(name), pad=2)
    one, other = right.subgridspec(1, 2, width_ratios=[1, 1], wspace=0.05)
    lines(figure.add_subplot(one), shared, "shared: one codebook for all", names=True)
    lines(figure.add_subplot(other), specific, "specific: a codebook for each", names=False)
    return figure


def show(axes: Axes, name: str, value: Any) -> None:
    """One item as its modality is looked at."""
    if name == "text":
        axes.text(0.5, 0.5, textwrap.fill(value, 12), ha="center", va="center", fontsize=10, color=INK)
    elif name == "audio":
        axes.plot(soundfile.read(value)[0], color=color_of(name), linewidth=0.4)
    elif name == "eeg":
        traces = np.load(value)[:5]
        for place, trace in enumerate(traces):
            axes.plot(trace / np.abs(traces).max() - place, color=color_of(name), linewidth=0.7)
    elif name == "point_cloud":
        points = np.asarray(trimesh.load(value).vertices)
        # As cameras see it: x to the right, y down, z away; a few points are strays.
        x, y, z = points[(np.abs(points - np.median(points, 0)) < 4 * points.std(0)).all(1)].T
        axes.scatter(x, -y, c=-z, cmap="Greens", s=3, vmin=-z.max() - 0.5 * np.ptp(z))
        axes.set_aspect("equal", adjustable="datalim")
    else:
        file = sorted(Path(value).iterdir())[0] if Path(value).is_dir() else Path(value)
        picture = np.load(file) if file.suffix == ".npy" else np.asarray(Image.open(file))
        axes.imshow(picture[0] if name == "video" and picture.ndim == 4 else picture, cmap=_MAPS.get(name, "gray"))


def lines(axes: Axes, codes: Mapping[str, list[int]], title: str, names: bool) -> None:
    """A line a sense, a cell a code."""
    for place, name in enumerate(SENSES):
        for segment, code in enumerate(codes.get(name, ())):
            if not names:
                colour = shade(color_of(name), code)
            elif Counter(ids[segment] for ids in codes.values())[code] > 1:
                colour = colorsys.hls_to_rgb(code * 0.618034 % 1, 0.55, 0.65)
            else:
                colour = to_rgb(_GREY)
            axes.add_patch(Rectangle((segment, -place), 0.9, 0.8, facecolor=colour, linewidth=0))
        if names:
            axes.text(-0.4, 0.4 - place, pretty(name), ha="right", va="center", fontsize=9, color=color_of(name))
    axes.set_xlim(-4.5 if names else 0, 16)
    axes.set_ylim(-len(SENSES) + 1, 1)
    bare(axes)
    heading(axes, title)


def shade(colour: str, code: int) -> tuple[float, ...]:
    """Of a modality's colour, one of eight, by a code of its own."""
    strength = 0.2 + 0.1 * (code * 5 % 8)
    return tuple(1 - strength * (1 - part) for part in to_rgb(colour))


if __name__ == "__main__":
    main()
