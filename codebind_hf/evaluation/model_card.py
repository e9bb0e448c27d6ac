"""The model card: what goes in, what comes out, what it is for, and results copied from a report."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from codebind_hf.evaluation.figure_style import pretty
from codebind_hf.evaluation.provenance import checkpoint_digest
from codebind_hf.evaluation.report import (
    Report,
    codebook_table,
    markdown_table,
    retrieval_table,
    zero_shot_table,
)
from codebind_hf.evaluation.writing import write_text
from codebind_hf.model.configuration_codebind import CodeBindConfig
from codebind_hf.processing.arguments import argument_of


_TAGS = ("codebind", "multimodal", "embeddings", "vector-quantization", "retrieval")
_USE = """```python
from codebind_hf import CodeBindModel, CodeBindProcessor

model = CodeBindModel.from_pretrained("{repo}")
processor = CodeBindProcessor.from_pretrained("{repo}")
embeds = model.encode({{{example}}}, processor=processor)
```

Without the package, by the code that lies beside the weights:

```python
from transformers import AutoModel, AutoProcessor

model = AutoModel.from_pretrained("{repo}", trust_remote_code=True)
processor = AutoProcessor.from_pretrained("{repo}", trust_remote_code=True)
```"""


def write_model_card(
    folder: str | os.PathLike,
    report: Report | None,
    config: CodeBindConfig,
    name: str = "codebind",
    dataset: str = "NineSenses",
    training: str = "",
    limits: str = "",
    license: str = "apache-2.0",
    tags: Sequence[str] = (),
    figures: Mapping[str, str | os.PathLike] | None = None,
    checkpoint: str | None = None,
) -> Path:
    """Write `README.md` into a checkpoint's folder, every number of it taken from `report` or `config`.

    Args:
        report: from `evaluate_model`; `None` writes a card without results.
        config: of the model.
        name: of the model; in code examples, the repository to load.
        dataset: what the report was measured on.
        training, limits: paragraphs on the training data and on what the model is not good for.
        license: of the weights. Weights derived from others carry the licence of those.
        tags: beside the usual ones.
        figures: picture files by name; `zero_shot` and `shared_space` are shown.
        checkpoint: digest of the checkpoint (`checkpoint_digest`), by default the report's `checkpoint_sha256`.

    Raises:
        OSError: the folder cannot be written.
        ValueError: the report is of another checkpoint than `checkpoint` or than the weights in the folder.
    """
    target, measured = Path(folder), (report or {}).get("checkpoint_sha256")
    if measured and checkpoint is None and any(target.glob("*.safetensors")):
        checkpoint = checkpoint_digest(target)
    if measured and measured != (checkpoint or measured):
        raise ValueError(
            f"report: is of the checkpoint {measured}, and the card of {checkpoint}. Fix: evaluate this checkpoint "
            "(codebind evaluate), or give none."
        )
    header = _header(report or {}, name, dataset, license, [*_TAGS, *tags])
    links = {key: os.path.relpath(path, target).replace(os.sep, "/") for key, path in (figures or {}).items()}
    pictures = [f"![{pretty(key)}]({links[key]})" for key in ("zero_shot", "shared_space") if key in links]
    sections = [
        f"---\n{header}\n---",
        f"# {name}",
        f"CodeBind embeds {_listed(config.modality_names)} in one space of {config.shared_dim} numbers.",
        "## What goes in",
        _inputs(config),
        "## What comes out",
        _outputs(config),
        "## Use",
        _USE.format(repo=name, example=_example(config)),
        *_titled("Limits", limits),
        *_titled("Training data", training),
        *(() if report is None else _results(report, dataset, pictures)),
        *_titled("Checkpoint", _identity(checkpoint or measured)),
    ]
    return write_text(target / "README.md", "\n\n".join(sections) + "\n")


def _results(report: Report, dataset: str, pictures: Sequence[str]) -> list[str]:
    return [
        f"## Results on {dataset}",
        *filter(None, [zero_shot_table(report), *pictures, retrieval_table(report, _bridge_pairs(report))]),
        *_titled("Codebooks", codebook_table(report)),
        _origin(report),
    ]


def _header(report: Report, name: str, dataset: str, license: str, tags: Sequence[str]) -> str:
    results = [
        EvalResult(
            task_type="zero-shot-classification",
            task_name="Zero-shot classification",
            dataset_type=dataset.lower().replace(" ", "-"),
            dataset_name=dataset,
            metric_type="accuracy",
            metric_name=f"{pretty(modality)} accuracy ({read_out})",
            metric_value=round(entry[key], 4),
        )
        for modality, entry in report.get("zero_shot", {}).items()
        for read_out, key in (("quantized", "accuracy"), ("continuous", "accuracy_continuous"))
    ]
    data = ModelCardData(
        license=license,
        library_name="transformers",
        pipeline_tag="feature-extraction",
        tags=list(dict.fromkeys(tags)),
        model_name=name,
        eval_results=results or None,
    )
    return data.to_yaml().strip()


def _inputs(config: CodeBindConfig) -> str:
    rows = []
    for name, modality in config.modalities.items():
        encoder = config.encoder_configs[modality.encoder]
        if encoder.stem == "pretrained":
            size = f"as {encoder.backbone} takes it"
        elif encoder.stem == "tokens":
            size = f"up to {encoder.max_position_embeddings} tokens"
        elif encoder.stem == "features":
            size = f"{encoder.num_channels} numbers of another network"
            size = f"up to {encoder.input_size[0]} x {size}" if encoder.input_size[0] > 1 else size
        elif encoder.stem == "points":
            size = f"{encoder.input_size[0]} x {encoder.num_channels}"
        else:
            size = " x ".join(map(str, (encoder.num_channels, *encoder.input_size)))
        rows.append([pretty(name), f"`{argument_of(name)}=`", f"`{modality.tensor}`", size, modality.encoder])
    return markdown_table(["modality", "processor argument", "model keyword", "size of one sample", "encoder"], rows)


def _outputs(config: CodeBindConfig) -> str:
    segments = config.shared_dim // config.code_dim
    rows = [["`embeds[modality]`", config.shared_dim, "shared part, quantized, unit norm"]]
    rows.append(["`continuous_embeds[modality]`", config.shared_dim, "shared part before quantization"])
    if config.specific_dim:
        rows.append(["`specific_embeds[modality]`", config.specific_dim, "specific part; every modality but text"])
    if config.num_shared_codes:
        book = (
            "the shared codes" if config.shared_codebook == "one" else "codes of its own encoder, of text shared codes"
        )
        sizes = [config.num_shared_codes]
        if config.shared_codebook != "one":
            sizes += [config.num_specific_codes_of(name) for name in config.encoder_configs if name != "text"]
        size = " or ".join(map(str, sorted(set(sizes))))
        codes = f"ids of {book}, one of {size} for each {config.code_dim} numbers"
        rows.append(["`codes[modality].shared`", segments, codes])
    return markdown_table(["output", "numbers", "meaning"], rows)


def _example(config: CodeBindConfig) -> str:
    values = {"text": '["a bell"]', "image": '["bell.png"]', "audio": '["bell.wav"]', "eeg": '["bell.npy"]'}
    known = [name for name in values if name in config.modality_names] or [config.modality_names[0]]
    return ", ".join(f'"{name}": {values.get(name, "[...]")}' for name in known)


def _bridge_pairs(report: Report) -> list[str]:
    return [name for name in report.get("retrieval", {}) if name.startswith("image_to_") or name.endswith("_to_image")]


def _origin(report: Report) -> str:
    about = report.get("environment", {})
    versions = ", ".join(f"{key} {about[key]}" for key in ("torch", "transformers", "python") if key in about)
    return (
        f"Measured {about.get('date', '')[:10]} with seed {report.get('seed')} ({versions}); ties count as expected."
    )


def _identity(digest: str | None) -> str:
    return f"This card is of the checkpoint with the SHA-256 `{digest}`, over all its files." if digest else ""


def _titled(title: str, body: str) -> list[str]:
    return [f"## {title}", body] if body else []


def _listed(names: Sequence[Any]) -> str:
    words = [pretty(str(name)) for name in names]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
