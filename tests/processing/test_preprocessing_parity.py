"""The numbers of ImageBind, CodeBind and ViT-Lens, reached by parameters alone; needs `../shared/goldens`."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from codebind_hf.conversion.processors import codebind_processor, imagebind_processor, vitlens_processor
from codebind_hf.model.configuration_codebind import CodeBindConfig
from codebind_hf.processing.media import read_media
from codebind_hf.processing.processing_codebind import CodeBindProcessor
from codebind_hf.processing.resampling import resample
from codebind_hf.processing.text_cleaning import clean_caption


GOLDENS = Path(__file__).parents[3] / "shared" / "goldens" / "preprocessing"
pytestmark = [
    pytest.mark.parity,
    pytest.mark.skipif(not GOLDENS.exists(), reason="reference values in ../shared are absent"),
]
# Beside a depth or thermal map, CodeBind resizes pictures as tensors.
TENSOR_BILINEAR = {"resize_on": "tensor", "interpolation": "bilinear"}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, CodeBindProcessor]:
    """The processors of converted checkpoints, by project, as they come back from their JSON files."""
    bpe_file = GOLDENS / "tokenizer" / "bpe_simple_vocab_16e6.txt.gz"
    made = {
        "imagebind": imagebind_processor(CodeBindConfig.from_preset("ib-huge"), bpe_file),
        "codebind": codebind_processor(CodeBindConfig.from_preset("codebind-ib-huge"), bpe_file),
        "vitlens": vitlens_processor(CodeBindConfig.from_preset("vl-large"), bpe_file),
    }
    processors = {}
    for project, processor in made.items():
        folder = tmp_path_factory.mktemp(project)
        processor.save_pretrained(folder)
        processors[project] = CodeBindProcessor.from_pretrained(folder)
    return processors


def golden(room: str, file: str = "outputs.safetensors") -> dict[str, np.ndarray]:
    return load_file(GOLDENS / room / file)


def call(processor: CodeBindProcessor, **inputs: Any) -> np.ndarray:
    """What a whole processor makes of one item of one sense."""
    (array,) = processor(**inputs, return_tensors="np").values()
    return array[0]


def clip_normalized(levels: np.ndarray) -> np.ndarray:
    mean = np.array([0.48145466, 0.4578275, 0.40821073])
    std = np.array([0.26862954, 0.26130258, 0.27577711])
    return ((levels / 255 - mean) / std).transpose(2, 0, 1)


def test_resampled_waveforms_are_torchaudios() -> None:
    for name, expected in golden("audio", "resampled.safetensors").items():
        sound = read_media("audio", GOLDENS / "audio" / f"{name}.wav")
        result = resample(np.atleast_2d(sound["array"]), sound["sampling_rate"], 16000)
        np.testing.assert_allclose(result, expected, atol=1e-6)


@pytest.mark.parametrize(("project", "clips"), [("imagebind", 3), ("codebind", 1)])
def test_audio_is_imagebinds_and_codebinds(loaded: dict[str, CodeBindProcessor], project: str, clips: int) -> None:
    references = golden("audio")
    for file in sorted((GOLDENS / "audio").glob("*.wav")):
        # The right values of overlapping clips are those without the reference's in-place subtraction.
        expected = references.get(f"{file.stem}.no_alias", references[f"{file.stem}.imagebind"])[:clips, 0]
        result = call(loaded[project], audio=file)
        assert result.shape == (clips, 128, 204)
        assert np.abs(result - expected).max() < 2e-3, file.name
        assert np.abs(result - expected).mean() < 1e-5, file.name


def test_audio_is_vitlenss(loaded: dict[str, CodeBindProcessor]) -> None:
    for name, expected in golden("audio", "outputs_vitlens.safetensors").items():
        stem, kind = name.rsplit(".", 1)
        if kind == "vitlens_crop0":
            sound = call(loaded["vitlens"], audio=GOLDENS / "audio" / f"{stem}.wav")
            result = sound.transpose(0, 2, 1)[: len(expected)]
            # Float32 decides near-silent bins, and the reference divides them by half of ImageBind's deviation.
            assert np.abs(result - expected).max() < 4e-3, name
            assert np.abs(result - expected).mean() < 2e-5, name


@pytest.mark.parametrize(
    ("room", "argument", "kind"), [("image", "images", "uint8"), ("tactile", "tactile", "codebind_uint8")]
)
def test_pictures_are_codebinds_to_the_grey_level(
    loaded: dict[str, CodeBindProcessor], room: str, argument: str, kind: str
) -> None:
    for name, expected in golden(room).items():
        stem, tag = name.rsplit(".", 1)
        if tag == kind:
            levels = {argument: GOLDENS / room / f"{stem}.png", f"{argument}_kwargs": {"mean": [0.0], "std": [1.0]}}
            result = call(loaded["codebind"], **levels).transpose(1, 2, 0) * 255
            np.testing.assert_array_equal(result.round().astype(np.uint8), expected)
            normalized = call(loaded["codebind"], **{argument: GOLDENS / room / f"{stem}.png"})
            np.testing.assert_allclose(normalized, clip_normalized(expected), atol=1e-5)


@pytest.mark.parametrize("project", ["imagebind", "vitlens"])
def test_images_are_imagebinds_and_vitlenss(loaded: dict[str, CodeBindProcessor], project: str) -> None:
    references = golden("image")
    for name, levels in references.items():
        stem, tag = name.rsplit(".", 1)
        if tag == "uint8":
            result = call(loaded[project], images=GOLDENS / "image" / f"{stem}.png")
            expected = references.get(f"{stem}.float32", clip_normalized(levels))
            np.testing.assert_allclose(result, expected, atol=1e-5)


def test_tactile_is_vitlenss(loaded: dict[str, CodeBindProcessor]) -> None:
    for name, expected in golden("tactile").items():
        stem, kind = name.rsplit(".", 1)
        if kind.startswith("vitlens"):
            options = {"antialias": True} if kind.endswith("_aa") else {}
            file = GOLDENS / "tactile" / f"{stem}.png"
            result = call(loaded["vitlens"], tactile=file, tactile_kwargs=options)
            np.testing.assert_allclose(result, expected, atol=1e-4)


def test_thermal_is_codebinds(loaded: dict[str, CodeBindProcessor]) -> None:
    boxes = {case["name"]: case for case in json.loads((GOLDENS / "thermal" / "cases.json").read_text())["cases"]}
    for name, expected in golden("thermal").items():
        stem, part, tag = name.split(".")
        is_rgb = part == "paired_rgb_bbox"
        with Image.open(GOLDENS / "thermal" / (f"{stem}_rgb.png" if is_rgb else f"{stem}.png")) as picture:
            # The reference crops a box that its data set names; here that is the caller's.
            box = None if part == "full" else boxes[stem]["rgb_bbox_xyxy" if is_rgb else "thermal_bbox_xyxy"]
            picture = picture.crop(box) if box else picture.copy()
        if is_rgb:
            result = call(loaded["codebind"], images=picture, images_kwargs=TENSOR_BILINEAR)
        else:
            result = call(loaded["codebind"], thermal=picture, thermal_kwargs={"antialias": tag == "aa"})
        np.testing.assert_allclose(result, expected, atol=1e-5, err_msg=name)


def test_depth_is_vitlenss(loaded: dict[str, CodeBindProcessor]) -> None:
    maps = golden("depth", "inputs.safetensors")
    for name, expected in golden("depth").items():
        stem, tag = name.split(".", 1)
        if stem.startswith("vitlens"):
            options = {"depth_unit": "disparity", **({"antialias": True} if tag == "aa" else {})}
            result = call(loaded["vitlens"], depth=maps[f"{stem}.disparity"], depth_kwargs=options)
            np.testing.assert_allclose(result, expected, atol=1e-3)


def test_depth_is_imagebinds(loaded: dict[str, CodeBindProcessor]) -> None:
    """ViT-Lens has ImageBind's statistics, and reads disparities."""
    maps = golden("depth", "inputs.safetensors")
    for name, expected in golden("depth").items():
        stem, tag = name.split(".", 1)
        if stem.startswith("vitlens"):
            options = {"depth_unit": "disparity", "antialias": tag == "aa"}
            result = call(loaded["imagebind"], depth=maps[f"{stem}.disparity"], depth_kwargs=options)
            np.testing.assert_allclose(result, expected, atol=1e-3, err_msg=name)


@pytest.mark.parametrize(
    ("stem", "camera"),
    [("codebind_kv1_140x187", {}), ("codebind_xtion_265x350", {"baseline": 0.095, "focal_length": 570.342205})],
)
def test_depth_is_codebinds(loaded: dict[str, CodeBindProcessor], stem: str, camera: dict[str, float]) -> None:
    statistics: dict[str, dict[str, Any]] = {"paired_depth": {}, "depth_only": {"mean": [0.23207855]}}
    references = golden("depth")
    for kind, options in statistics.items():
        for tag, antialias in (("aa", {}), ("noaa", {"antialias": False})):
            given = {"depth_unit": 1 / 8000, **camera, **options, **antialias}
            result = call(loaded["codebind"], depth=GOLDENS / "depth" / f"{stem}.png", depth_kwargs=given)
            np.testing.assert_allclose(result, references[f"{stem}.{kind}.{tag}"], atol=1e-5)
    if f"{stem}.paired_rgb.aa" in references:
        file = GOLDENS / "depth" / f"{stem}_rgb.png"
        result = call(loaded["codebind"], images=file, images_kwargs=TENSOR_BILINEAR)
        np.testing.assert_allclose(result, references[f"{stem}.paired_rgb.aa"], atol=1e-5)


def test_eeg_is_codebinds_and_vitlenss(loaded: dict[str, CodeBindProcessor]) -> None:
    recordings = golden("eeg", "inputs.safetensors")
    for name, expected in golden("eeg").items():
        stem, length = name.split(".len")
        (recording,) = (array for key, array in recordings.items() if key.split(".")[0] == stem)
        result = call(loaded["codebind" if length == "440" else "vitlens"], eeg=recording)
        np.testing.assert_allclose(result, expected, atol=1e-6)


def test_point_clouds_are_vitlenss(loaded: dict[str, CodeBindProcessor]) -> None:
    clouds, references = golden("pointcloud", "inputs.safetensors"), golden("pointcloud")
    for stem, cloud in clouds.items():
        expected = references[f"{stem}.points"]
        if stem.startswith("keep"):
            # The reference draws a permutation of a small cloud; given the same order, the points are the same.
            cloud = cloud[references[f"{stem}.indices"]]
        result = call(loaded["vitlens"], point_clouds=cloud, point_clouds_kwargs={"num_points": len(expected)})
        np.testing.assert_allclose(result, expected, atol=1e-5)


@pytest.mark.parametrize("name", ["landscape_30f_7.5fps", "portrait_17f_12fps"])
def test_videos_are_imagebinds_and_codebinds(loaded: dict[str, CodeBindProcessor], name: str) -> None:
    with np.load(GOLDENS / "video" / f"{name}.npz") as archive:
        video = {"array": archive["frames"], "fps": float(archive["fps"])}
    references = golden("video")
    result = call(loaded["imagebind"], videos=video).transpose(0, 2, 1, 3, 4)
    assert result.shape == (15, 3, 2, 224, 224)
    np.testing.assert_allclose(result[..., ::4, ::4], references[f"{name}.imagebind_stride4"], atol=1e-5)
    cases = {case["name"]: case for case in json.loads((GOLDENS / "video" / "cases.json").read_text())["cases"]}
    np.testing.assert_allclose(result.mean((1, 2, 3, 4)), cases[name]["per_crop_mean"], atol=1e-5)
    np.testing.assert_allclose(np.abs(result).sum((1, 2, 3, 4)), cases[name]["per_crop_abs_sum"], rtol=1e-5)
    one_clip = call(loaded["codebind"], videos=video).transpose(0, 2, 1, 3, 4)
    expected = references[f"{name}.codebind_clips1_stride2"]
    np.testing.assert_allclose(one_clip[..., ::2, ::2], expected, atol=1e-5)


def test_token_ids_are_imagebinds(loaded: dict[str, CodeBindProcessor]) -> None:
    texts = json.loads((GOLDENS / "tokenizer" / "strings.json").read_text())
    references = golden("tokenizer", "token_ids.safetensors")
    assert len(texts["strings"]) == 62
    for project in ("imagebind", "codebind"):
        batch = loaded[project](text=texts["strings"], return_tensors="np")
        np.testing.assert_array_equal(batch["input_ids"], references["imagebind"])
        lengths = np.minimum(texts["full_length_with_specials"], 77)
        np.testing.assert_array_equal(batch["attention_mask"].sum(1), lengths)
        singles = [loaded[project](text=text, return_tensors="np")["input_ids"][0] for text in texts["strings"]]
        np.testing.assert_array_equal(singles, references["imagebind"])


def test_codebinds_own_token_ids_differ_only_where_it_loses_the_end_token() -> None:
    """So the rows of ImageBind are CodeBind's too, without that bug."""
    references = golden("tokenizer", "token_ids.safetensors")
    theirs, ours = references["codebind"], references["imagebind"]
    different = np.flatnonzero((theirs != ours).any(1))
    assert different.tolist() == [55, 58, 59, 60]
    np.testing.assert_array_equal(theirs[:, :-1], ours[:, :-1])
    assert (ours[different, -1] == 49407).all()
    assert (theirs[different] != 49407).all()


def test_token_ids_are_vitlenss(loaded: dict[str, CodeBindProcessor]) -> None:
    texts = json.loads((GOLDENS / "tokenizer" / "strings.json").read_text())
    references = golden("tokenizer", "token_ids.safetensors")
    assert [clean_caption(text) for text in texts["strings"]] == texts["vitlens_cleaned"]
    batch = loaded["vitlens"](text=texts["strings"], return_tensors="np")
    np.testing.assert_array_equal(batch["input_ids"], references["vitlens_text_processor"])


def test_token_ids_are_open_clips(loaded: dict[str, CodeBindProcessor]) -> None:
    """As ViT-Lens's zero-shot benchmarks tokenize."""
    texts = json.loads((GOLDENS / "tokenizer" / "strings.json").read_text())["strings"]
    config = CodeBindConfig.from_preset("vl-large")
    file = GOLDENS / "tokenizer" / "bpe_simple_vocab_16e6.txt.gz"
    processor = vitlens_processor(config, file, text={"cleaning": "open_clip"})
    expected = golden("tokenizer", "token_ids.safetensors")["openclip"]
    np.testing.assert_array_equal(processor(text=texts, return_tensors="np")["input_ids"], expected)
