"""How does a picture get to the size of a tower's input? Resizing in Pillow or in torch, and centre cropping."""

import numpy as np
import torch
from PIL import Image


PIL_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
TENSOR_FILTERS = {"nearest": "nearest-exact", "bilinear": "bilinear", "bicubic": "bicubic"}


def resized_shape(shape: tuple[int, int], size: list[int], mode: str, edge: int | None) -> tuple[int, int]:
    """Height and width after resizing a picture of `shape`, before it is cropped to `size`.

    Args:
        mode: "stretch" (exactly `size`) or "shortest_edge" (keep the aspect ratio and cover `size`).
        edge: length of the shorter side for "shortest_edge"; `None` is the least that covers `size`.
    """
    if mode == "stretch":
        return size[0], size[1]
    height, width = shape
    if edge is None and size[0] != size[1]:
        scale = max(size[0] / height, size[1] / width)
        return max(size[0], int(height * scale)), max(size[1], int(width * scale))
    short = size[0] if edge is None else edge
    # torchvision's geometry: the longer side is cut to a whole number, not rounded.
    return (short, int(short * width / height)) if height <= width else (int(short * height / width), short)


def resize_picture(picture: Image.Image, shape: tuple[int, int], interpolation: str) -> Image.Image:
    """An 8-bit picture at height and width `shape`; Pillow always smooths when it shrinks."""
    if picture.size == (shape[1], shape[0]):
        return picture
    return picture.resize((shape[1], shape[0]), PIL_FILTERS[interpolation])


def resize_grid(grid: np.ndarray, shape: tuple[int, int], interpolation: str, antialias: bool) -> np.ndarray:
    """A float `(channels, height, width)` grid at `shape`; bicubic may overshoot the range of its input."""
    if grid.shape[1:] == tuple(shape):
        return grid
    mode = TENSOR_FILTERS[interpolation]
    smooth = antialias and mode != "nearest-exact"
    corners = None if mode == "nearest-exact" else False
    tensor = torch.from_numpy(np.ascontiguousarray(grid, dtype=np.float32))[None]
    return torch.nn.functional.interpolate(
        tensor, size=tuple(shape), mode=mode, align_corners=corners, antialias=smooth
    )[0].numpy()


def centre_box(shape: tuple[int, int], size: list[int]) -> tuple[int, int]:
    """Top and left of a centred window of `size`, with the rounding of torchvision's centre crop."""
    return round((shape[0] - size[0]) / 2), round((shape[1] - size[1]) / 2)


def crop_grid(grid: np.ndarray, size: list[int]) -> np.ndarray:
    """The centre of a `(channels, height, width)` grid."""
    top, left = centre_box((grid.shape[1], grid.shape[2]), size)
    return grid[:, top : top + size[0], left : left + size[1]]
