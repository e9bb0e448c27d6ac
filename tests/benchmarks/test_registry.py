"""The registry says what the paper says, and the tables of the docs are made of it."""

import json
import re
from pathlib import Path
from typing import Any

import miniatures
import pytest

from codebind_hf import benchmarks
from codebind_hf.benchmarks import prompts, tables
from codebind_hf.benchmarks.choices import BACKBONES
from codebind_hf.benchmarks.figures import BASELINE, OF_BACKBONE
from codebind_hf.benchmarks.pictures import imagenet_names


ROOT = Path(__file__).parents[2]
# Names of the paper's tables, as the model cards have them.
OF_CARDS = {
    "in1k": "IN1K",
    "places365": "P365",
    "k400": "K400",
    "msr-vtt": "MSR-VTT",
    "nyu-d": "NYU-D",
    "sun-d": "SUN-D",
    "audioset": "AudioSet",
    "vggsound": "VGGS",
    "esc-50": "ESC",
    "clotho": "Clotho",
    "audiocaps": "AudioCaps",
    "llvip": "LLVIP",
    "flir-v2": "FLIR_v2",
    "tag-m": "TAG-M",
    "tag-hs": "TAG-H/S",
    "tag-rs": "TAG-R/S",
    "in-eeg": "IN-EEG",
    "modelnet40": "ModelNet40",
}
# Table 1 of the paper: classes and test items.
TABLE_1 = """in1k 1000 50000|places365 365 36500|k400 400 19759|msr-vtt - 2990|nyu-d 10 654|sun-d 19 4660
audioset 527 17132|esc-50 50 2000|clotho - 1046|audiocaps - 813|vggsound 309 15434|llvip 2 16604|flir-v2 10 1521
tag-m 20 29879|tag-hs 2 29879|tag-rs 2 8085|in-eeg 40 1997|modelnet40 40 2468"""
# CLIP's templates in CLIP's own order; "X" is the class where it is not the last word.
CLIPS_OWN = """a bad photo of a|a photo of many|a sculpture of a|a photo of the hard to see
a low resolution photo of the|a rendering of a|graffiti of a|a bad photo of the
a cropped photo of the|a tattoo of a|the embroidered|a photo of a hard to see|a bright photo of a
a photo of a clean|a photo of a dirty|a dark photo of the|a drawing of a|a photo of my|the plastic
a photo of the cool|a close-up photo of a|a black and white photo of the|a painting of the
a painting of a|a pixelated photo of the|a sculpture of the|a bright photo of the
a cropped photo of a|a plastic|a photo of the dirty|a jpeg corrupted photo of a
a blurry photo of the|a photo of the|a good photo of the|a rendering of the|a X in a video game
a photo of one|a doodle of a|a close-up photo of the|a photo of a|the origami|the X in a video game
a sketch of a|a doodle of the|a origami|a low resolution photo of a|the toy|a rendition of the
a photo of the clean|a photo of a large|a rendition of a|a photo of a nice|a photo of a weird
a blurry photo of a|a cartoon|art of a|a sketch of the|a embroidered|a pixelated photo of a
itap of the|a jpeg corrupted photo of the|a good photo of a|a plushie|a photo of the nice
a photo of the small|a photo of the weird|the cartoon|art of the|a drawing of the
a photo of the large|a black and white photo of a|the plushie|a dark photo of a|itap of a
graffiti of the|a toy|itap of my|a photo of a cool|a photo of a small|a tattoo of the"""

each = pytest.mark.parametrize("name", benchmarks.names())


def test_every_row_of_the_papers_tables_is_there() -> None:
    assert set(benchmarks.names()) == {*OF_CARDS, "shapenet55", "ave"}
    assert len(benchmarks.names()) == len(set(benchmarks.names())) == 20


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="'ave'. Fix: did you mean `esc-50`"):
        benchmarks.get("esc50")


@each
def test_an_entry_says_everything(name: str) -> None:
    one = benchmarks.get(name)
    assert one.name == name
    for words in (one.title, one.licence, one.source, one.differences, one.traps):
        assert words.strip()
    assert one.layout
    assert all(expected.what for expected in one.layout)
    for backbone in BACKBONES:
        for training in (False, True):
            templates = one.prompts(backbone, training)
            assert bool(templates) == (one.metric.kind != "recall")
            assert all(template.count("{}") == 1 for template in templates)
    for model, numbers in one.figures.items():
        assert len(numbers) == len(one.metric.names), model


@pytest.mark.parametrize("backbone", BACKBONES)
def test_published_numbers_are_those_of_the_model_cards(backbone: str) -> None:
    papers = json.loads((ROOT / "model_cards/results/paper.json").read_text())
    card = papers["cards"][{"ib": "codebind-ib-huge", "vl": "codebind-vl-large"}[backbone]]
    models = (BASELINE[backbone], OF_BACKBONE[backbone])
    found = {}
    for name, own in OF_CARDS.items():
        one = benchmarks.get(name)
        if models[1] in one.figures:
            found[own] = [" / ".join(map(str, one.figures[model])) for model in models]
    expected = dict(card["figures"])
    if backbone == "vl":
        both = expected.pop("IN-EEG, val / test")
        expected["IN-EEG"] = [cell.split(" / ")[1] for cell in both]
    assert found == expected


def test_metrics_are_those_of_the_model_cards() -> None:
    papers = json.loads((ROOT / "model_cards/results/paper.json").read_text())["benchmarks"]
    for name, own in OF_CARDS.items():
        metric = " / ".join(benchmarks.get(name).metric.names)
        # With one label an item, recall at 1 of its text is the same as top-1.
        assert metric == papers[own]["metric"].replace("R@1", "top-1" if own == "ESC" else "R@1")
        assert benchmarks.get(name).modality == papers[own]["modality"]


def test_sizes_are_those_of_table_1() -> None:
    for line in TABLE_1.replace("\n", "|").split("|"):
        name, classes, items = line.split()
        one = benchmarks.get(name)
        assert (one.num_classes, one.published_items) == (None if classes == "-" else int(classes), int(items))


def test_clips_templates_are_clips() -> None:
    own = [
        text.replace("X", "{}") if "X" in text else f"{text} {{}}" for text in CLIPS_OWN.replace("\n", "|").split("|")
    ]
    assert len(own) == 80
    assert sorted(prompts.CLIP) == sorted(f"{text}." for text in own)


def test_the_other_templates_have_the_published_numbers() -> None:
    assert [len(one) for one in (prompts.POINTS, prompts.SOUNDS, prompts.SCENES)] == [64, 12, 19]
    assert [len(one) for one in (prompts.MATERIALS, prompts.TOUCHES, prompts.EEG)] == [2, 2, 3]
    assert len(set(prompts.POINTS)) == 64
    assert prompts.SOUNDS.count("{}.") == 3
    assert "a black and white photo of a {}" in prompts.POINTS


def test_imagenets_names_are_in_the_order_of_the_synsets() -> None:
    names = imagenet_names()
    assert len(names) == 1000
    assert [names[n] for n in (0, 207, 388, 657, 744, 836, 837, 954, 999)] == [
        *("tench", "Golden Retriever", "giant panda", "missile", "missile", "sunglasses", "sunglasses", "banana"),
        "toilet paper",
    ]


def test_the_python_of_the_docs_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    miniatures.make("sun-d", tmp_path / "DATA" / "sun")
    sun: Any = benchmarks.get("sun-d")
    monkeypatch.setitem(sun.num_items, "sound", len(sun.rows("DATA/sun", "test", "sound")))
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/benchmarks.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(block, "docs/benchmarks.md", "exec"), names)
    assert set(names["found"].rows[0]) >= {"id", "label", "depth"}
    assert isinstance(names["rows"][0]["text"], list)
    assert "image" in names["rows"][0]


def test_the_tables_of_the_docs_are_made_of_the_registry() -> None:
    """`python examples/benchmark.py --list --docs` prints them."""
    page = (ROOT / "docs/benchmarks.md").read_text()
    for table in (tables.overview(), tables.differences(), tables.sources()):
        assert table in page
    assert len(re.findall(r"^\| in1k \|", page, re.MULTILINE)) == 3
