"""Brain waves of people who see pictures: ImageNet-EEG."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from codebind_hf.benchmarks.entry import Benchmark
from codebind_hf.benchmarks.figures import FIGURES
from codebind_hf.benchmarks.layout import Expected
from codebind_hf.benchmarks.prompts import CLIP, EEG, IMAGE_OF
from codebind_hf.benchmarks.rows import Entry


_SIGNALS, _SPLITS = "eeg_5_95_std.pth", "block_splits_by_image_all.pth"
SHORTEST, LONGEST = 450, 600
_SPLIT = 0

# Synset -> first word of WordNet, which prompts have.
SYNSETS = dict(
    pair.split("=")
    for pair in """n02106662=German shepherd|n02124075=Egyptian cat|n02281787=lycaenid|n02389026=sorrel
n02492035=capuchin|n02504458=African elephant|n02510455=giant panda|n02607072=anemone fish|n02690373=airliner
n02906734=broom|n02951358=canoe|n02992529=cellular telephone|n03063599=coffee mug|n03100240=convertible
n03180011=desktop computer|n03197337=digital watch|n03272010=electric guitar|n03272562=electric locomotive
n03297495=espresso maker|n03376595=folding chair|n03445777=golf ball|n03452741=grand piano|n03584829=iron
n03590841=jack-o'-lantern|n03709823=mailbag|n03773504=missile|n03775071=mitten|n03792782=mountain bike
n03792972=mountain tent|n03877472=pajama|n03888257=parachute|n03982430=pool table|n04044716=radio telescope
n04069434=reflex camera|n04086273=revolver|n04120489=running shoe|n07753592=banana|n07873807=pizza|n11939491=daisy
n13054560=bolete""".replace("\n", "|").split("|")
)


@lru_cache(maxsize=2)
def _load(path: Path) -> Any:
    """A file of torch; the signals stay on disk where its format allows it."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError:
        # Files of the oldest format cannot be mapped.
        return torch.load(path, map_location="cpu", weights_only=True)


def _signals(root: Path) -> dict[str, Any]:
    whole = _load(root / _SIGNALS)
    if not isinstance(whole, dict) or not {"dataset", "labels", "images"} <= whole.keys():
        raise ValueError(f"{root / _SIGNALS}: expected: a dictionary with dataset, labels and images.")
    return whole


def _classes(root: Path) -> list[str]:
    synsets = _signals(root)["labels"]
    unknown = [synset for synset in synsets if synset not in SYNSETS]
    if unknown:
        raise ValueError(f"{root / _SIGNALS}: got the class {unknown[0]!r}; expected: one of the 40 synsets.")
    return [SYNSETS[synset] for synset in synsets]


def _read(root: Path, split: str, protocol: str, backbone: str) -> Iterator[Entry]:
    whole, names = _signals(root), _classes(root)
    splits = _load(root / _SPLITS)["splits"][_SPLIT]
    for number in splits[{"validation": "val"}.get(split, split)]:
        if not 0 <= int(number) < len(whole["dataset"]):
            raise ValueError(f"{root / _SPLITS}: got recording {number}; {_SIGNALS} has {len(whole['dataset'])}.")
        one = whole["dataset"][int(number)]
        if not SHORTEST <= one["eeg"].shape[1] <= LONGEST:
            continue
        picture = whole["images"][int(one["image"])]
        entry: Entry = {"id": f"{picture}-{int(one['subject'])}", "label": names[int(one["label"])], "eeg": _SIGNALS}
        entry["attributes"] = {"index": int(number), "subject": int(one["subject"])}
        if split == "train":
            synset = whole["labels"][int(one["label"])]
            entry["image"] = f"imageNet_images/{synset}/{picture}.JPEG"
        yield entry


def _row(row: Entry, root: Path) -> Entry:
    """The whole recording `(128, samples)` at 1000 Hz; processors cut samples 20 to 460."""
    row["eeg"] = _signals(root)["dataset"][row["attributes"]["index"]]["eeg"].float().numpy()
    return row


BENCHMARKS = (
    Benchmark(
        name="in-eeg",
        title="ImageNet-EEG",
        modality="eeg",
        licence="none stated; free for research (Spampinato et al. 2017); pictures as ImageNet",
        source=f"github.com/perceivelab/eeg_visual_classification: {_SIGNALS}, {_SPLITS}; pictures from ImageNet",
        layout=(
            Expected(_SIGNALS, "recordings of 128 electrodes, their labels and pictures"),
            Expected(_SPLITS, "numbers of training, validation and test recordings"),
            Expected("imageNet_images", "pictures <synset>/<name>.JPEG", ("train",)),
        ),
        read=_read,
        finish=_row,
        classes=_classes,
        num_classes=40,
        published_items=1997,
        figures=FIGURES["in-eeg"],
        templates={"ib": CLIP, "vl": EEG},
        training_templates={"ib": IMAGE_OF, "vl": IMAGE_OF},
        has_validation=True,
        differences="selects models on the validation split instead of on the test split",
        traps="Classes were shown in blocks, so that time alone tells them apart (Li et al. 2021): high numbers do "
        "not show that pictures are read from brain waves. Recordings of 450 to 600 samples, split 0. ViT-Lens and "
        "CodeBind-VL also report the validation split: 41.8 and 54.5.",
    ),
)
