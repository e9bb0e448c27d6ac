"""What would a gel sensor feel? Its measured answer to slopes, of PyPI's `taxim` (MIT), on any relief.

The sensor is a GelSight Mini: a camera sees a gel of 19 x 14 mm deform, lit in three colours. The package holds, for
every slope and direction of the gel, the colour as a polynomial of the place in the picture, and a picture without
touch. The steps follow the package's `taxim_torch.py`, without shadows.

Axes in this file: H rows and W columns of the picture, C = 3 colours.
"""

import json
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter


# A quarter of the sensor's own resolution.
_SHRINK = 4
_PRESSED_MM = 1.0


class GelSight:
    """The sensor's tables; `feel` makes pictures."""

    def __init__(self, folder: Path) -> None:
        """`folder`: of the unpacked package.

        Raises:
            OSError: a table is missing.
        """
        self.folder = folder / "taxim" / "calib" / "gelsight_mini"
        self.settings = json.loads((self.folder / "params.json").read_text(encoding="utf-8"))
        sensor = self.settings["sensor"]
        self.shape = (sensor["h"] // _SHRINK, sensor["w"] // _SHRINK)
        self.pixel_mm = sensor["pixmm"] * _SHRINK
        self.bins = sensor["num_bins"]

    @cached_property
    def _table(self) -> np.ndarray:
        """Six coefficients by colour, slope and direction; the package's files name red and blue the other way."""
        found = np.load(self.folder / "polycalib.npz")
        return np.stack([found[f"grad_{name}"] for name in "bgr"])

    @cached_property
    def _untouched(self) -> np.ndarray:
        """The picture without touch, `(H, W, C)`; stored as blue, green, red."""
        blank = np.load(self.folder / "dataPack.npz")["f0"][..., ::-1]
        smooth = gaussian_filter(blank.astype(np.float64), (8, 8, 0))
        picture = Image.fromarray(smooth.round().astype(np.uint8)).resize(self.shape[::-1], Image.Resampling.BOX)
        return np.asarray(picture, dtype=np.float64)

    def feel(self, relief_mm: np.ndarray) -> np.ndarray:
        """The sensor's picture `(H, W, 3)` uint8 of a relief `(H, W)` in millimetres, pressed in one millimetre deep.

        Raises:
            ValueError: another shape.
        """
        if relief_mm.shape != self.shape:
            raise ValueError(f"relief_mm: got shape {relief_mm.shape}; allowed: {self.shape}.")
        into = relief_mm - relief_mm.max() + _PRESSED_MM
        touched = into > 0
        gel = np.where(touched, into, 0)
        # The gel between what touches it sags: wide blurs first, and what touches stays where it is.
        for sigma in self.settings["simulator"]["deform_pyramid_sigma_rel"][0]:
            gel = np.where(touched, np.maximum(into, 0), gaussian_filter(gel, sigma * self.shape[1]))
        gel = gaussian_filter(gel, self.settings["simulator"]["deform_final_sigma_rel"][0] * self.shape[1])
        down, right = np.gradient(-gel / self.pixel_mm)
        slope = np.arctan(np.hypot(down, right))
        direction = np.arctan2(down, right)
        steep = (slope / (np.pi / 2 / (self.bins - 1))).astype(int).clip(0, self.bins - 1)
        around = ((direction + np.pi) / (2 * np.pi / (self.bins - 1))).astype(int).clip(0, self.bins - 1)
        y, x = np.mgrid[: self.shape[0], : self.shape[1]] * float(_SHRINK)
        places = np.stack([x * x, y * y, x * y, x, y, np.ones_like(x)], axis=-1)
        light = np.einsum("hwk,chwk->hwc", places, self._table[:, steep, around])
        return (light + self._untouched).clip(0, 255).round().astype(np.uint8)
