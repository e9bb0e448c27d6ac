"""How is an item of any modality shown where there is no drawing library? As a small picture of its numbers."""

import numpy as np


_LEAST_SIDE = 64
# A cloud is seen at a slant.
_SLANT = np.array([[0.82, 0.0, -0.57], [-0.24, 0.91, -0.34]])


def side_by_side(originals: np.ndarray, answers: np.ndarray, is_cloud: bool = False) -> np.ndarray:
    """Originals above their reconstructions, `(height, width, 3)` bytes.

    Black and white are nearly the least and the most of each original, for its reconstruction too. Pictures of one
    or three channels are shown as such, of films the middle frame, of anything else the first channel; signals as
    `channels x time`.

    Args:
        originals, answers (arrays of shape `(items, ...)`): as the decoder has them.
        is_cloud: `(items, points, 3)`, drawn as density.
    """
    columns = []
    for original, answer in zip(originals, answers, strict=True):
        reach = max(float(np.abs(original[:, :3]).max()), 1e-6) if is_cloud else 1.0
        pair = [_density(each, reach) if is_cloud else _plane(each) for each in (original, answer)]
        low, high = np.quantile(pair[0], [0.005, 1.0 if is_cloud else 0.995])
        shown = [np.clip((each - low) / max(high - low, 1e-6), 0.0, 1.0) for each in pair]
        columns.append(np.concatenate([_framed(each) for each in shown]))
    return np.round(255 * np.concatenate(columns, axis=1)).astype(np.uint8)


def _plane(values: np.ndarray) -> np.ndarray:
    """`(channels, height, width)` with one or three channels."""
    if values.ndim == 1:
        values = values[None]
    if values.ndim == 2:
        return values[None]
    if values.ndim == 4:
        values = values[:, values.shape[1] // 2]
    return values if len(values) == 3 else values[:1]


def _density(points: np.ndarray, reach: float) -> np.ndarray:
    """How many points each of 64 x 64 places has."""
    across, up = _SLANT @ points[:, :3].T
    edges = np.linspace(-1.1 * reach, 1.1 * reach, _LEAST_SIDE + 1)
    counts, _, _ = np.histogram2d(-up, across, bins=(edges, edges))
    return np.sqrt(counts)[None]


def _framed(plane: np.ndarray) -> np.ndarray:
    """`(height, width, 3)`, no side too short to be seen, with a white edge."""
    channels, height, width = plane.shape
    large = plane.repeat(-(-_LEAST_SIDE // height), axis=1).repeat(-(-_LEAST_SIDE // width), axis=2)
    colours = np.broadcast_to(large, (3, *large.shape[1:])).transpose(1, 2, 0)
    return np.pad(colours, ((1, 1), (1, 1), (0, 0)), constant_values=1.0)
