"""The flags that several commands have, each declared once: the same name, help and default everywhere.

`--help` imports no torch: what may be chosen comes from modules that hold names alone.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from codebind_hf.benchmarks.choices import BACKBONES, PROTOCOLS
from codebind_hf.commands.values import number, one_of, renames, some_or_all, whole_number
from codebind_hf.data.choices import LOADINGS, ON_ERROR
from codebind_hf.inference.choices import BY, READ_OUTS
from codebind_hf.training.choices import SHARED_CODES


DEPTH_UNITS = ("m", "cm", "mm")
# Where tensors live while a finished model is evaluated: it reads most rows once.
KEPT = ("memory", "disk", "lazy")


def flag(name: str, help: str, **options: Any) -> Any:
    """A flag under this one name, with underscores; `also` it may be called something else.

    Args:
        options: of `typer.Option`.
    """
    return typer.Option(f"--{name}", *(f"--{other}" for other in options.pop("also", ())), help=help, **options)


def choice(name: str, help: str, allowed: tuple[str, ...]) -> Any:
    """A flag that is one of a few words."""
    return flag(name, help, parser=one_of(allowed), metavar="|".join(allowed))


def count(name: str, help: str, least: int = 1, most: int | None = None) -> Any:
    """A flag that is a whole number from `least`, up to `most` if there is one."""
    return flag(name, help, parser=whole_number(least, most), metavar="N")


# A finished model.
Checkpoint = Annotated[
    str, flag("checkpoint", "a run, the folder of a checkpoint, or a name on the Hub", metavar="MODEL")
]
Packs = Annotated[
    list[str] | None,
    flag("packs", "what was bound to it, beside it: runs of `bind`, packs, or names on the Hub", metavar="PACK"),
]

# Rows, and what their columns are.
Manifest = Annotated[str | None, flag("manifest", "rows of your own: JSONL, CSV or Parquet", metavar="FILE")]
Gallery = Annotated[
    str | None,
    flag("manifest", "rows of your own: JSONL, CSV or Parquet", metavar="FILE", also=("gallery",)),
]
Dataset = Annotated[
    str | None,
    flag("dataset", "instead: FOLDER[:SPLIT] that `datasets` reads, or a name on the Hub", metavar="NAME"),
]
Columns = Annotated[
    dict[str, str] | None,
    flag(
        "columns", "columns to rename, such as img=image,caption=text", parser=renames, metavar="COLUMN=MODALITY,..."
    ),
]
TextFromLabel = Annotated[
    list[str] | None, flag("text_from_label", "text with {} for the label; repeatable", metavar="TEXT")
]
Encoding = Annotated[str | None, flag("encoding", "of a CSV manifest that is not UTF-8", metavar="NAME")]
DepthUnit = Annotated[
    str | None, choice("depth_unit", "unit of depth files; floats are metres without it", DEPTH_UNITS)
]
OnError = Annotated[str, choice("on_error", "what an unreadable file does", ON_ERROR)]
Workers = Annotated[
    int | None, count("preprocessing_num_workers", "processes that make tensors which are kept", least=0)
]
Template = Annotated[
    list[str] | None,
    flag("template", "zero-shot prompt with {} for the class, else 'a photo of a {}'; repeatable", metavar="TEXT"),
]

# Rows to train on, and to evaluate on after it.
TestManifest = Annotated[
    str | None, flag("test_manifest", "labelled rows to evaluate on after training", metavar="FILE")
]
TestDataset = Annotated[
    str | None, flag("test_dataset", "rows to evaluate on after training, likewise", metavar="NAME")
]
BenchmarkRows = Annotated[
    list[str] | None, flag("benchmark", "instead: a data set of the paper's; repeatable", metavar="NAME")
]
RowsRoot = Annotated[
    str | None, flag("root", "folder of the benchmark, or of a folder for each of several", metavar="FOLDER")
]
RowsProtocol = Annotated[str | None, choice("protocol", "of the benchmark; paper without it", PROTOCOLS)]
Loading = Annotated[str | None, choice("loading", "where tensors live; auto: in memory, if they fit", LOADINGS)]
CacheBridge = Annotated[
    Any,
    flag(
        "cache_bridge",
        "run towers that do not learn, all or such as text,image, once a row, and keep what they give",
        parser=some_or_all,
        metavar="[MODALITIES]",
    ),
]
Backbones = Annotated[
    dict[str, str] | None,
    flag("backbones", "finished networks as towers: text=FOLDER,image=NAME", parser=renames, metavar="KIND=PLACE,..."),
]
Streaming = Annotated[bool, flag("streaming", "read --dataset from front to back")]

# A run.
Config = Annotated[Path | None, flag("config", "YAML with `data`, `recipe` and `templates`", metavar="FILE")]
OutputDir = Annotated[Path, flag("output_dir", "folder of the run", metavar="FOLDER")]
Base = Annotated[str | None, flag("base", "run or checkpoint to start from, instead of the recipe's", metavar="MODEL")]
Resume = Annotated[bool, flag("resume", "go on with the run in --output_dir; start it, if the settings are given")]
Overwrite = Annotated[bool, flag("overwrite", "replace the run in --output_dir")]
MaxSteps = Annotated[int | None, count("max_steps", "steps of every stage, instead of the recipe's")]
TrainingBatchSize = Annotated[int | None, count("batch_size", "rows in a batch, instead of the recipe's")]
TrainingSeed = Annotated[int | None, count("seed", "instead of the recipe's", least=0)]

# Binding.
Bridge = Annotated[str | None, flag("bridge", "the finished model: a run or a checkpoint", metavar="MODEL")]
Encoder = Annotated[
    Path | None, flag("encoder", "YAML or JSON: the encoder of a modality that the model lacks", metavar="FILE")
]
SharedCodes = Annotated[str | None, choice("shared_codes", "while binding; frozen without it", SHARED_CODES)]
Tolerance = Annotated[
    float | None,
    flag(
        "tolerance",
        "how far other embeddings may move; 0, without it: not a bit",
        parser=number,
        metavar="DISTANCE",
    ),
]
CheckManifest = Annotated[
    str | None,
    flag("check_manifest", "rows of other modalities to measure, instead of the training rows", metavar="FILE"),
]

# What is asked of a finished model.
BatchSize = Annotated[int, count("batch_size", "rows at a time")]
Seed = Annotated[int, count("seed", "of everything random", least=0)]
AsJson = Annotated[bool, flag("json", "the answer as JSON on the standard output, words on the error output")]
Modality = Annotated[
    str | None, flag("modality", "modality of the query, when its suffix does not tell", metavar="NAME")
]
ReadOut = Annotated[str, choice("read_out", "before or after the codes", READ_OUTS)]
By = Annotated[
    str,
    choice(
        "by", "what: the kind of thing; which: this very unit, among items of the query's encoder; both: as much", BY
    ),
]
KeptRows = Annotated[
    str, choice("loading", "where tensors live; lazy: nowhere, files are read when they are needed", KEPT)
]
Backbone = Annotated[str, choice("backbone", "whose prompts and numbers: ImageBind's or ViT-Lens's", BACKBONES)]
Protocol = Annotated[str, choice("protocol", "the authors' choices, or sound ones", PROTOCOLS)]
