"""How does one get a metric of this package as `evaluate.Metric`?

`evaluate` takes seconds to import, so this file imports it only when a metric is asked for.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    import evaluate


_FOLDER = Path(__file__).parent / "metric_modules"


def metric_path(name: str) -> str:
    """The folder that `evaluate.load` and `evaluate.combine` take for one of the package's metrics.

    Args:
        name: `codebook_health`, `mean_average_precision`, `retrieval_recall` or `zero_shot_accuracy`.

    Raises:
        ValueError: there is no such metric.
    """
    names = sorted(script.stem for script in _FOLDER.glob("*/*.py") if script.stem == script.parent.name)
    if name not in names:
        raise ValueError(f"name: got {name!r}; the metrics are {', '.join(names)}.")
    return str(_FOLDER / name)


def load_metric(name: str, config_name: str | None = None, **kwargs: Any) -> "evaluate.Metric":
    """A metric that collects its inputs with `add` and `add_batch` and gives the value with `compute`.

    It is `evaluate.load` with the folder of the metric: nothing is downloaded.

    Args:
        name: as in `metric_path`.
        config_name (*optional*): which form of inputs, for metrics that have several; the metric's card says which.
        kwargs: what `evaluate.load` takes, for example `keep_in_memory`, `cache_dir`, `experiment_id`, `num_process`
            and `process_id`.

    Raises:
        ValueError: there is no such metric, or it has no such form of inputs.
    """
    path = metric_path(name)
    import evaluate

    return evaluate.load(path, config_name, **kwargs)
