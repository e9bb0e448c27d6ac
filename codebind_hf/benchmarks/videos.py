"""Videos: Kinetics-400, MSR-VTT, and AVE, whose events are both seen and heard."""

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from codebind_hf.benchmarks.entry import Benchmark, Metric
from codebind_hf.benchmarks.figures import FIGURES
from codebind_hf.benchmarks.layout import Expected, by_stem, lines_of, split_line
from codebind_hf.benchmarks.prompts import BARE, CLIP
from codebind_hf.benchmarks.rows import Entry
from codebind_hf.processing.modality_processing import naming
from codebind_hf.processing.recordings import film_sound


MOVIES = (".mp4", ".mkv", ".webm", ".avi", ".mov")
_TRAIN_VAL, _TEST = "train_val_videodatainfo.json", "test_videodatainfo.json"
# The last training video of MSR-VTT; those after it are its validation split.
_LAST_TRAINED = 6512


def heard(row: Entry, root: Path) -> Entry:
    """The row with the sound of its film as samples, where its sound is a film's; the processor reads other files."""
    path = root / row["audio"]
    if path.suffix.lower() in MOVIES:
        with naming(f"audio file {str(path)!r}"):
            sound = film_sound(path)
            samples = sound.read(0, sound.num_samples)
        row["audio"] = {"array": samples[0] if len(samples) == 1 else samples, "sampling_rate": sound.rate}
    return row


def _kinetics_table(root: Path, split: str) -> list[dict[str, str]]:
    path = root / "annotations" / f"{split}.csv"
    with path.open(newline="", encoding="utf-8-sig") as stream:
        rows = list(csv.DictReader(stream))
    wanted = {"label", "youtube_id", "time_start", "time_end"}
    if not rows or not wanted <= set(rows[0]):
        raise ValueError(f"{path}: expected: a table with the columns {', '.join(sorted(wanted))}.")
    return rows


def _kinetics_classes(root: Path) -> list[str]:
    return sorted({row["label"] for row in _kinetics_table(root, "val")})


def _kinetics(root: Path, split: str, protocol: str, backbone: str) -> Iterator[Entry]:
    folder = "train" if split == "train" else "val"
    files = by_stem(root / folder, MOVIES, below=True)
    for row in _kinetics_table(root, folder):
        name = f"{row['youtube_id']}_{int(row['time_start']):06d}_{int(row['time_end']):06d}"
        yield {"id": name, "label": row["label"], "video": f"{folder}/{files.get(name, f'{name}.mp4')}"}


def _captioned(root: Path, name: str) -> dict[str, tuple[dict[str, Any], list[str]]]:
    """Video id -> what is known of it, and its captions."""
    try:
        whole = json.loads((root / name).read_text(encoding="utf-8"))
        found: dict[str, tuple[dict[str, Any], list[str]]] = {one["video_id"]: (one, []) for one in whole["videos"]}
        for sentence in sorted(whole["sentences"], key=lambda one: int(one["sen_id"])):
            found[sentence["video_id"]][1].append(sentence["caption"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{root / name}: is not MSR-VTT's list of videos and sentences ({error!r}).") from error
    return found


def _msr_vtt(root: Path, split: str, protocol: str, backbone: str) -> Iterator[Entry]:
    is_true_test = split == "test" and protocol == "sound"
    folder = "TestVideo" if is_true_test else "TrainValVideo"
    files = by_stem(root / folder, MOVIES)
    for name, (_, captions) in _captioned(root, _TEST if is_true_test else _TRAIN_VAL).items():
        number = int(re.sub(r"\D", "", name) or -1)
        if is_true_test or (number > _LAST_TRAINED) == (split != "train"):
            # The authors' list has one caption a video; its first is our reading.
            texts = captions[:1] if protocol == "paper" and split != "train" else captions
            yield {"id": name, "text": texts, "video": f"{folder}/{files.get(name, f'{name}.mp4')}"}


def _ave_classes(root: Path) -> list[str]:
    path = root / "Annotations.txt"
    rows = [split_line(path, n, line, "&", 5) for n, line in enumerate(lines_of(path), 1)]
    return sorted({row[0] for row in rows} - {"Category"})


def _ave(root: Path, split: str, protocol: str, backbone: str) -> Iterator[Entry]:
    name = {"train": "trainSet.txt", "validation": "valSet.txt", "test": "testSet.txt"}[split]
    if split == "test" and protocol == "paper":
        name = "valSet.txt"
    known = set(_ave_classes(root))
    for number, line in enumerate(lines_of(root / name), start=1):
        label, video, _, start, end = split_line(root / name, number, line, "&", 5)
        if label not in known:
            raise ValueError(f"{root / name}, line {number}: got the event {label!r}, which Annotations.txt lacks.")
        times = {"start_seconds": float(start), "end_seconds": float(end)}
        file = f"AVE/{video}.mp4"
        yield {"id": f"{video}-{number}", "label": label, "video": file, "audio": file, "attributes": times}


_NONE_MISSING = "Videos vanish from YouTube: most copies are a part, and numbers on parts differ."

BENCHMARKS = (
    Benchmark(
        name="k400",
        title="Kinetics-400",
        modality="video",
        licence="annotations CC BY 4.0 (Google); the videos belong to their uploaders",
        source="github.com/cvdfoundation/kinetics-dataset: annotations/ and archives of train/ and val/",
        layout=(
            Expected("annotations/val.csv", "label, youtube_id, time_start, time_end; also names the classes"),
            Expected("annotations/train.csv", "likewise, of the training videos", ("train",)),
            Expected("val", "videos <youtube_id>_<start>_<end>.mp4, times with six digits", ("test",)),
            Expected("train", "likewise", ("train",)),
        ),
        read=_kinetics,
        classes=_kinetics_classes,
        num_classes=400,
        published_items=19_759,
        figures=FIGURES["k400"],
        training_templates={"ib": BARE, "vl": BARE},
        processing={"ib": {"videos": {"num_clips": 1, "frames_per_clip": 2, "num_crops": 3}}},
        differences="selects models on a twentieth of the training videos; clips as the processor has them",
        traps=f"The test split is the validation split. {_NONE_MISSING}",
    ),
    Benchmark(
        name="msr-vtt",
        title="MSR-VTT",
        modality="video",
        licence="see the owners' page (not verified here); the videos belong to their uploaders",
        source="the MSR-VTT challenge of 2016: both lists, TrainValVideo/ and TestVideo/",
        hub="AlexZigma/msr-vtt",
        layout=(
            Expected(_TRAIN_VAL, "videos and captions up to video7009", ("train", "validation")),
            Expected("TrainValVideo", "videos video<number>.mp4", ("train", "validation")),
            Expected(_TRAIN_VAL, "videos and captions up to video7009", ("test",), ("paper",)),
            Expected("TrainValVideo", "videos video<number>.mp4", ("test",), ("paper",)),
            Expected(_TEST, "videos and captions from video7010", ("test",), ("sound",)),
            Expected("TestVideo", "videos video<number>.mp4", ("test",), ("sound",)),
        ),
        read=_msr_vtt,
        metric=Metric("recall", (1,)),
        num_items={"paper": 497, "sound": 2990},
        published_items=2990,
        figures=FIGURES["msr-vtt"],
        templates={"ib": CLIP, "vl": CLIP},
        processing={"ib": {"videos": {"num_clips": 1, "frames_per_clip": 2, "num_crops": 3}}},
        has_validation=True,
        differences=f"takes the 2,990 test videos ({_TEST}, TestVideo/) and each of their 20 captions as a query; the "
        "authors' list holds the 497 validation videos, while their table says 2,990",
        traps="A gallery of 497 videos is easier than one of 2,990. The authors' model of this row was trained on "
        "ImageNet-1k only. Which caption their list has is not known: here, the first.",
    ),
    Benchmark(
        name="ave",
        title="AVE",
        modality="audio",
        licence="see the owners' repository (not verified here); the videos are AudioSet's",
        source="github.com/YapengTian/AVE-ECCV18: AVE_Dataset.zip",
        layout=(
            Expected("Annotations.txt", "Category&VideoID&Quality&StartTime&EndTime; also names the 28 events"),
            Expected("trainSet.txt", "training events", ("train",)),
            Expected("valSet.txt", "validation events", ("validation",)),
            Expected("valSet.txt", "validation events", ("test",), ("paper",)),
            Expected("testSet.txt", "test events", ("test",), ("sound",)),
            Expected("AVE", "videos <VideoID>.mp4 of ten seconds"),
        ),
        read=_ave,
        finish=heard,
        classes=_ave_classes,
        num_classes=28,
        num_items={"paper": 402, "sound": 402},
        training_templates={"ib": CLIP, "vl": CLIP},
        has_validation=True,
        differences="tests on testSet.txt; the authors' script evaluates on valSet.txt",
        traps="The paper reports it in table 5 only: a classifier over image and sound, not zero-shot. Rows carry the "
        "seconds of their event; a video may be in several lines.",
    ),
)
