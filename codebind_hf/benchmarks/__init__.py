"""The paper's benchmarks as data: layouts, splits, prompts, metrics, protocols, licences and published numbers."""

from typing import TYPE_CHECKING

from codebind_hf.lazy_names import lazy_names


if TYPE_CHECKING:
    from codebind_hf.benchmarks.entry import Benchmark as Benchmark
    from codebind_hf.benchmarks.entry import Metric as Metric
    from codebind_hf.benchmarks.layout import Expected as Expected
    from codebind_hf.benchmarks.layout import Found as Found
    from codebind_hf.benchmarks.registry import get as get
    from codebind_hf.benchmarks.registry import names as names
    from codebind_hf.benchmarks.rows import Rows as Rows

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "codebind_hf.benchmarks.entry": "Benchmark Metric",
        "codebind_hf.benchmarks.layout": "Expected Found",
        "codebind_hf.benchmarks.registry": "get names",
        "codebind_hf.benchmarks.rows": "Rows",
    },
)
