"""How does the shared space lie? A flat map of the gallery whose points say what they are when one points at them."""

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codebind_hf.evaluation.drawing.layout import flat_layout
from codebind_hf.evaluation.embedding import EmbeddedSet
from codebind_hf.evaluation.figure_style import pretty
from codebind_hf.serving import markup
from codebind_hf.serving.answers import NO_GALLERY, dot_of, legend_of
from codebind_hf.serving.workbench import Workbench


COLORED_BY = ("modality", "class")
_MOST_ITEMS = 3000
_LEAST_ITEMS = 4
_HUES = 12


def flat_places(vectors: NDArray[np.floating], modalities: list[str]) -> NDArray[np.float64]:
    """Places in the unit square `(items, 2)`: t-SNE of embeddings from which each modality's mean is taken.

    Modalities differ in where they lie as a whole; without their means the map would show little else.

    Args:
        vectors (array of shape `(items, dim)`): embeddings.
        modalities: of every item.
    """
    places = flat_layout(vectors.astype(np.float32), modalities, seed=0)
    low, high = places.min(0), places.max(0)
    if (high == low).all():
        return np.full((len(vectors), 2), 0.5)
    return np.asarray((places - low) / np.maximum(high - low, 1e-12), np.float64)


class SharedMap:
    """The map of one workbench; places are worked out once, when they are first asked for."""

    def __init__(self, bench: Workbench) -> None:
        self.bench = bench
        self._items: list[dict[str, Any]] | None = None

    def items(self) -> list[dict[str, Any]]:
        """Place, modality, class and name of every point."""
        if self._items is None:
            embedded = self.bench.loaded().embedded
            self._items = [] if embedded is None else self._placed(embedded)
        return self._items

    def _placed(self, embedded: EmbeddedSet) -> list[dict[str, Any]]:
        share = max(1, sum(map(len, embedded.modalities.values())) // _MOST_ITEMS)
        vectors, found = [], []
        for name, part in embedded.modalities.items():
            for item in range(0, len(part), share):
                row = int(part.positions[item])
                vectors.append(part.continuous_embeds[item].numpy())
                label = self.bench.rows[row].get("label")
                named = self.bench.title_of_row(row)
                if name == "text":
                    words = self.bench.rows[row]["text"]
                    named = words if isinstance(words, str) else words[0]
                found.append({"modality": name, "label": label if isinstance(label, str) else "", "name": named})
        if len(found) < _LEAST_ITEMS:
            return []
        places = flat_places(np.stack(vectors), [each["modality"] for each in found])
        return [{**each, "x": float(x), "y": float(y)} for each, (x, y) in zip(found, places, strict=True)]

    def view(self, colored_by: str = "modality") -> str:
        """HTML of the map, in colours of modalities or classes."""
        items = self.items()
        if not items:
            return markup.note(NO_GALLERY)
        key = "modality" if colored_by == "modality" else "label"
        names = sorted({each[key] for each in items})
        named = {
            name: dot_of(name) if key == "modality" else _hue(place, len(names)) for place, name in enumerate(names)
        }
        points = [
            {
                "x": round(each["x"], 4),
                "y": round(each["y"], 4),
                "color": named[each[key]],
                "modality": pretty(each["modality"]),
                "name": each["name"],
            }
            for each in items
        ]
        spoken = f"Map of {len(points)} items; arrow keys go from one to the next"
        titles = [pretty(name) if key == "modality" else name or "no class" for name in names]
        held = f'data-items="{markup.text(json.dumps(points))}"'
        drawn = f'<cb-map tabindex="0" role="application" aria-label="{spoken}" {held}></cb-map>'
        return legend_of(titles, list(named.values())) + drawn


def _hue(place: int, count: int) -> str:
    """Colours far apart; of many classes hues repeat with another lightness."""
    ring = min(count, _HUES)
    return f"hsl({360 * (place % ring) / ring:.0f} 65% {(50, 36, 68)[place // ring % 3]}%)"
