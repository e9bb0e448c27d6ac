"""Make the compact reference values of `tests/fixtures` from the originals, and prove that nothing is lost.

python tests/scripts/shrink_goldens.py SOURCE [TARGET]

SOURCE is the folder of the reference programs' inputs, weights and outputs, which is not in the repository and which
no test needs; TARGET is `tests/fixtures`. Every tensor is kept that a test reads, as differences to a guess where one
is known. Then all rooms are read again and compared with SOURCE bit for bit: tensors, their order, shapes and types,
what checkpoints hold beside tensors, sounds and plain files.
"""

import hashlib
import json
import lzma
import shutil
import sys
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from safetensors.torch import load_file


sys.path.insert(0, str(Path(__file__).parents[1]))

import golden_guesses  # noqa: E402
import goldens  # noqa: E402


SUFFIXES = (".pth", ".pt", ".safetensors")
# Tensors that no test reads, by file and key.
UNREAD = {
    "imagebind_tiny/outputs.safetensors": ["*.post_per_clip", "text.head"],
    "codebind_tiny/*/outputs.safetensors": ["*.vq_concat"],
    "codebind_tiny/targets.safetensors": ["depth_noantialias"],
    "losses/expected.safetensors": [
        f"{tag}.{name}.*"
        for tag in ("all_tokens", "one_token", "cls_only")
        for name in ("dist", "q_common", "q_specific")
    ],
    "quantizer/forward.safetensors": ["cos_nonorm_*", "cos_norm_ema_stat.*", "cos_norm_noema.*", "l2_*", "grad_out*"],
    "quantizer/kmeans.safetensors": ["many_nonorm.*"],
    "quantizer/multimodal.safetensors": ["seg1_share.*", "seg1_separate.*"],
    "preprocessing/audio/outputs_vitlens.safetensors": ["*.vitlens_cropmax"],
    "preprocessing/depth/outputs.safetensors": ["*.data_py_depthnorm.aa", "codebind_*.disparity"],
}
# The plain files that a test reads.
PLAIN = {
    "imagebind_tiny": ["config.json"],
    "codebind_tiny": ["config.json", "*/cfg_all_train.yaml"],
    "vitlens_tiny": ["config.json"],
    "losses": ["cases.json"],
    "quantizer": [],
    "preprocessing": [
        "depth/*.png",
        "image/*.png",
        "tactile/*.png",
        "thermal/*.png",
        "thermal/cases.json",
        "tokenizer/*.gz",
        "tokenizer/strings.json",
        "video/*.npz",
        "video/cases.json",
    ],
}
# The weights: `torch.manual_seed(seed)` and then one `torch.randn` after another.
SEEDS = {"imagebind_tiny": 20260101, "codebind_tiny": 20260203, "vitlens_tiny": 1235}
PARTS = ("weight", "bias")
# How far into a generator tensors are looked for.
DRAWS = 1 << 23
CLIP = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}
# Inputs from the same generator, one after the other, and how many of its numbers were used up before the first.
SCENES = {
    "imagebind_tiny": (651770, ["vision", "vision_video", "vision_frames", "audio", "depth", "thermal", "imu"]),
    "codebind_tiny": (502788, ["vision", "vision_video", "audio", "depth", "thermal", "tactile", "imu", "eeg"]),
}
# ViT-Lens's inputs: the seed of each and the grid of its coarse noise.
LENSES = {"image": (1244, [28, 28]), "tactile": (1245, [14, 14]), "depth": (1246, [18, 18]), "audio": (1247, [51, 12])}


class Source:
    """A room of the originals, with what `goldens.resolved` asks of one.

    Attributes:
        folder: where sounds and plain files lie in their compact form.
    """

    def __init__(self, original: Path, folder: Path) -> None:
        self.original, self.folder = original, folder
        self.content: dict[str, dict[str, np.ndarray]] = {}
        self.around: dict[str, dict[str, Any]] = {}

    def array(self, file: str, key: str) -> np.ndarray:
        return self.read(file)[key]

    def read(self, file: str) -> dict[str, np.ndarray]:
        """The tensors of a file that tests read."""
        if file not in self.content:
            content = load(self.original / file)
            if "state_dict" in content:
                self.around[file] = without_state(content)
                content = content["state_dict"]
            kept = [key for key in content if not is_unread(f"{self.original.name}/{file}", key, content)]
            self.content[file] = {key: content[key].detach().numpy() for key in kept}
        return self.content[file]

    def files(self) -> list[str]:
        """Weights before inputs before outputs: the later ones are guessed from the earlier."""
        found = [path for path in self.original.rglob("*") if path.suffix in SUFFIXES]
        names = [path.relative_to(self.original).as_posix() for path in found]
        return sorted(names, key=lambda name: (name.endswith(".safetensors"), "outputs" in name, name))


def is_checkpoint(file: str) -> bool:
    return file.endswith((".pth", ".pt")) or "checkpoints/" in file


def load(path: Path) -> dict[str, Any]:
    return load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=False)


def without_state(content: dict[str, Any]) -> dict[str, Any]:
    """What a checkpoint holds beside its tensors, in its order."""
    return {key: value if key != "state_dict" else None for key, value in content.items()}


def is_unread(file: str, key: str, keys: Iterable[str]) -> bool:
    if any(fnmatch(file, pattern) and fnmatch(key, unread) for pattern, names in UNREAD.items() for unread in names):
        return True
    # Of clips that overlap, the tests read the values without the reference's in-place subtraction.
    return key.endswith(".imagebind") and key.replace(".imagebind", ".no_alias") in keys


# Guesses


Guess = tuple[str, dict[str, Any]] | None


def tensor(file: str, key: str) -> dict[str, Any]:
    return {"tensor": [file, key]}


class Draws:
    """Finds tensors among the normal numbers of one seed, by the angles of their pairs: these have no scale."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.numbers = golden_guesses.stream(seed, DRAWS).astype(np.int64)
        self.order = np.argsort(self.numbers, kind="stable")
        self.sorted = self.numbers[self.order]

    def guess(self, array: np.ndarray) -> Guess:
        count = array.size
        if count < golden_guesses.BLOCK or array.dtype != np.float32:
            return None
        flat = array.reshape(-1).astype(np.float64)
        # A count that 16 does not divide ends with a block of its own.
        block, before = (flat[:16], 0) if count % 16 == 0 else (flat[-16:], count)
        for mean in (0.0, 1.0):
            start = self.place(block - mean) - before
            if start >= 0:
                drawn = golden_guesses.drawn(self.seed, start, count).astype(np.float64)
                std = float(drawn @ (flat - mean) / (drawn @ drawn))
                if np.abs(flat - mean - std * drawn).max() < 1e-5:
                    return "weights", {"seed": self.seed, "start": start, "std": std, "mean": mean}
        return None

    def place(self, block: np.ndarray) -> int:
        """Where the 16 numbers behind `block` begin, or a negative number."""
        turns = np.arctan2(block[8:], block[:8]) / (2 * np.pi) % 1 * (1 << 24)
        low, high = np.searchsorted(self.sorted, [turns[0] - 40, turns[0] + 40])
        places = np.sort(self.order[low:high]) - 8
        places = places[(places >= 0) & (places + 16 <= len(self.numbers))]
        for number, turn in enumerate(turns):
            away = np.abs(self.numbers[places + 8 + number] - turn)
            places = places[np.minimum(away, (1 << 24) - away) < 40]
        return int(places[0]) if len(places) else -(1 << 62)


def scenes(room: str, inputs: dict[str, np.ndarray]) -> dict[str, Guess]:
    """The random inputs of ImageBind and CodeBind."""
    start, names = SCENES[room]
    guesses: dict[str, Guess] = {}
    for name in names:
        shape = inputs[name].shape
        grid = [1, 12] if name in ("imu", "eeg") else [5, 5]
        given = {"seed": SEEDS[room], "start": start, "grid": grid, "kind": "corners"}
        guesses[name] = "scene", {**given, "smooth": 1.2, "noise": 0.4}
        cells = int(np.prod(shape[:-2] if grid[0] > 1 else shape[:-1])) * grid[0] * grid[1]
        start += golden_guesses.used(cells) + golden_guesses.used(inputs[name].size)
    return guesses


def imagebind(source: Source, file: str) -> dict[str, Guess]:
    return scenes("imagebind_tiny", source.read(file)) if file == "inputs.safetensors" else {}


def codebind(source: Source, file: str) -> dict[str, Guess]:
    if file == "inputs.safetensors":
        return scenes("codebind_tiny", source.read(file))
    if file == "targets.safetensors":
        return {key: reconstruction_target(key, array) for key, array in source.read(file).items()}
    if file.endswith("/outputs.safetensors"):
        return {key: codebind_output(source, file, key) for key in source.read(file)}
    return {}


def reconstruction_target(key: str, array: np.ndarray) -> Guess:
    steps = [["mean", 1]] if key in ("vision_video", "audio") else [["divide", 1]]
    kind = "linear" if key == "vision_video" else "linear-aa"
    given = {"source": tensor("inputs.safetensors", key), "steps": steps, "size": list(array.shape[-2:])}
    return "picture", {**given, "kind": kind}


def codebind_output(source: Source, file: str, key: str) -> Guess:
    content, checkpoints = source.read(file), f"{file.split('/')[0]}/checkpoints/imagebind"
    name, kind = key.split(".", 1)
    # The tiles of audio overlap.
    if kind == "rec" and name != "audio":
        head = {part: tensor(f"{checkpoints}-decoder_head-{name}_best.pth", f"deconv.{part}") for part in PARTS}
        return "assembled", {"tokens": tensor(file, f"{name}.decoder_trunk_output"), **head}
    if kind == "all_tokens":
        tokens = f"{name}.trunk_output"
        files = [f"{checkpoints}-{heads}-{name}_best.pth" for heads in ("heads", "heads_mvq")]
        heads = [[tensor(each, part) for part in source.read(each)] for each in files]
        clips = len(content[tokens]) // len(content[key])
        return "headed", {"tokens": tensor(file, tokens), "heads": heads, "clips": clips}
    if kind in ("vq_common", "vq_specific") and f"{key}_indices" in content:
        book = "common" if kind == "vq_common" else name
        codes = tensor(f"{checkpoints}-vector_quantise-_best.pth", f"mvq_dict.{book}.embedding.weight")
        return "quantized", {"codes": codes, "ids": tensor(file, f"{key}_indices")}
    return None


def vitlens(source: Source, file: str) -> dict[str, Guess]:
    if file == "inputs.safetensors":
        guesses: dict[str, Guess] = {}
        for name, (seed, grid) in LENSES.items():
            given = {"seed": seed, "start": 0, "grid": grid, "kind": "cubic", "smooth": 1.0, "noise": 0.25}
            # The second sound ends before its clip does.
            guesses[name] = "scene", given | ({"tail": [1, 300, 4.2677393 / 4.5689974]} if name == "audio" else {})
        guesses["eeg"] = "waves", {"seed": 1248, "count": 3, "highest": 40, "height": 0.6, "noise": 0.4}
        return guesses
    if file == "outputs.safetensors":
        return {key: vitlens_output(source, file, key) for key in source.read(file)}
    return {}


def vitlens_output(source: Source, file: str, key: str) -> Guess:
    content, (name, kind) = source.read(file), key.split(".")
    if kind == "tok_x" and not name.startswith("pc"):
        return "patched", stem(source, name)
    if kind == "ln_pre":
        parts = [f"{name}.lens"] if f"{name}.lens" in content else [f"{name}.tok_x", f"{name}.tok_pos"]
        weights = {"first": "class_embedding", "places": "positional_embedding"}
        weights |= {part: f"ln_pre.{part}" for part in PARTS}
        prefix = f"vitlens.{name.removesuffix('_full')}"
        given = {part: tensor("vitlens_tiny.pt", f"{prefix}.{weight}") for part, weight in weights.items()}
        return "entered", {"parts": [tensor(file, part) for part in parts if part in content], **given}
    return None


def stem(source: Source, name: str) -> dict[str, Any]:
    """The convolution that makes a picture's tokens."""
    values = tensor("inputs.safetensors", name)
    shape = list(source.array("inputs.safetensors", name).shape)
    own = "visual_adapter." if name not in ("image", "tactile") else ""
    kernel = "proj" if name == "eeg" else "conv1"
    given: dict[str, Any] = {"weight": tensor("vitlens_tiny.pt", f"vitlens.{name}.{own}{kernel}.weight")}
    if name == "eeg":
        given["bias"] = tensor("vitlens_tiny.pt", f"vitlens.{name}.{own}{kernel}.bias")
        return given | {"source": values | {"shape": [*shape[:2], 1, shape[2]]}, "size": 1, "stride": 1}
    if name == "audio":
        return given | {"source": values | {"shape": [4, 1, *shape[2:]], "move": [2, 3]}, "size": 14, "stride": 10}
    return given | {"source": values, "size": 14, "stride": 14}


def sized(source: Any, room: Source, short: int) -> dict[str, Any]:
    """The size whose shorter side is `short`, and the middle square of 224."""
    height, width = goldens.resolved(source, room).shape[-2:]
    size = [short, int(short * width / height)] if height <= width else [int(short * height / width), short]
    return {"source": source, "size": size, "crop": [round((length - 224) / 2) for length in size]}


def preprocessing(source: Source, file: str) -> dict[str, Guess]:
    kind = file.split("/")[0]
    if file == "audio/resampled.safetensors":
        return {key: resampled(source, key) for key in source.read(file)}
    if not file.endswith("/outputs.safetensors") or kind not in PICTURES:
        return {}
    return {key: PICTURES[kind](source, file, key) for key in source.read(file)}


def resampled(source: Source, key: str) -> Guess:
    _, rate = goldens.sound(source.folder / f"audio/{key}.flac")
    return "resampled", {"source": {"sound": f"audio/{key}.flac"}, "rate": rate, "target": 16000}


def photo(source: Source, file: str, key: str) -> Guess:
    """Of `image` and `tactile`."""
    kind = file.split("/")[0]
    name, tag = key.rsplit(".", 1)
    image = {"picture": f"{kind}/{name}.png", "mode": "RGB", "box": None}
    if tag.endswith("uint8"):
        return "picture", {**sized(image, source, 224), "steps": [], "kind": "cubic-aa"}
    if tag == "float32":
        levels = tensor(file, f"{name}.uint8") | {"move": [-1, 0]}
        return "picture", {"source": levels, "steps": [["divide", 255]], **CLIP}
    kind = "cubic-aa" if tag.endswith("_aa") else "cubic"
    return "picture", {**sized(image, source, 256), "steps": [["divide", 255]], "kind": kind, **CLIP}


def thermal(source: Source, file: str, key: str) -> Guess:
    cases = json.loads((source.original / "thermal/cases.json").read_text())["cases"]
    name, part, tag = key.split(".")
    is_rgb = part == "paired_rgb_bbox"
    (case,) = (case for case in cases if case["name"] == name)
    box = None if part == "full" else case["rgb_bbox_xyxy" if is_rgb else "thermal_bbox_xyxy"]
    picture = f"thermal/{name}_rgb.png" if is_rgb else f"thermal/{name}.png"
    image = {"picture": picture, "mode": "RGB" if is_rgb else "L", "box": box}
    statistics = CLIP if is_rgb else {"mean": 0.44531357, "std": 0.26924619}
    kind = "linear-aa" if tag == "aa" else "linear"
    return "picture", {**sized(image, source, 224), "steps": [["divide", 255]], "kind": kind, **statistics}


def depth(source: Source, file: str, key: str) -> Guess:
    name, tag = key.split(".", 1)
    if name.startswith("vitlens"):
        disparity = tensor("depth/inputs.safetensors", f"{name}.disparity")
        height, width = source.array(*disparity["tensor"]).shape
        given = sized(disparity | {"shape": [1, height, width]}, source, 224)
        given |= {"kind": "cubic-aa" if tag == "aa" else "cubic", "mean": 0.0418, "std": 0.0295}
        return "picture", {**given, "steps": [["clip", 0.01, 75], ["divide", 75]]}
    part, tag = tag.split(".")
    kind = "linear-aa" if tag == "aa" else "linear"
    if part == "paired_rgb":
        image = {"picture": f"depth/{name}_rgb.png", "mode": "RGB", "box": None}
        return "picture", {**sized(image, source, 224), "steps": [["divide", 255]], "kind": kind, **CLIP}
    camera = 0.075 * 518.857901 if "kv1" in name else 0.095 * 570.342205
    steps = [["divide", 8000], ["clip", 0.01, 50], ["over", camera], ["clip", 0.01, 75], ["divide", 75]]
    image = {"picture": f"depth/{name}.png", "mode": None, "box": None}
    mean = 0.318441 if part == "paired_depth" else 0.23207855
    return "picture", {**sized(image, source, 224), "steps": steps, "kind": kind, "mean": mean, "std": 0.11506188}


def video(source: Source, file: str, key: str) -> Guess:
    cases = json.loads((source.original / "video/cases.json").read_text())["cases"]
    name, tag = key.rsplit(".", 1)
    (case,) = (case for case in cases if case["name"] == name)
    chosen = case["selected_frames"] if tag.startswith("imagebind") else case["selected_frames"][:1]
    given = {"frames": {"archive": f"video/{name}.npz", "key": "frames"}, "chosen": chosen, "size": case["scaled_hw"]}
    return "clips", {**given, "crops": case["crop_offsets_yx"], "stride": int(tag[-1]), **CLIP}


def eeg(source: Source, file: str, key: str) -> Guess:
    name, _ = key.split(".")
    return "interpolated", {"source": tensor("eeg/inputs.safetensors", name), "start": 20, "stop": 460}


PICTURES = {"image": photo, "tactile": photo, "thermal": thermal, "depth": depth, "video": video, "eeg": eeg}
GUESSES = {
    "imagebind_tiny": imagebind,
    "codebind_tiny": codebind,
    "vitlens_tiny": vitlens,
    "losses": lambda source, file: {},
    "quantizer": lambda source, file: {},
    "preprocessing": preprocessing,
}


# Packing


class Packer:
    """Bytes and index of one room's packed tensors."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.index: dict[str, Any] = {}
        self.payload = bytearray()
        self.first: dict[tuple[str, bytes], list[str]] = {}

    def add(self, file: str, guesses: dict[str, Guess]) -> None:
        """All tensors of one file that tests read."""
        digest, described = hashlib.sha256(), {}
        for key, array in self.source.read(file).items():
            digest.update(array.tobytes())
            described[key] = self.described(file, key, array, guesses.get(key))
        self.index[file] = {"sha256": digest.hexdigest(), "tensors": described}
        if file in self.source.around:
            self.index[file]["around"] = as_json(self.source.around[file])

    def described(self, file: str, key: str, array: np.ndarray, guess: Guess) -> dict[str, Any]:
        described: dict[str, Any] = {"shape": list(array.shape), "dtype": str(array.dtype)}
        first = self.first.setdefault((str(array.dtype), array.tobytes()), [file, key])
        if first != [file, key] and array.size > 1:
            return described | {"guess": "same", "given": {"as": first}}
        if guess is None:
            return described | {"at": self.append(array)}
        name, given = guess
        values = goldens.guessed(name, **described, given=goldens.resolved(given, self.source))
        return described | {"at": self.append(goldens.differences(array, values)), "guess": name, "given": given}

    def append(self, array: np.ndarray) -> int:
        """First all first bytes, then all second ones: alike bytes side by side pack better."""
        at = len(self.payload)
        flat = np.ascontiguousarray(array).reshape(-1)
        self.payload += flat.view(np.uint8).reshape(flat.size, flat.itemsize).T.tobytes()
        return at

    def write(self, file: Path) -> None:
        header = json.dumps(self.index, separators=(",", ":")).encode()
        content = len(header).to_bytes(8, "little") + header + bytes(self.payload)
        filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 0, "lp": 0, "pb": 0}]
        file.write_bytes(lzma.compress(content, filters=filters))


def as_json(value: Any) -> Any:
    """The inverse of `goldens.described`."""
    match value:
        case np.float64():
            return {"float64": float(value)}
        case dict():
            return {key: as_json(each) for key, each in value.items()}
        case list():
            return [as_json(each) for each in value]
    return value


def copy_plain(original: Path, target: Path) -> None:
    """The plain files that tests read, and the sounds without loss in fewer bytes."""
    for file in (file for pattern in PLAIN[original.name] for file in original.glob(pattern)):
        copy = target / file.relative_to(original)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
    for file in original.rglob("*.wav"):
        copy = (target / file.relative_to(original)).with_suffix(".flac")
        copy.parent.mkdir(parents=True, exist_ok=True)
        levels, rate = soundfile.read(file, dtype="int16", always_2d=True)
        soundfile.write(copy, levels, rate, subtype="PCM_16", compression_level=1.0)


def pack(original: Path, target: Path) -> Source:
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    copy_plain(original, target)
    source = Source(original, target)
    packer = Packer(source)
    if original.name in SEEDS:
        draws = Draws(SEEDS[original.name])
    for file in source.files():
        if original.name in SEEDS and is_checkpoint(file):
            packer.add(file, {key: draws.guess(array) for key, array in source.read(file).items()})
        else:
            packer.add(file, GUESSES[original.name](source, file))
    packer.write(target / goldens.PACKED)
    return source


# Proof


def prove(source: Source) -> int:
    """Read a room again, as arrays and as the files that tests open, and compare; returns the number of tensors."""
    name = source.original.name
    written, count = goldens.folder(name), 0
    for file in source.files():
        original, unpacked, content = source.read(file), goldens.tensors(f"{name}/{file}"), load(written / file)
        if file in source.around:
            assert repr(without_state(content)) == repr(source.around[file]), file
            content = content["state_dict"]
        assert list(unpacked) == list(original), file
        assert set(content) == set(original), file
        for key, array in original.items():
            for found in (unpacked[key].numpy(), content[key].numpy()):
                assert (found.dtype, found.shape) == (array.dtype, array.shape), (file, key)
                assert found.tobytes() == array.tobytes(), (file, key)
            count += 1
    for path in (path for path in written.rglob("*") if path.is_file() and path.suffix not in SUFFIXES):
        assert path.read_bytes() == (source.original / path.relative_to(written)).read_bytes(), path
    return count


def main(source: Path, target: Path) -> None:
    goldens.FIXTURES = target
    for name in PLAIN:
        room = pack(source / name, target / name)
        count = prove(room)
        size = sum(file.stat().st_size for file in (target / name).rglob("*") if file.is_file())
        packed = (target / name / goldens.PACKED).stat().st_size
        sizes = f"{packed / 1e6:.2f} MB, with plain files {size / 1e6:.2f} MB"
        print(f"{name}: {count} tensors bit for bit; {sizes}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else goldens.FIXTURES)
