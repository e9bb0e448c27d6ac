"""Sounds: AudioSet, VGGSound, ESC-50, and the captioned ones, Clotho and AudioCaps."""

import csv
from collections.abc import Iterator
from pathlib import Path

from codebind_hf.benchmarks.entry import Benchmark, Metric
from codebind_hf.benchmarks.figures import FIGURES
from codebind_hf.benchmarks.layout import Expected, by_stem, lines_of
from codebind_hf.benchmarks.prompts import CLIP, SOUNDS
from codebind_hf.benchmarks.rows import Entry
from codebind_hf.benchmarks.videos import MOVIES, heard


_HEARD = (".wav", ".flac", ".mp3", ".ogg", ".m4a", *MOVIES)
_LABELS, _TRAIN, _EVAL = "class_labels_indices.csv", "balanced_train_segments.csv", "eval_segments.csv"
_PUBLISHED_813 = "audiocaps_test_813.txt"


def _table(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8-sig") as stream:
        rows = list(csv.DictReader(stream))
    if not rows or not set(columns) <= set(rows[0]):
        raise ValueError(f"{path}: expected: a table with the columns {', '.join(columns)}, and a row or more.")
    return rows


def _audioset_names(root: Path) -> dict[str, str]:
    """Machine id -> name, in the file's order; lower case, as ViT-Lens has them."""
    rows = _table(root / _LABELS, ("index", "mid", "display_name"))
    return {row["mid"]: row["display_name"].lower() for row in sorted(rows, key=lambda row: int(row["index"]))}


def _audioset_classes(root: Path) -> list[str]:
    return list(_audioset_names(root).values())


def _audioset(root: Path, split: str, protocol: str, backbone: str) -> Iterator[Entry]:
    names = _audioset_names(root)
    listing, folder = (_TRAIN, "balanced_train") if split == "train" else (_EVAL, "eval")
    sounds = _by_video(by_stem(root / "audio" / folder, _HEARD))
    movies = _by_video(by_stem(root / "video" / folder, MOVIES))
    for number, line in enumerate(lines_of(root / listing), start=1):
        if line.startswith("#"):
            continue
        values = next(csv.reader([line], skipinitialspace=True))
        mids = values[3].split(",") if len(values) == 4 else []
        if not mids or any(mid not in names for mid in mids):
            unknown = next((mid for mid in mids if mid not in names), line[:100])
            raise ValueError(f"{root / listing}, line {number}: got {unknown!r}; {_LABELS} has no such class.")
        video = values[0]
        entry = {"id": video, "label": [names[mid] for mid in mids]}
        entry["audio"] = f"audio/{folder}/{sounds.get(video, f'{video}.wav')}"
        if split == "train" and video in movies:
            entry["video"] = f"video/{folder}/{movies[video]}"
        yield entry


def _by_video(files: dict[str, str]) -> dict[str, str]:
    """YouTube id (11 letters) -> file; some copies put "Y" before it or the start of the clip behind it."""
    return {stem[1:12] if len(stem) == 12 and stem[0] == "Y" else stem[:11]: name for stem, name in files.items()}


def _vgg_table(root: Path) -> list[list[str]]:
    path = root / "vggsound.csv"
    with path.open(newline="", encoding="utf-8-sig") as stream:
        rows = [row for row in csv.reader(stream) if row]
    for number, row in enumerate(rows, start=1):
        if len(row) != 4 or not row[1].isdigit() or row[3] not in ("train", "test"):
            raise ValueError(f"{path}, line {number}: got {row}; expected: YouTube id, second, label, train or test.")
    return rows


def _vgg_classes(root: Path) -> list[str]:
    return sorted({row[2] for row in _vgg_table(root)})


def _vggsound(root: Path, split: str, protocol: str, backbone: str) -> Iterator[Entry]:
    sounds, movies = by_stem(root / "audio", _HEARD), by_stem(root / "video", MOVIES)
    for video, start, label, own in _vgg_table(root):
        if own != split:
            continue
        name = f"{video}_{int(start):06d}"
        heard = f"audio/{sounds[name]}" if name in sounds else f"video/{movies.get(name, f'{name}.mp4')}"
        entry = {"id": name, "label": label, "audio": heard}
        if split == "train" and name in movies:
            entry["video"] = f"video/{movies[name]}"
        yield entry


def _esc_table(root: Path) -> list[dict[str, str]]:
    return _table(root / "meta/esc50.csv", ("filename", "fold", "target", "category"))


def _esc_classes(root: Path) -> list[str]:
    numbered = {int(row["target"]): row["category"].replace("_", " ") for row in _esc_table(root)}
    return [numbered[number] for number in sorted(numbered)]


def _esc(root: Path, split: str, protocol: str, backbone: str) -> Iterator[Entry]:
    if split != "test":
        raise ValueError("ESC-50: got another split than 'test'; the paper only tests on it, on all five folds.")
    for row in _esc_table(root):
        entry = {"id": Path(row["filename"]).stem, "label": row["category"].replace("_", " ")}
        yield {**entry, "audio": f"audio/{row['filename']}", "attributes": {"fold": int(row["fold"])}}


def _clotho(root: Path, split: str, protocol: str, backbone: str) -> Iterator[Entry]:
    folder = {"train": "development", "validation": "validation", "test": "evaluation"}[split]
    columns = tuple(f"caption_{number}" for number in range(1, 6))
    for row in _table(root / f"clotho_captions_{folder}.csv", ("file_name", *columns)):
        captions = [row[column] for column in columns]
        texts = [", ".join(captions)] if split == "test" and protocol == "paper" else captions
        yield {"id": Path(row["file_name"]).stem, "text": texts, "audio": f"{folder}/{row['file_name']}"}


def _audiocaps(root: Path, split: str, protocol: str, backbone: str) -> Iterator[Entry]:
    name = {"train": "train", "validation": "val", "test": "test"}[split]
    clips: dict[str, Entry] = {}
    files = by_stem(root / "audio" / name, _HEARD)
    for row in _table(root / f"dataset/{name}.csv", ("audiocap_id", "youtube_id", "start_time", "caption")):
        clip = row["youtube_id"]
        stems = (clip, f"{clip}_{row['start_time']}", f"Y{clip}", row["audiocap_id"])
        file = next((files[stem] for stem in stems if stem in files), f"{clip}.wav")
        entry = clips.setdefault(clip, {"id": clip, "text": [], "audio": f"audio/{name}/{file}"})
        entry["text"].append(row["caption"])
    if split != "test" or protocol != "paper":
        yield from clips.values()
        return
    for number, line in enumerate(lines_of(root / _PUBLISHED_813), start=1):
        if line.strip() not in clips:
            raise ValueError(
                f"{root / _PUBLISHED_813}, line {number}: got {line.strip()!r}; dataset/test.csv has no such."
            )
        yield clips[line.strip()]


def _clips(number: int) -> dict[str, dict[str, dict[str, int]]]:
    """Clips of a sound: one in the released code, so many for ViT-Lens."""
    return {"ib": {"audio": {"num_clips": 1}}, "vl": {"audio": {"num_clips": number}}}


_TEMPLATES = {"ib": CLIP, "vl": SOUNDS}
_RECALL = Metric("recall", (1, 10))
_YOUTUBE = "Videos vanish from YouTube: most copies are a part, and numbers on parts differ."
_ONE_CLIP = "hears as many clips as the processor says, not one"

BENCHMARKS = (
    Benchmark(
        name="audioset",
        title="AudioSet",
        modality="audio",
        licence="annotations CC BY 4.0 (Google); the sounds belong to their uploaders",
        source="research.google.com/audioset: the three lists; sounds by their YouTube ids",
        hub="agkphysics/AudioSet",
        layout=(
            Expected(_LABELS, "index, mid and display_name of 527 classes"),
            Expected(_EVAL, "clips of the evaluation split and their classes", ("test",)),
            Expected("audio/eval", "sounds <YouTube id>.wav (or .flac, .mp4, ...)", ("test",)),
            Expected(_TRAIN, "clips of the balanced training split (22,160)", ("train",)),
            Expected("audio/balanced_train", "likewise; videos, if any, in video/balanced_train", ("train",)),
        ),
        read=_audioset,
        finish=heard,
        metric=Metric("average_precision"),
        classes=_audioset_classes,
        num_classes=527,
        published_items=17_132,
        figures=FIGURES["audioset"],
        templates=_TEMPLATES,
        processing=_clips(3),
        differences=f"{_ONE_CLIP}; selects models on a twentieth of the training clips",
        traps=f"Clips have several labels. The list has 20,371 clips, of which ViT-Lens had about 17,000. {_YOUTUBE}",
    ),
    Benchmark(
        name="vggsound",
        title="VGGSound",
        modality="audio",
        licence="annotations CC BY 4.0 (University of Oxford); the videos belong to their uploaders",
        source="robots.ox.ac.uk/~vgg/data/vggsound: vggsound.csv; videos by their YouTube ids",
        hub="Loie/VGGSound",
        layout=(
            Expected("vggsound.csv", "YouTube id, second, label, train or test; also names the classes"),
            Expected("video | audio", "files <YouTube id>_<second>.mp4 or .wav, the second with six digits"),
        ),
        read=_vggsound,
        finish=heard,
        classes=_vgg_classes,
        num_classes=309,
        published_items=15_434,
        figures=FIGURES["vggsound"],
        templates=_TEMPLATES,
        processing=_clips(3),
        differences=f"{_ONE_CLIP}; selects models on a twentieth of the training videos",
        traps=f"The list has 15,496 test clips. {_YOUTUBE}",
    ),
    Benchmark(
        name="esc-50",
        title="ESC-50",
        modality="audio",
        licence="CC BY-NC 3.0",
        source="github.com/karolpiczak/ESC-50",
        hub="ashraq/esc50",
        layout=(
            Expected("meta/esc50.csv", "filename, fold, target and category of 2,000 sounds"),
            Expected("audio", "the sounds, five seconds each"),
        ),
        read=_esc,
        metric=Metric(folds=True),
        classes=_esc_classes,
        num_classes=50,
        num_items={"paper": 2000, "sound": 2000},
        published_items=2000,
        figures=FIGURES["esc-50"],
        templates=_TEMPLATES,
        processing=_clips(2),
        differences=_ONE_CLIP,
        traps="Nothing is trained on it; the number is the mean over five folds of 400. The paper calls it R@1.",
    ),
    Benchmark(
        name="clotho",
        title="Clotho",
        modality="audio",
        licence="Tampere University's: captions and most sounds for research; each sound has its Freesound licence",
        source="zenodo.org, record 4783391 (Clotho v2.1)",
        layout=(
            Expected("clotho_captions_evaluation.csv", "file_name and five captions", ("test",)),
            Expected("evaluation", "1,045 sounds", ("test",)),
            Expected("clotho_captions_development.csv", "likewise", ("train",)),
            Expected("development", "3,839 sounds", ("train",)),
            Expected("clotho_captions_validation.csv", "likewise", ("validation",)),
            Expected("validation", "1,045 sounds", ("validation",)),
        ),
        read=_clotho,
        metric=_RECALL,
        num_items={"paper": 1045, "sound": 1045},
        published_items=1046,
        figures=FIGURES["clotho"],
        processing=_clips(6),
        has_validation=True,
        differences=f"takes every caption as a query; the released code joins the five of a clip. It {_ONE_CLIP}",
        traps="Only text to sound is reported. Nothing is trained on it. ViT-Lens takes every caption as a query.",
    ),
    Benchmark(
        name="audiocaps",
        title="AudioCaps",
        modality="audio",
        licence="captions MIT; the sounds are AudioSet's",
        source="github.com/cdjkim/audiocaps: dataset/*.csv; sounds by their YouTube ids",
        hub="d0rj/audiocaps",
        layout=(
            Expected("dataset/test.csv", "audiocap_id, youtube_id, start_time and caption", ("test",)),
            Expected(_PUBLISHED_813, "YouTube ids of the 813 clips, one a line", ("test",), ("paper",)),
            Expected("audio/test", "sounds <youtube_id>.wav (or .flac, .mp4, ...)", ("test",)),
            Expected("dataset/train.csv", "likewise", ("train",)),
            Expected("audio/train", "likewise", ("train",)),
            Expected("dataset/val.csv", "likewise", ("validation",)),
            Expected("audio/val", "likewise", ("validation",)),
        ),
        read=_audiocaps,
        finish=heard,
        metric=_RECALL,
        num_items={"paper": 813, "sound": 975},
        published_items=813,
        figures=FIGURES["audiocaps"],
        processing=_clips(3),
        has_validation=True,
        differences=f"takes the whole test list of 975 clips; the paper has the 813 that ImageBind and ViT-Lens had, "
        f"whose YouTube ids belong into {_PUBLISHED_813}, one a line. It {_ONE_CLIP}",
        traps=f"Every caption is a query, and only text to sound is reported. A smaller gallery is easier. {_YOUTUBE}",
    ),
)
