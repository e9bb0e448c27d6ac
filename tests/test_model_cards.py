"""The model cards: headers that the Hub reads, numbers that are counted or measured, code and commands that run."""

import importlib.util
import json
import math
import re
import shutil
import sys
import wave
from ast import literal_eval
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from commands_in_process import flags_of
from huggingface_hub import ModelCard
from pipeline_items import item, sound
from reference_checkpoints import write_merges

from codebind_hf import CodeBindConfig, CodeBindModel, CodeBindProcessor
from codebind_hf.conversion import codebind_processor, vitlens_processor
from codebind_hf.data import NineSenses
from codebind_hf.evaluation.report import percent
from codebind_hf.processing.arguments import argument_of
from codebind_hf.training import Recipe, build, save


ROOT = Path(__file__).parents[1]
CARDS = ROOT / "model_cards"
LICENSES = {
    "codebind-tiny": "apache-2.0",
    "codebind-ib-huge": "cc-by-nc-sa-4.0",
    "codebind-vl-large": "apache-2.0",
    "codebind-vl-bigg": "apache-2.0",
}
ORDER = ["What goes in", "What comes out", "Uses", "Limits", "Data", "Results", "Licence"]
# Towers of the size of a thumb; what is seen from outside (inputs, embeddings, codes) stays as published.
SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
SMALL_LENS = {"lens_num_heads": 2, "lens_head_dim": 8, "lens_cross_head_dim": 8, "lens_depth": 1}
# What the checkpoint that a card loads was trained on.
TRAINED_ON = {
    "codebind-tiny": ["text", "image", "audio", "depth", "eeg"],
    "codebind-ib-huge": ["text", "image", "depth"],
    "codebind-vl-large": ["text", "image", "point_cloud"],
    "codebind-vl-bigg": ["text", "image", "point_cloud"],
}
CHECKED = re.compile(r"^(\S.*?)  # (\(\d+(?:, \d+)*\))$", re.MULTILINE)

each_card = pytest.mark.parametrize("name", LICENSES)


def load(script: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"model_cards_{script}", CARDS / f"{script}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look up their annotations
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def fill() -> ModuleType:
    return load("fill")


@pytest.fixture(scope="module")
def take() -> ModuleType:
    return load("take_figures")


@pytest.fixture(scope="module")
def merges(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_merges(tmp_path_factory.mktemp("bpe") / "merges.txt.gz")


def text_of(name: str) -> str:
    return (CARDS / f"{name}.md").read_text(encoding="utf-8")


def blocks_of(text: str, language: str) -> list[str]:
    """Fenced blocks of this language, "" for those without one."""
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [block for each, block in fences if each == language]


def results() -> dict[str, Any]:
    return json.loads((CARDS / "results" / "codebind-tiny.json").read_text())


def small_config(preset: str) -> CodeBindConfig:
    full = CodeBindConfig.from_preset(preset)
    fields: dict[str, Any] = {"decoder_config": SMALL}
    for name, encoder in full.encoder_configs.items():
        has_lens = getattr(encoder, "lens_num_latents", None)
        fields[f"{name}_config"] = SMALL | (SMALL_LENS if has_lens else {})
    return CodeBindConfig.from_preset(preset, **fields)


def processor_of(config: CodeBindConfig, name: str, merges: Path) -> CodeBindProcessor:
    return (codebind_processor if name == "codebind-ib-huge" else vitlens_processor)(config, merges)


def write_stand_in(name: str, folder: Path, merges: Path) -> None:
    """A checkpoint of this kind: the same interface, few weights, nothing learned."""
    modalities = TRAINED_ON[name]
    if name == "codebind-tiny":
        save(*build(Recipe(), modalities, NineSenses("test", num_rows=1).class_names), folder)
        return
    config = small_config(name).restricted_to(modalities)
    CodeBindModel(config).save_pretrained(folder)
    processor_of(config, name, merges).save_pretrained(folder)


def write_items(folder: Path) -> None:
    """The files that the code of the cards names."""
    random = np.random.default_rng(0)
    item("image").save(folder / "photo.png")
    with wave.open(str(folder / "strike.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes((sound() * 32767).astype("<i2").tobytes())
    np.save(folder / "depth.npy", 1 + item("depth"))
    np.save(folder / "eeg.npy", random.normal(size=(16, 200)).astype(np.float32))
    np.save(folder / "cloud.npy", random.normal(size=(600, 3)).astype(np.float32))
    np.save(folder / "coloured.npy", random.random((600, 6), dtype=np.float32))


def test_the_cards_are_what_their_templates_and_figures_give(fill: ModuleType) -> None:
    texts = fill.texts()
    assert set(texts) == {"README.md", *(f"{name}.md" for name in LICENSES)}
    for file, text in texts.items():
        assert (CARDS / file).read_text(encoding="utf-8") == text, "run `python model_cards/fill.py`"


@each_card
def test_the_header_is_what_the_hub_reads(name: str) -> None:
    data = ModelCard.load(CARDS / f"{name}.md").data
    assert data.license == LICENSES[name]
    assert data.library_name == "transformers"
    assert data.pipeline_tag == "feature-extraction"
    assert {"codebind", "multimodal", "embeddings"} <= set(data.tags)
    bases = data.base_model or []
    assert bool(bases) == (name != "codebind-tiny")
    assert all(re.fullmatch(r"[\w.-]+/[\w.-]+", base) for base in bases)
    # Several bases without a relation are shown as a merge.
    assert data.to_dict().get("base_model_relation") == ("finetune" if bases else None)
    assert bool(data.datasets) == (name != "codebind-vl-bigg"), "no recipe of this repository trains bigG"


@each_card
def test_only_a_measured_kind_has_results_and_they_are_those_of_the_file(name: str) -> None:
    data = ModelCard.load(CARDS / f"{name}.md").data
    found = {(result.metric_name, result.metric_value) for result in data.eval_results or []}
    if name != "codebind-tiny":
        assert found == set()
        return
    label = {"eeg": "EEG", "point_cloud": "point cloud"}
    assert found == {
        (f"{label.get(modality, modality)} accuracy ({read_out})", round(entry[key], 4))
        for modality, entry in results()["zero_shot"].items()
        for read_out, key in (("quantized", "accuracy"), ("continuous", "accuracy_continuous"))
    }


@each_card
def test_a_card_has_the_same_chapters_in_the_same_order(name: str) -> None:
    assert re.findall(r"^## (.*)$", text_of(name), re.MULTILINE) == ORDER


@each_card
def test_a_card_says_that_nothing_is_published_and_names_the_licence(name: str, fill: ModuleType) -> None:
    text = " ".join(text_of(name).split())
    assert "**No checkpoint of this kind is published" in text
    licence = text[text.index("## Licence") :]
    assert "Apache-2.0" in licence
    assert ("CC BY-NC-SA 4.0" in licence) == (LICENSES[name] == "cc-by-nc-sa-4.0")
    # A name with an owner would be a repository on the Hub.
    assert set(re.findall(r'from_pretrained\("([^"]*)"', text)) == {fill.KINDS[name].folder}


@each_card
def test_figures_of_the_paper_stand_under_their_own_heading(name: str) -> None:
    card = json.loads((CARDS / "results" / "paper.json").read_text())["cards"].get(name)
    text = text_of(name)
    assert text.count("### The paper's figures (not measured here)") == (card is not None)
    if card:
        body = text.split("### The paper's figures (not measured here)")[1]
        assert f"From {card['table']} of " in body
        assert "arXiv:2605.18257" in body
        for benchmark, figures in card["figures"].items():
            assert re.search(rf"^\| {re.escape(benchmark)} \|.*\| {' [|] '.join(figures)} \|$", body, re.MULTILINE)


@each_card
def test_parameters_sizes_and_codes_are_counted(name: str, fill: ModuleType) -> None:
    config = CodeBindConfig.from_preset(fill.KINDS[name].preset)
    if name == "codebind-tiny":
        config = config.restricted_to(results()["modalities"])
    with torch.device("meta"):
        model = CodeBindModel(config)
    whole = sum(parameter.numel() for parameter in model.parameters())
    decoders = sum(part.numel() for key, part in model.named_parameters() if key.startswith("decoders."))
    text, row = text_of(name), next(line for line in text_of("README").splitlines() if f"[`{name}`]" in line)
    assert f"| {whole / 1e6:.1f} M |" in row
    assert f"| without decoders, which only training needs | {(whole - decoders) / 1e6:.1f} M |" in text
    assert re.search(rf"^\| parameters.* \| {whole / 1e6:.1f} M \|$", text, re.MULTILINE)
    if whole > 1e8:
        assert f"in float32 | {4 * whole / 1e9:.1f} GB |" in text
    assert f"| {config.shared_dim} |" in row
    segments, bits = config.shared_dim // config.code_dim, math.log2(config.num_shared_codes)
    assert f"| {segments} of {config.num_shared_codes} | {math.ceil(segments * bits / 8)} | {LICENSES[name]} |" in row
    assert f"`codes[modality].shared` | {segments} ids below {config.num_shared_codes}" in text
    for encoder, tower in ((key, part.tower) for key, part in model.encoders.items()):
        count = sum(parameter.numel() for parameter in tower.parameters())
        shown = f"{count / 1e6:.1f} M" if count >= 1e6 else f"{count / 1e3:.1f} k"
        assert re.search(rf"^\| {encoder} \| [^|]* \| {shown} \|", text, re.MULTILINE)


@each_card
def test_the_sizes_of_inputs_are_those_that_the_processor_gives(name: str, merges: Path) -> None:
    if name == "codebind-tiny":
        modalities = results()["modalities"]
        _, processor = build(Recipe(), modalities, NineSenses("test", num_rows=1).class_names)
        config = CodeBindConfig.from_preset("tiny").restricted_to(modalities)
    else:
        config = CodeBindConfig.from_preset(name)
        processor = processor_of(config, name, merges)
    rows = re.findall(r"^\| [^|]* \| [^|]* \| `(\w+)=` \| `(\w+)` \| ([^|]*) \|$", text_of(name), re.MULTILINE)
    assert len(rows) == len(config.modality_names)
    by_argument = {argument_of(modality.name): modality for modality in config.modalities.values()}
    for argument, tensor, size in rows:
        modality = by_argument[argument]
        value = item(modality.name)
        if modality.name in ("eeg", "imu"):
            channels = config.encoder_configs[modality.encoder].num_channels
            value = np.ones((channels, 500), np.float32) * np.arange(500, dtype=np.float32)
        if modality.name == "video":
            value = {"array": value, "fps": 2}
        shape = tuple(processor(**{argument: [value]})[tensor].shape[1:])
        if modality.name == "text":
            assert shape[0] <= int(re.fullmatch(r"up to (\d+) tokens", size)[1])  # type: ignore[index]
            continue
        given = size.removeprefix("clips x ")
        assert shape[given != size :] == tuple(map(int, given.split(" x "))), modality.name


@each_card
def test_every_python_block_runs(
    name: str, fill: ModuleType, tmp_path: Path, merges: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_items(tmp_path)
    write_stand_in(name, tmp_path / fill.KINDS[name].folder, merges)
    blocks = blocks_of(text_of(name), "python")
    assert len(blocks) >= 4
    names: dict[str, Any] = {}
    checked = 0
    for number, block in enumerate(blocks):
        exec(compile(block, f"{name}, block {number}", "exec"), names)
        for expression, shape in CHECKED.findall(block):
            # What the card claims of its own code, which has just run.
            assert tuple(eval(expression, names)) == literal_eval(shape), expression  # noqa: S307
            checked += 1
    assert checked >= 5
    assert isinstance(names["model"], CodeBindModel)


def commands() -> Iterator[str]:
    """Every shell command of every card."""
    for file in CARDS.glob("*.md"):
        for block in blocks_of(file.read_text(), ""):
            yield from filter(None, block.replace("\\\n", " ").splitlines())


def test_the_commands_name_scripts_options_recipes_and_targets_that_exist() -> None:
    every = list(commands())
    assert len(every) >= 8
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for command in every:
        if command.startswith("make "):
            assert command.removeprefix("make ") in targets
            continue
        called = re.match(r"(?:(?:python|accelerate launch) examples/|codebind )(\w+)(?:\.py)? ", command)
        assert called, command
        options = set(re.findall(r"--\w+", command))
        assert options
        assert options <= flags_of(called[1]), f"{called[1]} has no {options - flags_of(called[1])}"
        assert all((ROOT / recipe).is_file() for recipe in re.findall(r"examples/recipes/\S+", command))


def test_files_of_the_repository_that_the_cards_name_exist() -> None:
    for file in CARDS.glob("*.md"):
        text = file.read_text()
        for path in re.findall(r"`((?:examples|docs)/[\w/.-]+)", text):
            assert (ROOT / path).is_file(), path
        for path in re.findall(r"`(results/[\w/.-]+)`", text):
            assert (CARDS / path).is_file(), path


def test_the_changed_recipe_of_bigg_fits_its_preset() -> None:
    (block,) = blocks_of(text_of("codebind-vl-bigg"), "yaml")
    change = yaml.safe_load(block)["recipe"]
    recipe = yaml.safe_load((ROOT / "examples/recipes/vl-shapenet.yaml").read_text())["recipe"]
    given = {**recipe, **change, "training": {**recipe["training"], **change["training"]}}
    made = Recipe(**given)
    points = CodeBindConfig.from_preset(str(made.preset), **made.model).encoder_configs["point"]
    layers = made.training["lora_layers"]
    assert layers == list(range(points.num_hidden_layers))[-len(recipe["training"]["lora_layers"]) :]


REPORT: dict[str, Any] = {
    "rows": {"n": 100},
    "seed": 3,
    "environment": {
        **dict.fromkeys(("codebind_hf", "python", "torch", "transformers", "processor", "platform"), "1"),
        "date": "2026-01-02T03:04:05+00:00",
        "cpu_count": 2,
        "threads": 1,
    },
    "zero_shot": {"audio": {"accuracy": 0.2, "accuracy_continuous": 0.5, "chance": 0.05, "n": 100}},
    "retrieval": {
        pair: {
            "recall_at_10": 0.1,
            "recall_at_10_continuous": 0.9,
            "chance_at_10": 0.1,
            "class_only_at_10": 0.3,
            "n": 25,
        }
        for pair in ("audio_to_image", "text_to_audio", "audio_to_eeg")
    },
    "probes": {
        "audio": {
            "hum": {"shared_continuous": 0.4, "specific_continuous": 0.6},
            "size": {"shared_continuous": 0.9, "specific_continuous": 0.7},
            "shape": {"shared_continuous": 0.1},
        }
    },
    "summary": {
        "probes": {
            "attributes": 3,
            "specific_beats_shared": 2,
            "by_two_standard_errors": 1,
        },
        "decoupling": {"readable": 2, "kept": 0.75, "leaked": 0.125, "shared_above_chance": 0.1},
    },
    "codebooks": {"shared": {"usage": 1.0, "perplexity": 2.5, "num_codes": 4, "dead": 0, "by_modality": {}}},
    "codebook_rows": {"n": 50, "source": "training_rows"},
}


def write_run(folder: Path) -> Path:
    CodeBindConfig.from_preset("tiny").restricted_to(["text", "image", "audio"]).save_pretrained(folder / "checkpoint")
    (folder / "report.json").write_text(json.dumps(REPORT))
    return folder


def test_figures_are_copied_from_a_report_with_their_standard_errors(
    fill: ModuleType, take: ModuleType, tmp_path: Path
) -> None:
    figures = take.figures_of(write_run(tmp_path))
    assert figures.keys() == results().keys()
    assert (figures["seed"], figures["num_objects"]) == (3, 100)
    assert figures["modalities"] == ["text", "image", "video", "audio"]
    assert "platform" not in figures["environment"]
    assert set(figures["retrieval"]) == {"audio_to_image", "text_to_audio"}
    # sqrt(0.2 * 0.8 / 100) and sqrt(0.1 * 0.9 / 25).
    assert list(figures["probes"].values()) == [3, 2, 1, 1]
    assert figures["decoupling"] == {"readable": 2, "kept": 0.75, "leaked": 0.125}
    assert figures["zero_shot"]["audio"]["standard_error"]["accuracy"] == pytest.approx(0.04)
    assert figures["retrieval"]["text_to_audio"]["standard_error"]["recall_at_10"] == pytest.approx(0.06)
    values = fill.result_values(figures)
    assert "| audio | 20.0 ± 4.0 | 50.0 ± 5.0 | 100 |" in values["zero_shot"]
    assert "| audio | 10.0 ± 6.0 | 90.0 ± 6.0 | 10.0 ± 6.0 | 90.0 ± 6.0 |" in values["retrieval"]
    assert (values["chance"], values["recall_chance"], values["class_only"]) == ("5.0", "10.0", "30.0")


def test_taking_figures_writes_them_and_refuses_a_run_of_another_architecture(
    take: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(take, "FIGURES", tmp_path / "figures.json")
    monkeypatch.setattr(sys, "argv", ["take_figures.py", "--run", str(write_run(tmp_path / "run"))])
    take.main()
    assert json.loads((tmp_path / "figures.json").read_text()) == take.figures_of(tmp_path / "run")
    CodeBindConfig.from_preset("tiny", num_shared_codes=32).save_pretrained(tmp_path / "run" / "checkpoint")
    with pytest.raises(SystemExit, match="--run: .*run has num_shared_codes=32, preset tiny has 256"):
        take.main()


def test_the_card_of_tiny_shows_every_figure_of_its_file() -> None:
    text, found = text_of("codebind-tiny"), results()
    for modality, entry in found["zero_shot"].items():
        shown = [f"{percent(entry[key])} ± {percent(entry['standard_error'][key])}" for key in entry["standard_error"]]
        label = {"eeg": "EEG", "point_cloud": "point cloud"}.get(modality, modality)
        assert f"| {label} | {' | '.join(shown)} | {entry['n']} |" in text
    assert f"with seed {found['seed']}" in text
    assert found["environment"]["date"][:10] in text


@pytest.fixture
def changed_cards(fill: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the cards, one of them changed by hand, that `fill.py` takes for its own."""
    for file in CARDS.glob("*.md"):
        shutil.copyfile(file, tmp_path / file.name)
    changed = tmp_path / "codebind-tiny.md"
    changed.write_text(changed.read_text() + "A line of my own.\n")
    monkeypatch.setattr(fill, "CARDS", tmp_path)
    return tmp_path


def test_check_names_a_changed_card_and_a_run_mends_it(
    fill: ModuleType, changed_cards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["fill.py", "--check"])
    with pytest.raises(SystemExit, match="^codebind-tiny.md: not as model_cards/fill.py writes them"):
        fill.main()
    monkeypatch.setattr(sys, "argv", ["fill.py"])
    fill.main()
    assert (changed_cards / "codebind-tiny.md").read_text() == text_of("codebind-tiny")
    monkeypatch.setattr(sys, "argv", ["fill.py", "--check"])
    fill.main()


def test_a_recipe_without_a_name_of_its_data_is_refused(fill: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(fill.DATASETS, "sun")
    with pytest.raises(ValueError, match="DATASETS: no entry for 'sun'; add what examples/recipes/sun.yaml"):
        fill.datasets_of(fill.KINDS["codebind-ib-huge"])
