"""Miniature copies of the benchmarks: a few files each, made of noise, in the layouts of their owners."""

import importlib.util
import json
import wave
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import scipy.io
import torch
from PIL import Image


# Asked before a test puts a stand-in there.
HAS_HDF5 = importlib.util.find_spec("h5py") is not None
SYNSETS = {"n01440764": "tench, Tinca tinca", "n01443537": "goldfish", "n02106662": "German shepherd, Alsatian"}
PLACES = ("/a/airfield", "/a/apartment_building/outdoor", "/b/beach")
ACTIONS = ("abseiling", "air drumming", "making a cake")
SOUNDS = {"/m/09x0r": "Speech", "/m/05zppz": "Male speech", "/m/0bt9lr": "Dog"}
EVENTS = ("Church bell", "Bark")


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def text(path: Path, lines: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def picture(path: Path, seed: int, size: tuple[int, int] = (40, 48)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(seed, *size, 3)).save(path, quality=95)


def sound(path: Path, seed: int, rate: int = 8000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(2)
        stream.setframerate(rate)
        samples = np.random.default_rng(seed).normal(0, 4000 + 800 * seed, rate).clip(-32768, 32767)
        stream.writeframes(samples.astype("<i2").tobytes())


def film(path: Path, seed: int, has_sound: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        track: Any = container.add_stream("aac", rate=16000) if has_sound else None
        for frame in noise(seed, 8, 4, 6, 3).repeat(8, axis=1).repeat(8, axis=2):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
        if track is not None:
            samples = np.random.default_rng(seed).normal(0, 0.1, (1, 16000)).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 16000, 0, Fraction(1, 16000)
            container.mux(track.encode(frame))
            container.mux(track.encode())


def in1k(root: Path) -> None:
    text(root / "LOC_synset_mapping.txt", [f"{synset} {words}" for synset, words in SYNSETS.items()])
    solution, folder = ["ImageId,PredictionString"], root / "ILSVRC/Data/CLS-LOC"
    for number in range(9):
        synset = list(SYNSETS)[number % 3]
        solution.append(f"ILSVRC2012_val_{number:08d},{synset} 1 2 30 40 ")
        picture(folder / f"val/ILSVRC2012_val_{number:08d}.JPEG", number)
        picture(folder / f"train/{synset}/{synset}_{number}.JPEG", 50 + number)
    text(root / "LOC_val_solution.csv", solution)


def places365(root: Path) -> None:
    text(root / "categories_places365.txt", [f"{name} {number}" for number, name in enumerate(PLACES)])
    text(root / "places365_val.txt", [f"Places365_val_{n:08d}.jpg {n % 3}" for n in range(9)])
    text(root / "places365_train_standard.txt", [f"{PLACES[n % 3]}/{n:08d}.jpg {n % 3}" for n in range(6)])
    for n in range(9):
        picture(root / f"val_256/Places365_val_{n:08d}.jpg", n)
    for n in range(6):
        picture(root / f"data_256{PLACES[n % 3]}/{n:08d}.jpg", 50 + n)


def k400(root: Path) -> None:
    for split in ("val", "train"):
        lines = ["label,youtube_id,time_start,time_end,split"]
        for n in range(6):
            lines.append(f"{ACTIONS[n % 3]},{split}{n:07d},{n},{n + 10},{split}")
            film(root / f"{split}/{split}{n:07d}_{n:06d}_{n + 10:06d}.mp4", n + 10 * (split == "train"))
        text(root / f"annotations/{split}.csv", lines)


def msr_vtt(root: Path) -> None:
    def listing(numbers: Sequence[int], split: str) -> dict[str, Any]:
        videos = [{"video_id": f"video{n}", "split": split, "category": 0} for n in numbers]
        sentences = [
            {"video_id": f"video{n}", "caption": f"a thing called {n} number {k}", "sen_id": 20 * n + k}
            for n in numbers
            for k in range(3)
        ]
        return {"videos": videos, "sentences": sentences}

    trained, chosen, tested = (0, 1, 2), (6513, 6514, 6515, 6516), (7010, 7011, 7012, 7013, 7014)
    (root / "train_val_videodatainfo.json").write_text(json.dumps(listing((*trained, *chosen), "train")))
    (root / "test_videodatainfo.json").write_text(json.dumps(listing(tested, "test")))
    for n in (*trained, *chosen):
        film(root / f"TrainValVideo/video{n}.mp4", n % 97)
    for n in tested:
        film(root / f"TestVideo/video{n}.mp4", n % 97)


NYU_SCENES = ("bedroom", "kitchen", "study", "study_room", "playroom", "living_room", "cafe", "foyer")


def nyu_d(root: Path) -> None:
    """As MATLAB writes it: axes the other way round, letters as numbers behind references."""
    rng = np.random.default_rng(3)
    number = 16
    scenes = [NYU_SCENES[n % len(NYU_SCENES)] for n in range(number)]
    depths = rng.uniform(0.5, 8.0, (number, 48, 40)).astype(np.float32)
    images = rng.integers(0, 256, (number, 3, 48, 40), dtype=np.uint8)
    places = [f"{scene}_{n // 8:04d}" for n, scene in enumerate(scenes)]
    write_hdf5(root / "nyu_depth_v2_labeled.mat", depths, images, scenes, places)
    order = rng.permutation(number) + 1
    scipy.io.savemat(root / "splits.mat", {"trainNdxs": order[:6, None], "testNdxs": order[6:, None]})


def write_hdf5(
    path: Path, depths: np.ndarray, images: np.ndarray, kinds: Sequence[str], places: Sequence[str]
) -> None:
    words = {"sceneTypes": kinds, "scenes": places}
    letters = {
        f"#refs#/{name}{n}": np.array([[ord(one)] for one in word], np.uint16)
        for name, several in words.items()
        for n, word in enumerate(several)
    }
    cells = {name: [key for key in letters if key.startswith(f"#refs#/{name}")] for name in words}
    # The keys of one are a beginning of the other's.
    cells["scenes"] = [key for key in letters if key not in cells["sceneTypes"]]
    if not HAS_HDF5:
        with path.open("wb") as stream:
            rows = {name: np.array([keys]) for name, keys in cells.items()}
            np.savez(stream, depths=depths, images=images, **rows, **letters)
        return
    import h5py

    with h5py.File(path, "w") as whole:
        whole["depths"], whole["images"] = depths, images
        for name, values in letters.items():
            whole[name] = values
        for name, keys in cells.items():
            row = whole.create_dataset(name, (1, len(keys)), dtype=h5py.ref_dtype)
            for n, key in enumerate(keys):
                row[0, n] = whole[key].ref


class StoredFile:
    """Stands in for `h5py.File` where h5py is not installed."""

    def __init__(self, path: Path, mode: str) -> None:
        assert mode == "r"
        self.arrays = np.load(path)

    def __getitem__(self, name: Any) -> np.ndarray:
        return self.arrays[str(name)]

    def __enter__(self) -> "StoredFile":
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        self.arrays.close()


SUN_SCENES = {
    "kv1/b3dodata/img_0063": ("office", 520.5),
    "kv2/kinect2data/000065_2014": ("bedroom", 529.5),
    "xtion/sun3ddata/hall/seq/0001": ("kitchen", 570.3),
    "xtion/sun3ddata/hall/seq/0002": ("kitchen", 570.3),
    "realsense/lg/2014_11": ("living_room", 691.6),
    "kv2/align_kv2/2014_12": ("idk", 529.5),
}


def sun_levels(seed: int) -> np.ndarray:
    """Millimetres rotated by three bits to the left."""
    millimetres = np.random.default_rng(seed).integers(600, 9000, (40, 48), dtype=np.uint16)
    return (millimetres << 3) | (millimetres >> 13)


def sun_d(root: Path) -> None:
    paths: dict[str, list[str]] = {"alltrain": [], "alltest": []}
    for copy, split in enumerate(paths):
        for n, (scene, (label, focal)) in enumerate(SUN_SCENES.items()):
            place = f"SUNRGBD/{scene}_{split}"
            paths[split].append(f"/n/fs/sun3d/data/{place}/")
            picture(root / place / f"image/{n}.jpg", 10 * copy + n)
            (root / place / "depth_bfx").mkdir()
            Image.fromarray(sun_levels(10 * copy + n)).save(root / place / f"depth_bfx/{n}.png")
            text(root / place / "intrinsics.txt", [f"{focal} 0 24 0 {focal} 20 0 0 1"])
            text(root / place / "scene.txt", [label])
    file = root / "SUNRGBDtoolbox/traintestSUNRGBD/allsplit.mat"
    file.parent.mkdir(parents=True)
    cells = {split: np.array([places], dtype=object) for split, places in paths.items()}
    scipy.io.savemat(file, cells)


def audioset(root: Path) -> None:
    mids = list(SOUNDS)
    lines = [f'{n},{mid},"{name}"' for n, (mid, name) in enumerate(SOUNDS.items())]
    text(root / "class_labels_indices.csv", ["index,mid,display_name", *lines])
    for listing, folder in (("eval_segments.csv", "eval"), ("balanced_train_segments.csv", "balanced_train")):
        rows = ["# Segments csv", "# num_ytids=8", "# YTID, start_seconds, end_seconds, positive_labels"]
        for n in range(8):
            video = f"{'-' if n % 2 else '_'}{folder[:4]}{n:06d}"
            labels = ",".join(mid for k, mid in enumerate(mids) if n >> k & 1 or k == n % 3)
            rows.append(f'{video}, {10 * n}.000, {10 * n + 10}.000, "{labels}"')
            # Three spellings that copies have.
            name = (video, f"Y{video}", f"{video}_{10000 * n}")[n % 3]
            sound(root / f"audio/{folder}/{name}.wav", n + 20 * (folder != "eval"))
        text(root / listing, rows)


def vggsound(root: Path) -> None:
    lines = []
    for n in range(9):
        split = "test" if n < 6 else "train"
        lines.append(f'vid{n:08d},{n},"{ACTIONS[n % 3]}",{split}')
        if n == 0:
            film(root / f"video/vid{n:08d}_{n:06d}.mp4", n, has_sound=True)
        else:
            sound(root / f"audio/vid{n:08d}_{n:06d}.wav", n)
    film(root / "video/vid00000006_000006.mp4", 6, has_sound=True)
    text(root / "vggsound.csv", lines)


def esc_50(root: Path) -> None:
    names, lines = ("dog", "chirping_birds", "rain"), ["filename,fold,target,category,esc10,src_file,take"]
    for n in range(14):
        name = f"{n % 5 + 1}-{n}-A-{n % 3}.wav"
        lines.append(f"{name},{n % 5 + 1},{n % 3},{names[n % 3]},True,{n},A")
        sound(root / "audio" / name, n)
    text(root / "meta/esc50.csv", lines)


def clotho(root: Path) -> None:
    for split, number in (("evaluation", 6), ("development", 3), ("validation", 2)):
        lines = ["file_name,caption_1,caption_2,caption_3,caption_4,caption_5"]
        for n in range(number):
            lines.append(",".join([f"{split} {n}.wav", *(f'"Rain {n}, falls {k} times"' for k in range(5))]))
            sound(root / split / f"{split} {n}.wav", n + len(split))
        text(root / f"clotho_captions_{split}.csv", lines)


def audiocaps(root: Path) -> None:
    for split, number in (("test", 6), ("train", 3), ("val", 2)):
        lines = ["audiocap_id,youtube_id,start_time,caption"]
        for n in range(number):
            video = f"{split:_<5}{n:06d}"
            copies = 5 if split != "train" else 1
            lines += [f"{100 * n + k},{video},{30 * n},a dog barks {n} times or {k}" for k in range(copies)]
            sound(root / f"audio/{split}" / (f"{video}.wav" if n % 2 else f"{video}_{30 * n}.wav"), n + len(split))
        text(root / f"dataset/{split}.csv", lines)
    text(root / "audiocaps_test_813.txt", [f"test_{n:06d}" for n in (0, 2, 3, 5)])


def llvip(root: Path) -> None:
    for split, numbers in (("test", range(190001, 190005)), ("train", (10001, 20001, 20002, 30001))):
        for n in numbers:
            picture(root / f"infrared/{split}/{n:06d}.jpg", n % 89, (64, 80))
            picture(root / f"visible/{split}/{n:06d}.jpg", n % 83, (64, 80))
            boxes = "".join(
                f"<object><name>person</name><bndbox><xmin>{x}</xmin><ymin>{y}</ymin><xmax>{x + 9}</xmax>"
                f"<ymax>{y + 20}</ymax></bndbox></object>"
                for x, y in ((5, 10), (40, 30))
            )
            size = "<size><width>80</width><height>64</height><depth>3</depth></size>"
            text(root / f"Annotations/{n:06d}.xml", [f"<annotation>{size}{boxes}</annotation>"])


def flir_v2(root: Path) -> None:
    names = {1: "person", 2: "bike", 3: "car", 79: "other vehicle", 4: "train"}
    pairs: dict[str, str] = {}
    lists: dict[str, dict[str, Any]] = {
        kind: {"images": [], "annotations": [], "categories": [{"id": k, "name": v} for k, v in names.items()]}
        for kind in ("rgb", "thermal")
    }
    sizes = {"rgb": (96, 72), "thermal": (64, 48)}
    for frame in range(12):
        files = {kind: f"video-{kind}{frame // 2:04d}x-frame-{frame % 2:06d}-h{frame}.jpg" for kind in lists}
        pairs[files["rgb"]] = files["thermal"]
        for kind, whole in lists.items():
            width, height = sizes[kind]
            whole["images"].append({"id": frame, "file_name": f"data/{files[kind]}", "width": width, "height": height})
            picture(root / f"video_{kind}_test/data/{files[kind]}", frame + 7 * len(kind), (height, width))
            # Three things that both see, one too small, one that only heat shows, one of a class that does not count.
            boxes = [(1, 2, 4, 20, 16), (2, 24, 20, 18, 22), (3, 44, 4, 16, 20), (1, 50, 40, 8, 6), (4, 4, 26, 14, 16)]
            if kind == "thermal":
                boxes.append((79, 40, 28, 12, 14))
            for category, x, y, w, h in boxes:
                scale = width / 64
                box = [x * scale, y * scale, w * scale, h * scale]
                whole["annotations"].append({"image_id": frame, "category_id": category, "bbox": box})
    for kind, whole in lists.items():
        (root / f"video_{kind}_test/coco.json").write_text(json.dumps(whole))
    (root / "rgb_to_thermal_vid_map.json").write_text(json.dumps(pairs))


def touch_and_go(root: Path) -> None:
    lists: dict[str, list[str]] = {"train": [], "test": [], "train_rough": [], "test_rough": []}
    for n in range(16):
        folder, frame = f"2022041{n % 5}_031604", f"{n:010d}.jpg"
        for kind in ("gelsight_frame", "video_frame"):
            picture(root / f"dataset/{folder}/{kind}/{frame}", n + 40 * (kind == "video_frame"))
        split = "train" if n % 4 == 3 else "test"
        lists[split].append(f"{folder}/{frame},{(0, 7, 9, 13, 3, -1)[n % 6]}")
        lists[f"{split}_rough"].append(f"{folder}/{frame},{n % 2}")
    for name, lines in lists.items():
        text(root / f"{name}.txt", lines)


def in_eeg(root: Path) -> None:
    synsets = ["n02106662", "n03584829", "n07753592"]
    images = [f"{synsets[n % 3]}_{n}" for n in range(12)]
    lengths = [500, 449, 450, 600, 601, *([480] * 7)]
    generator = torch.Generator().manual_seed(5)
    recordings = [
        {"eeg": torch.randn(128, lengths[n], generator=generator), "image": n, "label": n % 3, "subject": 1 + n % 6}
        for n in range(12)
    ]
    torch.save({"dataset": recordings, "labels": synsets, "images": images}, root / "eeg_5_95_std.pth")
    split = {"train": [9, 10, 11], "val": [7, 8], "test": [0, 1, 2, 3, 4, 5, 6]}
    torch.save({"splits": [split, {"train": [], "val": [], "test": [9]}]}, root / "block_splits_by_image_all.pth")
    for n in (9, 10, 11):
        picture(root / f"imageNet_images/{synsets[n % 3]}/{images[n]}.JPEG", n)


def modelnet40(root: Path) -> None:
    names = ("airplane", "flower_pot", "tv_stand", "bowl", "cup", "door", "lamp")
    text(root / "modelnet40_shape_names.txt", names)
    for split, start in (("test", 0), ("train", 20)):
        shapes = [f"{names[n % 7]}_{start + n:04d}" for n in range(14)]
        text(root / f"modelnet40_{split}.txt", shapes)
        for n, shape in enumerate(shapes):
            points = np.random.default_rng(start + n).normal(size=(300, 6)) * (1 + n % 7)
            folder = root / shape.rpartition("_")[0]
            folder.mkdir(exist_ok=True)
            np.savetxt(folder / f"{shape}.txt", points, fmt="%.5f", delimiter=",")


def shapenet55(root: Path) -> None:
    taxonomy = [
        {"synsetId": "02691156", "name": "airplane,aeroplane,plane"},
        {"synsetId": "02876657", "name": "bottle"},
        {"synsetId": "99999999", "name": "never listed"},
    ]
    root.mkdir(exist_ok=True)
    (root / "taxonomy.json").write_text(json.dumps(taxonomy))
    (root / "shapenet_pc").mkdir()
    for split, numbers in (("train", range(4)), ("test", range(4, 6))):
        shapes = [f"{taxonomy[n % 2]['synsetId']}-{n:08x}" for n in numbers]
        text(root / f"ShapeNet-55/{split}.txt", [f"{shape}.npy" for shape in shapes])
        for n, shape in zip(numbers, shapes, strict=True):
            np.save(root / f"shapenet_pc/{shape}.npy", np.random.default_rng(n).normal(size=(64, 3)))
            (root / f"rendered_images/{shape}").mkdir(parents=True)
            for angle in range(0, 360, 12):
                Image.fromarray(noise(n, 8, 8, 3)).save(root / f"rendered_images/{shape}/{shape}_r_{angle:03d}.png")


def ave(root: Path) -> None:
    head, lines = "Category&VideoID&Quality&StartTime&EndTime", []
    for split, numbers in (("trainSet", range(3)), ("valSet", range(3, 7)), ("testSet", range(7, 12))):
        own = [f"{EVENTS[n % 2]}&video{n:06d}&good&{n % 3}&{n % 3 + 5}" for n in numbers]
        text(root / f"{split}.txt", own)
        lines += own
        for n in numbers:
            film(root / f"AVE/video{n:06d}.mp4", n, has_sound=True)
    text(root / "Annotations.txt", [head, *lines])


MAKERS: dict[str, Callable[[Path], None]] = {
    "in1k": in1k,
    "places365": places365,
    "k400": k400,
    "msr-vtt": msr_vtt,
    "nyu-d": nyu_d,
    "sun-d": sun_d,
    "audioset": audioset,
    "vggsound": vggsound,
    "esc-50": esc_50,
    "clotho": clotho,
    "audiocaps": audiocaps,
    "llvip": llvip,
    "flir-v2": flir_v2,
    "tag-m": touch_and_go,
    "tag-hs": touch_and_go,
    "tag-rs": touch_and_go,
    "in-eeg": in_eeg,
    "modelnet40": modelnet40,
    "shapenet55": shapenet55,
    "ave": ave,
}


def make(name: str, root: Path) -> Path:
    """A fresh miniature copy of the benchmark called `name`."""
    root.mkdir(parents=True, exist_ok=True)
    MAKERS[name](root)
    return root
