"""Write the model cards: numbers are counted from the architectures or read from `results/`, never typed.

    python model_cards/fill.py            # writes all cards and the index
    python model_cards/fill.py --check    # writes nothing; exit status 1 if one is not what it would write

Words are in `templates/`, in which `$name` stands for what `card_values` gives that name. `results/codebind-tiny.json`
is written by `take_figures.py`; `results/paper.json` holds what the paper prints.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Template
from typing import Any

import torch
import yaml
from huggingface_hub import EvalResult, ModelCardData

from codebind_hf import CodeBindConfig, CodeBindModel
from codebind_hf.conversion.cards import IMAGEBIND, VITLENS, Origin
from codebind_hf.conversion.processors import CODEBIND_INPUTS, VITLENS_INPUTS
from codebind_hf.data import NineSenses
from codebind_hf.evaluation.figure_style import pretty
from codebind_hf.evaluation.report import codebook_table, markdown_table, percent
from codebind_hf.inference import packed_size
from codebind_hf.processing.arguments import argument_of


CARDS = Path(__file__).parent
RECIPES = CARDS.parent / "examples" / "recipes"
TEMPLATES, RESULTS = CARDS / "templates", CARDS / "results"
INDEX = "README"
MEASURED = "NineSenses"
TAGS = ["codebind", "multimodal", "embeddings", "vector-quantization", "retrieval"]
ACCURACIES = ("accuracy", "accuracy_continuous")
RECALLS = ("recall_at_10", "recall_at_10_continuous")
# The last blocks of a target's tower, which the adapter of the paper and of the VL recipes is in.
ADAPTED_BLOCKS = 6


@dataclass(frozen=True, eq=False)
class Kind:
    """A kind of checkpoint that has a card.

    Args:
        name: of the card.
        preset: its architecture.
        origin: whose weights it starts from; `None` starts from nothing.
        base_models: these weights on the Hub.
        inputs: the original's numbers of preprocessing, by argument of the processor.
        commands: how to make one, in a few words.
        folder: what the commands write and the code examples load.
        modality: what the code examples compare with texts.
    """

    name: str
    preset: str
    origin: Origin | None
    base_models: tuple[str, ...]
    inputs: Mapping[str, Mapping[str, Any]]
    commands: str
    folder: str
    modality: str

    @property
    def license(self) -> str:
        """Of the weights, on the Hub."""
        return self.origin.license if self.origin else "apache-2.0"


KINDS = {
    kind.name: kind
    for kind in (
        Kind("codebind-tiny", "tiny", None, (), {}, "`make demo`", "runs/demo/checkpoint", "audio"),
        Kind(
            "codebind-ib-huge",
            "codebind-ib-huge",
            IMAGEBIND,
            ("nielsr/imagebind-huge",),
            CODEBIND_INPUTS,
            "`examples/convert.py --codebind`, or `--imagebind` and a recipe such as `sun.yaml`",
            "runs/sun/checkpoint",
            "depth",
        ),
        Kind(
            "codebind-vl-large",
            "codebind-vl-large",
            VITLENS,
            ("TencentARC/ViT-Lens",),
            VITLENS_INPUTS,
            "`examples/convert.py --vitlens` and a recipe such as `vl-shapenet.yaml`",
            "runs/points/checkpoint",
            "point_cloud",
        ),
        Kind(
            "codebind-vl-bigg",
            "codebind-vl-bigg",
            VITLENS,
            ("TencentARC/ViT-Lens", "laion/CLIP-ViT-bigG-14-laion2B-39B-b160k"),
            VITLENS_INPUTS,
            "`examples/convert.py --vitlens` and a changed `vl-shapenet.yaml`",
            "runs/coloured/checkpoint",
            "point_cloud",
        ),
    )
}

# What a recipe trains on, by its name without `vl-`, in the words of a card's header.
DATASETS = {
    "audio": ("audioset", "vggsound", "audiocaps"),
    "audiocaps": ("audiocaps",),
    "audioset": ("audioset",),
    "demo": (MEASURED.lower(),),
    "eeg": ("imagenet-eeg",),
    "flir": ("flir-v2",),
    "in1k": ("imagenet-1k",),
    "k400": ("kinetics-400",),
    "llvip": ("llvip",),
    "p365": ("places365",),
    "shapenet": ("shapenet55",),
    "sun": ("sun-rgbd",),
    "touch_and_go": ("touch-and-go",),
    "vggsound": ("vggsound",),
}

# What a user gives for one item.
ITEMS = {
    "text": "a string",
    "image": "PNG, JPEG, PIL image, array `(height, width, 3)`",
    "video": "array `(frames, height, width, 3)`, folder of frames, film (extra `video`)",
    "audio": "WAV, or samples with their rate",
    "depth": "`.npy` or array in metres; integers with their unit",
    "thermal": "PNG, `.npy` or array of grey levels",
    "tactile": "PNG, JPEG, PIL image, array `(height, width, 3)`",
    "point_cloud": "`.ply`, `.npy`, array `(points, 3)`",
    "eeg": "`.npy`, array `(channels, time)`",
    "imu": "`.npy`, array `(channels, time)`",
}
COLOURED_POINTS = "`.ply`, `.npy`, array `(points, 6)`, colours in [0, 1]"


@cache
def config_of(kind: Kind) -> CodeBindConfig:
    """The architecture of a kind: the preset's, of tiny with the encoders that the measured run has."""
    config = CodeBindConfig.from_preset(kind.preset)
    return config.restricted_to(measured()["modalities"]) if kind.origin is None else config


@cache
def measured() -> dict[str, Any]:
    """The figures of the demo."""
    return json.loads((RESULTS / "codebind-tiny.json").read_text(encoding="utf-8"))


@cache
def parameter_counts(kind: Kind) -> Counter[str]:
    """Parameters by part: `tower <encoder>`, `heads <encoder>`, `decoder <encoder>`, `rest`; and `bytes` of all."""
    with torch.device("meta"):
        model = CodeBindModel(config_of(kind))
    counts: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        room, encoder, part = [*name.split("."), "", ""][:3]
        label = {"encoders": "tower" if part == "tower" else "heads", "decoders": "decoder"}.get(room)
        counts[f"{label} {encoder}" if label else "rest"] += parameter.numel()
    counts["bytes"] = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    return counts


def total(counts: Mapping[str, int], *labels: str) -> int:
    """Parameters of all parts, or of those whose label begins with one of `labels`."""
    return sum(count for name, count in counts.items() if name != "bytes" and name.startswith(labels or ("",)))


def counted(count: int) -> str:
    """A number of parameters as a reader writes it; a dash for none."""
    if count < 1e6:
        return f"{count / 1e3:.1f} k" if count else "-"
    return f"{count / 1e6:.1f} M"


def item_size(config: CodeBindConfig, name: str) -> str:
    """Axes of one item as the model takes it."""
    modality = config.modalities[name]
    encoder = config.encoder_configs[modality.encoder]
    if name == "text":
        return f"up to {encoder.max_position_embeddings} tokens"
    if encoder.stem == "points":
        return f"{encoder.input_size[0]} x {encoder.num_channels}"
    known = {"clips": "clips", "channels": encoder.num_channels}
    # Sound has frames too, which are the last axis of its input.
    known |= {"frames": encoder.tubelet_size} if "channels" in modality.axes else {}
    first = [known[axis] for axis in modality.axes[: -len(encoder.input_size)]]
    return " x ".join(map(str, (*first, *encoder.input_size)))


def input_table(config: CodeBindConfig) -> str:
    """What a user gives for an item of every modality, and what it becomes."""
    rows = []
    for name, modality in config.modalities.items():
        has_colours = name == "point_cloud" and config.encoder_configs[modality.encoder].num_channels > 3
        item = COLOURED_POINTS if has_colours else ITEMS[name]
        rows.append([pretty(name), item, f"`{argument_of(name)}=`", f"`{modality.tensor}`", item_size(config, name)])
    return markdown_table(["modality", "an item", "processor argument", "model keyword", "one item's size"], rows)


def output_table(config: CodeBindConfig) -> str:
    """What the model returns, with sizes."""
    segments, num_codes = segments_of(config)
    own = sorted({config.num_specific_codes_of(name) for name in config.encoder_configs if name != "text"})
    own_segments = max(config.num_segments_of("specific", name) for name in config.encoder_configs if name != "text")
    rows = [
        ["`embeds[modality]`", f"{config.shared_dim} numbers", "shared part, quantized, unit norm"],
        ["`continuous_embeds[modality]`", f"{config.shared_dim} numbers", "shared part before quantization"],
        [
            "`codes[modality].shared`",
            f"{segments} ids below {num_codes}",
            f"one code for each {config.code_dim} numbers; packed they take {packed_size(segments, num_codes)} bytes",
        ],
        ["`specific_embeds[modality]`", f"{config.specific_dim} numbers", "specific part, of every modality but text"],
        ["`codes[modality].specific`", f"{own_segments} ids below {own[-1]}", "codes of the encoder's own book"],
        ["`logits_per_image`, ...", "one number a text", "scale times cosine, when texts are among the inputs"],
    ]
    return markdown_table(["output", "size of one item", "meaning"], rows)


def segments_of(config: CodeBindConfig) -> tuple[int, int]:
    """Codes of one embedding, and among how many each is chosen."""
    return config.shared_dim // config.code_dim, config.num_shared_codes


def size_table(kind: Kind) -> str:
    """Parameters of every encoder and of its decoder."""
    config, counts = config_of(kind), parameter_counts(kind)
    readers: dict[str, list[str]] = {}
    for name, modality in config.modalities.items():
        readers.setdefault(modality.encoder, []).append(pretty(name))
    rows = [
        [encoder, ", ".join(names), *(counted(counts[f"{part} {encoder}"]) for part in ("tower", "heads", "decoder"))]
        for encoder, names in readers.items()
    ]
    rows.append(["all", "", *(counted(total(counts, part)) for part in ("tower", "heads", "decoder"))])
    return markdown_table(["encoder", "reads", "tower", "heads", "decoder, for training"], rows)


@cache
def recipes() -> dict[Path, str | None]:
    """Every recipe and the preset that it trains."""
    return {
        file: yaml.safe_load(file.read_text(encoding="utf-8"))["recipe"].get("preset")
        for file in sorted(RECIPES.glob("*.yaml"))
    }


def recipes_of(kind: Kind) -> list[Path]:
    """Recipes that train this kind."""
    return [file for file, preset in recipes().items() if preset == kind.preset]


def recipe_table(kind: Kind) -> str:
    """Recipes of a kind and the first comment of each, which names its data; empty without recipes."""
    comments = {file.name: file.read_text(encoding="utf-8").splitlines()[0] for file in recipes_of(kind)}
    rows = [[f"`{name}`", comment.removeprefix("# ").rstrip(".")] for name, comment in comments.items()]
    return markdown_table(["recipe", "data"], rows) if rows else ""


def datasets_of(kind: Kind) -> list[str]:
    """What the recipes of a kind train on, each once."""
    names: list[str] = []
    for file in recipes_of(kind):
        key = file.stem.removeprefix("vl-")
        if key not in DATASETS:
            raise ValueError(f"DATASETS: no entry for {key!r}; add what examples/recipes/{file.name} trains on.")
        names += DATASETS[key]
    return list(dict.fromkeys(names))


def paper_table(kind: Kind) -> str:
    """What the paper prints; empty where it prints nothing."""
    paper = json.loads((RESULTS / "paper.json").read_text(encoding="utf-8"))
    card = paper["cards"].get(kind.name)
    if card is None:
        return ""
    rows = []
    for name, figures in card["figures"].items():
        benchmark = paper["benchmarks"][name]
        rows.append([name, pretty(benchmark["modality"]), benchmark["metric"], *figures])
    table = markdown_table(["benchmark", "modality", "metric, %", *card["models"]], rows)
    return f"### The paper's figures (not measured here)\n\nFrom {card['table']} of {paper['paper']}.\n\n{table}"


def zero_shot_table(results: Mapping[str, Any]) -> str:
    """Accuracies of both read-outs, with their standard errors."""
    rows = [
        [pretty(name), *(_with_error(entry, key) for key in ACCURACIES), entry["n"]]
        for name, entry in results["zero_shot"].items()
    ]
    return markdown_table(["modality", "quantized", "continuous", "objects"], rows)


def retrieval_table(results: Mapping[str, Any]) -> str:
    """Recall at 10 of both read-outs, with standard errors: modality to image, and text to modality."""
    rows = []
    for name in results["zero_shot"]:
        pairs = [results["retrieval"].get(pair) for pair in (f"{name}_to_image", f"text_to_{name}")]
        rows.append(
            [pretty(name), *("-" if pair is None else _with_error(pair, key) for pair in pairs for key in RECALLS)]
        )
    header = ["modality", "finds its image, quantized", "continuous", "is found by its text, quantized", "continuous"]
    return markdown_table(header, rows)


def _with_error(entry: Mapping[str, Any], key: str) -> str:
    return f"{percent(entry[key])} ± {percent(entry['standard_error'][key])}"


def result_values(results: Mapping[str, Any]) -> dict[str, Any]:
    """What a template says of measured figures."""
    about, probes = results["environment"], results["probes"]
    return {
        "zero_shot": zero_shot_table(results),
        "retrieval": retrieval_table(results),
        "codebooks": codebook_table(results),
        "num_objects": results["num_objects"],
        "chance": percent(_only(entry["chance"] for entry in results["zero_shot"].values())),
        "recall_chance": percent(_only(entry["chance_at_10"] for entry in results["retrieval"].values())),
        "class_only": percent(_only(entry["class_only_at_10"] for entry in results["retrieval"].values())),
        "codebook_rows": results["codebook_rows"]["n"],
        "codebook_source": results["codebook_rows"]["source"].replace("_", " "),
        "num_classes": len(NineSenses("test", num_rows=1).class_names),
        "probed": probes["attributes"],
        "probes_won": probes["specific_beats_shared"],
        "probes_won_continuous": probes["continuous_specific_beats_shared"],
        "probes_clearly_won": probes["by_two_standard_errors"],
        "readable": results["decoupling"]["readable"],
        "kept": percent(results["decoupling"]["kept"]),
        "leaked": percent(results["decoupling"]["leaked"]),
        "seed": results["seed"],
        "date": about["date"][:10],
        "cpu_count": about["cpu_count"],
        "versions": ", ".join(f"{key} {about[key]}" for key in ("torch", "transformers", "python")),
        **{key: results["data"][key] for key in ("world", "difficulty", "num_bridge", "num_target")},
    }


def _only(values: Iterable[float]) -> float:
    """The one value that all have."""
    (value,) = set(values)
    return value


def header_of(kind: Kind) -> str:
    """The YAML that the Hub reads; it has results only where this repository measured them."""
    results = None
    if kind.origin is None:
        found, data = measured(), measured()["data"]
        results = [
            EvalResult(
                task_type="zero-shot-classification",
                task_name="Zero-shot classification",
                dataset_type=MEASURED.lower(),
                dataset_name=MEASURED,
                dataset_config=f"world {data['world']}, {data['difficulty']}",
                dataset_split="test",
                metric_type="accuracy",
                metric_name=f"{pretty(name)} accuracy ({read_out})",
                metric_value=round(entry[key], 4),
            )
            for name, entry in found["zero_shot"].items()
            for read_out, key in zip(("quantized", "continuous"), ACCURACIES, strict=True)
        ]
    bases = list(kind.base_models)
    data = ModelCardData(
        license=kind.license,
        library_name="transformers",
        pipeline_tag="feature-extraction",
        tags=TAGS,
        base_model=bases or None,
        base_model_relation="finetune" if bases else None,
        datasets=datasets_of(kind) or None,
        model_name=kind.name if results else None,
        eval_results=results,
    )
    return f"---\n{data.to_yaml().strip()}\n---"


def card_values(kind: Kind) -> dict[str, Any]:
    """What `$name` stands for in the template of a kind."""
    config, counts = config_of(kind), parameter_counts(kind)
    segments, num_codes = segments_of(config)
    names = [pretty(name) for name in config.modality_names]
    values = {
        "header": header_of(kind),
        "folder": kind.folder,
        "modalities": f"{', '.join(names[:-1])} and {names[-1]}",
        "parameters": counted(total(counts)),
        "without_decoders": counted(total(counts, "tower", "heads", "rest")),
        "example_parameters": counted(_example_count(kind)),
        "size": f"{counts['bytes'] / 1e9:.1f} GB" if counts["bytes"] > 1e8 else f"{counts['bytes'] / 1e6:.1f} MB",
        "shared_dim": config.shared_dim,
        "specific_dim": config.specific_dim,
        "code_dim": config.code_dim,
        "segments": segments,
        "num_codes": num_codes,
        "code_bytes": packed_size(segments, num_codes),
        "inputs": input_table(config),
        "outputs": output_table(config),
        "sizes": size_table(kind),
        "recipes": recipe_table(kind),
        "paper": paper_table(kind),
        "weights": kind.origin.sentence if kind.origin else "",
    }
    return values | input_values(kind) | (result_values(measured()) if kind.origin is None else {})


def input_values(kind: Kind) -> dict[str, Any]:
    """What a template says of how inputs are prepared, and of the point tower's blocks."""
    config = config_of(kind)
    values: dict[str, Any] = {}
    if eeg := config.encoder_configs.get("eeg"):
        values["eeg_channels"] = eeg.num_channels
    if crop := kind.inputs.get("eeg", {}).get("time_crop"):
        values["eeg_crop"] = "{} to {}".format(*crop)
    if kind.inputs:
        values["audio_clips"] = kind.inputs["audio"]["num_clips"]
        values["audio_seconds"] = f"{kind.inputs['audio']['clip_seconds']:g}"
        values["video_clips"] = kind.inputs["videos"]["num_clips"]
    if points := config.encoder_configs.get("point"):
        blocks = points.num_hidden_layers
        values |= {"point_blocks": blocks, "last_blocks": list(range(blocks - ADAPTED_BLOCKS, blocks))}
    return values


def _example_count(kind: Kind) -> int:
    """Parameters of text, vision and the modality of the code examples, without decoders."""
    config, counts = config_of(kind), parameter_counts(kind)
    encoders = {config.modalities[name].encoder for name in ("text", "image", kind.modality)}
    return sum(counts[f"{part} {encoder}"] for part in ("tower", "heads") for encoder in encoders) + counts["rest"]


def index_values() -> dict[str, Any]:
    """What `$name` stands for in the template of the index."""
    rows = []
    for kind in KINDS.values():
        config = config_of(kind)
        segments, num_codes = segments_of(config)
        rows.append(
            [
                f"[`{kind.name}`]({kind.name}.md)",
                ", ".join(map(pretty, config.modality_names)),
                counted(total(parameter_counts(kind))),
                config.shared_dim,
                f"{segments} of {num_codes}",
                packed_size(segments, num_codes),
                kind.license,
                kind.commands,
            ]
        )
    header = ["kind", "modalities", "parameters", "embedding width", "codes", "bytes an item", "licence of weights"]
    return {"kinds": markdown_table([*header, "how to make it"], rows)}


def texts() -> dict[str, str]:
    """Every card and the index by the name of its file, as it should be.

    Raises:
        KeyError: a template names a value that there is not.
        ValueError: a recipe whose data has no name.
    """
    values = {name: card_values(kind) for name, kind in KINDS.items()} | {INDEX: index_values()}
    files = {f"{name}.md": given for name, given in values.items()}
    return {
        file: Template((TEMPLATES / file).read_text(encoding="utf-8")).substitute(given)
        for file, given in files.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing and say which cards differ")
    arguments = parser.parse_args()
    try:
        filled = texts()
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from error
    if not arguments.check:
        for name, text in filled.items():
            (CARDS / name).write_text(text, encoding="utf-8")
    elif stale := [name for name, text in filled.items() if not _is_there(CARDS / name, text)]:
        raise SystemExit(f"{', '.join(stale)}: not as model_cards/fill.py writes them. Fix: run it.")


def _is_there(file: Path, text: str) -> bool:
    return file.is_file() and file.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    main()
