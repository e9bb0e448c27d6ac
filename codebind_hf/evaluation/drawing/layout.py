"""Where do embeddings lie on a flat map that shows whether modalities agree on what is alike?"""

from collections.abc import Sequence

import numpy as np


_LEAST_SPREAD = 1e-6
_STEPS = 500


def flat_layout(points: np.ndarray, modalities: Sequence[str], seed: int) -> np.ndarray:
    """t-SNE of embeddings from which the mean of each modality is taken, without which it would show little else.

    Args:
        points (array of shape `(items, dim)`): embeddings.
        modalities: of every item.
        seed: of the layout.

    Returns:
        Places `(items, 2)`; all of them the same where there is no spread.

    Raises:
        ImportError: scikit-learn is missing.
    """
    try:
        from sklearn.manifold import TSNE
    except ImportError as error:
        raise ImportError(
            "the map of the shared space needs scikit-learn; install it with `pip install codebind-hf[report]`."
        ) from error
    centred = points.copy()
    for name in dict.fromkeys(modalities):
        chosen = np.array([modality == name for modality in modalities])
        centred[chosen] -= points[chosen].mean(axis=0)
    # One item of each modality, or equal ones: of no spread, the layout would be NaN, on which it ends the process.
    if np.abs(centred).max() < _LEAST_SPREAD:
        return np.zeros((len(points), 2), dtype=np.float32)
    perplexity = min(30.0, (len(points) - 1) / 3)
    return TSNE(perplexity=perplexity, init="pca", random_state=seed, max_iter=_STEPS).fit_transform(centred)
