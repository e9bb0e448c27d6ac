"""Bad input to the processor: every case says which argument, what came and, where one is known, the fix."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from codebind_hf.model.configuration_codebind import CodeBindConfig
from codebind_hf.processing.feature_extraction_codebind import CodeBindAudioFeatureExtractor
from codebind_hf.processing.image_processing_codebind import (
    CodeBindDepthImageProcessor,
    CodeBindImageProcessor,
    CodeBindThermalImageProcessor,
)
from codebind_hf.processing.point_processing_codebind import CodeBindPointFeatureExtractor
from codebind_hf.processing.processing_codebind import CodeBindProcessor
from codebind_hf.processing.signal_processing_codebind import CodeBindEegFeatureExtractor
from codebind_hf.processing.video_processing_codebind import CodeBindVideoImageProcessor
from codebind_hf.training.tokenization import build_tokenizer


PICTURE = np.zeros((8, 8, 3), dtype=np.uint8)
NAN = np.full((8, 8), np.nan, dtype=np.float32)
SOUND = np.zeros(100, dtype=np.float32)
DEEP = Image.fromarray(np.zeros((8, 8), np.uint16))
HALF_NAN = np.array([[0.0, 1.0, 2.0], [0.0, np.nan, np.inf]])


def closed(mode: str = "RGB") -> Image.Image:
    picture = Image.new(mode, (8, 8))
    picture.close()
    return picture


# name: (keywords of the call, pattern of the message: argument, what came, what is allowed or the fix)
VALUE_ERRORS: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({}, "processor: got no input.*at least one of text, images"),
    "everything None": ({"text": None, "eeg": None}, "processor: got no input"),
    "text: number": ({"text": 3}, "text: got int.*str"),
    "text: bytes": ({"text": b"a"}, "text: got bytes.*str"),
    "text: token ids": ({"text": [[1, 2]]}, r"text\[0\]: got list.*str.*token ids go to the model"),
    "text: None in a list": ({"text": ["a", None]}, r"text\[1\]: got None.*drop the row"),
    "text: empty list": ({"text": []}, "text: got an empty list.*leave `text=` out"),
    "text: half a character": (
        {"text": ["a", "b\ud83d"]},
        r"text\[1\]: got half a character, '\\ud83d', at place 1.*surrogatepass",
    ),
    "text: padding": ({"text": "a", "padding": PICTURE}, "padding: got ndarray of shape.*'max_length', 'longest'"),
    "images: closed": (
        {"images": [PICTURE, closed()]},
        r"images\[1\]: got a picture that cannot be read.*open it again",
    ),
    "thermal: closed": ({"thermal": closed("I;16")}, "thermal: got a picture that cannot be read"),
    "images: masked": ({"images": np.ma.masked_less(PICTURE, 1)}, "images: got 192 masked values.*neighbours"),
    "images: without data": ({"images": torch.zeros(8, 8, 3, device="meta")}, "images: got Tensor.*without data"),
    "images: empty list": ({"images": []}, "images: got an empty list.*leave `images=` out"),
    "images: None in a list": ({"images": [PICTURE, None]}, r"images\[1\]: got None.*lengths may differ"),
    "images: dictionary": ({"images": {"a": 1}}, "images: got dict.*numpy array"),
    "images: one axis": ({"images": np.zeros(9)}, r"images: got shape \(9,\).*height, width"),
    "images: five axes": ({"images": np.zeros((1, 1, 1, 8, 8))}, r"images: got shape.*leading axis"),
    "images: two channels": ({"images": np.zeros((8, 8, 2))}, r"images: got shape \(8, 8, 2\).*1, 3, 4 channels"),
    "images: no pixels": ({"images": np.zeros((0, 8, 3))}, r"images: got an empty array of shape \(0, 8, 3\)"),
    "images: levels as floats": ({"images": PICTURE + 200.0}, "images: got floats from 200 to 200.*divide by 255"),
    "images: normalized": ({"images": PICTURE - 1.5}, "images: got floats from -1.5.*undo any normalization"),
    "images: int64": ({"images": PICTURE.astype(np.int64)}, r"images: got .*int64.*astype\(np.uint8\)"),
    "images: strings": ({"images": np.array([["a", "b"]])}, "images: got values of dtype <U1.*real numbers"),
    "images: complex": ({"images": np.zeros((8, 8), complex)}, "images: got values of dtype complex128"),
    "images: NaN": (
        {"images": [PICTURE, NAN]},
        r"images\[1\]: got 64 NaN or infinite.*index \(0, 0\).*fill what is missing from its neighbours",
    ),
    "images: 16 bits": ({"images": DEEP}, "images: got a picture of mode I;16.*8-bit pictures.*65535"),
    "images: mode": ({"images": Image.new("LAB", (8, 8))}, "images: got a picture of mode LAB.*RGB"),
    "images: no size": ({"images": Image.new("RGB", (0, 8))}, r"images: got a picture of size \(0, 8\).*one pixel"),
    "images: ragged": ({"images": [[[1, 2], [3]]]}, r"images\[0\]: got rows of unequal length.*cut the rows"),
    "images: url": ({"images": "https://a.org/b.png"}, "images: image: 'https://a.org/b.png' is a URL.*download"),
    "videos: one picture": ({"videos": PICTURE}, r"videos: got .*\(8, 8, 3\).*a single picture belongs to `images=`"),
    "videos: no frames": ({"videos": np.zeros((0, 8, 8, 3))}, "videos: got an empty array"),
    "videos: empty video": ({"videos": [[]]}, r"videos\[0\]: got a video without frames.*one frame"),
    "videos: None": ({"videos": [None]}, r"videos\[0\]: got None"),
    "videos: frame rate": (
        {"videos": {"array": PICTURE[None], "fps": 0}},
        "videos: got fps=0.*frames per second above 0",
    ),
    "videos: keys": ({"videos": {"frames": PICTURE[None]}}, r"videos: got a dictionary.*'array' and 'fps'"),
    "audio: no rate": ({"audio": SOUND}, "audio: got samples without a sampling rate.*sampling_rate=Hz"),
    "audio: zero rate": ({"audio": SOUND, "sampling_rate": 0}, "audio: got sampling_rate=0.*from 1 to"),
    "audio: negative rate": ({"audio": [SOUND], "sampling_rate": -8000}, r"audio\[0\]: got sampling_rate=-8000"),
    "audio: rate in kHz": ({"audio": SOUND, "sampling_rate": 44.1}, "audio: got sampling_rate=44.1.*whole number"),
    "audio: rate as text": ({"audio": SOUND, "sampling_rate": "16k"}, "audio: got sampling_rate='16k'"),
    "audio: infinite rate": ({"audio": SOUND, "sampling_rate": np.inf}, "audio: got sampling_rate=inf"),
    "audio: empty": ({"audio": np.zeros(0), "sampling_rate": 8000}, "audio: got an empty array"),
    "audio: list of numbers": ({"audio": [0.1, 0.2], "sampling_rate": 8000}, r"audio\[0\]: got float.*list of arrays"),
    "audio: channels last": (
        {"audio": np.zeros((500, 2), np.float32), "sampling_rate": 8000},
        r"audio: got shape \(500, 2\).*array\.T",
    ),
    "audio: three axes": ({"audio": np.zeros((1, 2, 9)), "sampling_rate": 8}, r"audio: got shape \(1, 2, 9\)"),
    "audio: int32": ({"audio": np.zeros(9, np.int32), "sampling_rate": 8}, "audio: got samples of dtype int32.*scale"),
    "audio: 16-bit levels as floats": (
        {"audio": SOUND + 20000, "sampling_rate": 8000},
        "audio: got float samples up to 20000.*`samples / 32768`",
    ),
    "audio: NaN": ({"audio": SOUND * np.nan, "sampling_rate": 8000}, "audio: got 100 NaN or infinite"),
    "audio: keys": ({"audio": {"values": SOUND}}, "audio: got a dictionary with keys.*'array' and 'sampling_rate'"),
    "depth: integers": ({"depth": np.zeros((8, 8), np.uint16)}, "depth: got integers.*uint16.*depth_unit='mm'"),
    "depth: 16-bit picture": ({"depth": DEEP}, "depth: got integers.*uint16.*depth_unit='mm'"),
    "depth: millimetres as floats": ({"depth": np.full((8, 8), 2500.0)}, "depth: got float values around 2500.*'mm'"),
    "depth: unknown unit": (
        {"depth": np.ones((8, 8)), "depth_unit": "inch"},
        "depth_unit: got 'inch'.*'m', 'cm', 'mm'",
    ),
    "depth: negative": ({"depth": -np.ones((8, 8))}, "depth: got negative depth -1.*0 metres"),
    "depth: colours": ({"depth": PICTURE}, r"depth: got shape \(8, 8, 3\).*1 channels"),
    "depth: coloured picture": ({"depth": Image.fromarray(PICTURE)}, "depth: got a picture of mode RGB.*original map"),
    "depth: NaN": ({"depth": NAN}, "depth: got 64 NaN or infinite"),
    "depth: stack of maps": ({"depth": np.ones((5, 8, 8))}, r"depth: got shape \(5, 8, 8\).*maps as a list"),
    "thermal: degrees": (
        {"thermal": np.full((8, 8), 36.6)},
        r"thermal: got floats from 36.6 to 36.6.*thermal_range=\(low, high\)",
    ),
    "thermal: int32": ({"thermal": np.zeros((8, 8), np.int32)}, "thermal: got .*int32.*thermal_range"),
    "thermal: range": ({"thermal": NAN * 0 + 1, "thermal_range": (5, 1)}, r"thermal_range: got \[5, 1\].*low < high"),
    "thermal: infinite": ({"thermal": np.full((8, 8), np.inf)}, "thermal: got 64 NaN or infinite"),
    "tactile: float levels": ({"tactile": PICTURE + 9.0}, "tactile: got floats.*divide by 255"),
    "point_clouds: colours": (
        {"point_clouds": np.zeros((9, 6))},
        r"point_clouds: got shape \(9, 6\).*`array\[:, :3\]`",
    ),
    "point_clouds: transposed": ({"point_clouds": np.zeros((3, 9))}, r"point_clouds: got shape \(3, 9\).*array\.T"),
    "point_clouds: flat": ({"point_clouds": np.zeros(9)}, r"point_clouds: got shape \(9,\).*\(points, 3\)"),
    "point_clouds: NaN": ({"point_clouds": HALF_NAN}, r"point_clouds: got 2 NaN or infinite.*index \(1, 1\)"),
    "point_clouds: empty": ({"point_clouds": np.zeros((0, 3))}, r"point_clouds: got an empty array of shape \(0, 3\)"),
    "eeg: too many channels": ({"eeg": np.zeros((17, 500))}, "eeg: got 17 channels.*1 to 16 channels.*select"),
    "eeg: transposed": ({"eeg": np.zeros((500, 8))}, r"eeg: got 500 channels.*array\.T"),
    "eeg: one channel without axis": ({"eeg": np.zeros(500)}, r"eeg: got shape \(500,\).*array\[None\]"),
    "eeg: nested list": ({"eeg": [[0.1, 0.2], [0.3, 0.4]]}, r"eeg\[0\]: got shape \(2,\).*a list is a batch"),
    "eeg: four axes": ({"eeg": np.zeros((1, 2, 3, 4))}, r"eeg: got shape \(1, 2, 3, 4\).*as a list"),
    "eeg: NaN": ({"eeg": [np.zeros((2, 9)), HALF_NAN]}, r"eeg\[1\]: got 2 NaN or infinite"),
    "eeg: beyond float32": ({"eeg": np.full((2, 9), 1e200)}, r"eeg: got values beyond 1e\+18.*another unit"),
    "eeg: booleans": ({"eeg": np.zeros((2, 9), bool)}, "eeg: got an array of booleans"),
    "eeg: rate": ({"eeg": {"array": np.zeros((2, 9)), "sampling_rate": 0}}, "eeg: got sampling_rate=0"),
    "imu: seven axes": ({"imu": np.zeros((7, 100))}, "imu: got 7 channels.*1 to 6 channels"),
    "imu: no samples": ({"imu": np.zeros((6, 0))}, r"imu: got an empty array of shape \(6, 0\)"),
    "imu: object": ({"imu": object()}, "imu: got object.*numpy array"),
    "radar: channels": ({"radar": np.zeros((3, 9))}, r"radar: got shape \(3, 9\).*\(2, time\)"),
    "keyword: image": ({"image": PICTURE}, "image: unknown keyword.*did you mean `images=`"),
    "keyword: point_cloud": ({"point_cloud": PICTURE}, "point_cloud: unknown keyword.*`point_clouds=`"),
    "keyword: video": ({"video": PICTURE}, "video: unknown keyword.*did you mean `videos=`"),
    "keyword: texts": ({"texts": "a"}, "texts: unknown keyword.*did you mean `text=`"),
    "keyword: audios": ({"audios": SOUND}, "audios: unknown keyword.*did you mean `audio=`"),
    "keyword: sonar": ({"sonar": SOUND}, "sonar: unknown keyword.*text, images.*processor.add_modality"),
    "keyword: misspelled option": ({"text": "a", "sample_rate": 1}, "sample_rate: unknown.*`sampling_rate=`"),
    "keyword: parameters": ({"images": PICTURE, "images_kwargs": 3}, "images_kwargs: got 3.*dictionary"),
    "parameter: unknown": (
        {"images": PICTURE, "images_kwargs": {"resample": 3}},
        "CodeBindImageProcessor: got unknown parameter 'resample'.*interpolation",
    ),
    "parameter: of the call": (
        {"images": PICTURE, "images_kwargs": {"return_tensors": "np"}},
        "images_kwargs: got .*; allowed: a dictionary of the sub-processor's parameters",
    ),
    "parameter: number for a name": ({"images": PICTURE, "images_kwargs": {3: 3}}, "images_kwargs: got {3: 3}"),
    "parameter: text for a truth": (
        {"images": PICTURE, "images_kwargs": {"antialias": "no"}},
        "antialias: got 'no'; allowed: True or False",
    ),
    "parameter: NaN": (
        {"eeg": PICTURE[0, :, :2], "eeg_kwargs": {"scale": np.nan}},
        "scale: got nan; allowed: a number",
    ),
    "parameter: misspelled": (
        {"images": PICTURE, "images_kwargs": {"interpolate": "box"}},
        "got unknown parameter 'interpolate'.*did you mean `interpolation`",
    ),
    "parameter: of text": (
        {"text": "a", "text_kwargs": {"lower": 1}},
        "text_kwargs: got unknown.*max_length, padding",
    ),
    "parameter: text length": ({"text": "a", "text_kwargs": {"max_length": 0}}, r"max_length: got 0.*in \[3, "),
    "return_tensors": ({"text": "a", "return_tensors": "tf"}, "return_tensors: got 'tf'.*'pt', 'np' or None"),
}

# name: (keywords, pattern); paths in the keywords are relative to the test's folder
FILE_ERRORS: dict[str, tuple[dict[str, Any], str]] = {
    "images: no such file": (
        {"images": "photo.png"},
        r"images: image file '.*photo.png': no such file.*check the path",
    ),
    "images: text instead": ({"images": "a red ball"}, "images: image file '.*a red ball': no such file"),
    "audio: no such file": ({"audio": ["a.wav"]}, r"audio\[0\]: audio file '.*a.wav': no such file"),
    "eeg: no such file": ({"eeg": Path("a.npy")}, r"eeg: eeg file '.*a.npy': no such file"),
    "depth: broken file": ({"depth": "broken.png"}, r"depth: depth file '.*broken.png': is no .png file"),
    "point_clouds: broken file": ({"point_clouds": "broken.ply"}, r"point_clouds: .*broken.ply': damaged"),
}

PARAMETERS: dict[str, tuple[type, dict[str, Any], str]] = {
    "size": (CodeBindImageProcessor, {"size": 32}, r"size: got 32.*\[height, width\]"),
    "size of zero": (CodeBindImageProcessor, {"size": [0, 32]}, "size: got 0.*at least 1"),
    "interpolation": (CodeBindImageProcessor, {"interpolation": "cubic"}, "interpolation: got 'cubic'.*'bicubic'"),
    "lanczos on tensors": (
        CodeBindImageProcessor,
        {"interpolation": "lanczos", "resize_on": "tensor"},
        "interpolation: got 'lanczos'.*'bilinear'",
    ),
    "resize_mode": (CodeBindImageProcessor, {"resize_mode": "pad"}, "resize_mode: got 'pad'.*'stretch'"),
    "small edge": (CodeBindImageProcessor, {"resize_edge": 16}, "resize_edge: got 16.*at least 32"),
    "mean of two": (CodeBindImageProcessor, {"mean": [0.5, 0.5]}, "mean: got.*1 or 3 numbers"),
    "std of zero": (CodeBindImageProcessor, {"std": [0.0]}, "std: got 0.0"),
    "channels": (CodeBindImageProcessor, {"num_channels": 2}, "num_channels: got 2.*1, 3"),
    "disparity": (CodeBindDepthImageProcessor, {"encoding": "disparity"}, "baseline: got None.*number"),
    "unit of zero": (CodeBindDepthImageProcessor, {"depth_unit": 0}, "depth_unit: got 0"),
    "thermal range": (CodeBindThermalImageProcessor, {"thermal_range": 3}, "thermal_range: got 3.*low, high"),
    "clips": (CodeBindVideoImageProcessor, {"num_clips": 0}, r"num_clips: got 0.*in \[1, "),
    "window": (CodeBindAudioFeatureExtractor, {"window": "gauss"}, "window: got 'gauss'.*'hann'"),
    "short clips": (CodeBindAudioFeatureExtractor, {"clip_seconds": 0.01}, "clip_seconds: got 0.01.*at least 0.025"),
    "boolean count": (CodeBindAudioFeatureExtractor, {"num_clips": True}, "num_clips: got True.*whole number"),
    "transform": (CodeBindAudioFeatureExtractor, {"fft_length": 256}, "fft_length: got 256.*at least 400"),
    "fit": (CodeBindEegFeatureExtractor, {"fit": "stretch"}, "fit: got 'stretch'.*'interpolate', 'pad'"),
    "crop": (CodeBindEegFeatureExtractor, {"time_crop": [20]}, "time_crop: got"),
    "selection": (CodeBindPointFeatureExtractor, {"selection": "first"}, "selection: got 'first'.*'farthest'"),
    "point channels": (CodeBindPointFeatureExtractor, {"num_channels": 4}, "num_channels: got 4; allowed: 3, 6"),
    "unknown": (
        CodeBindPointFeatureExtractor,
        {"points": 3},
        "CodeBindPointFeatureExtractor: got unknown.*num_points",
    ),
}


@pytest.fixture(scope="module")
def processor() -> CodeBindProcessor:
    made = CodeBindProcessor.from_model_config(CodeBindConfig.from_preset("tiny"), build_tokenizer(["a red ball"] * 3))
    made.add_modality("radar", num_channels=2, input_size=[50])
    return made


@pytest.mark.parametrize("name", VALUE_ERRORS)
def test_bad_values_are_refused_by_name_with_the_fix(processor: CodeBindProcessor, name: str) -> None:
    keywords, pattern = VALUE_ERRORS[name]
    with pytest.raises(ValueError, match=re.compile(pattern, re.DOTALL)):
        processor(**keywords)


@pytest.mark.parametrize("name", FILE_ERRORS)
def test_unreadable_files_are_os_errors_that_name_argument_and_file(
    processor: CodeBindProcessor, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for file in ("broken.png", "broken.ply"):
        Path(file).write_text("nothing of the kind")
    keywords, pattern = FILE_ERRORS[name]
    with pytest.raises(OSError, match=pattern):
        processor(**keywords)


@pytest.mark.parametrize("name", PARAMETERS)
def test_bad_parameters_are_refused_when_the_sub_processor_is_made(name: str) -> None:
    cls, parameters, pattern = PARAMETERS[name]
    with pytest.raises(ValueError, match=pattern):
        cls(**parameters)


def test_a_bad_item_does_not_spoil_the_next_call(processor: CodeBindProcessor) -> None:
    expected = processor(images=PICTURE, text="a")
    for keywords, _ in VALUE_ERRORS.values():
        with pytest.raises(ValueError, match=":"):
            processor(**keywords)
    after = processor(images=PICTURE, text="a")
    assert all(torch.equal(after[name], expected[name]) for name in expected)


def test_a_text_encoder_needs_a_tokenizer() -> None:
    with pytest.raises(ValueError, match="tokenizer: got None.*build_tokenizer"):
        CodeBindProcessor.from_model_config(CodeBindConfig.from_preset("tiny"), None)
    with pytest.raises(ValueError, match="tokenizer: got None, but 'text' is among the modalities"):
        CodeBindProcessor(modalities=["text", "image"])


def test_unknown_modalities_and_overrides_are_refused() -> None:
    tokenizer = build_tokenizer(["a red ball"])
    with pytest.raises(ValueError, match=r"modalities: got 'smell'.*'text', 'image'"):
        CodeBindProcessor(tokenizer=tokenizer, modalities=["smell"])
    config = CodeBindConfig.from_preset("tiny")
    with pytest.raises(ValueError, match="overrides: got unknown argument 'sound'.*audio"):
        CodeBindProcessor.from_model_config(config, tokenizer, sound={})
    with pytest.raises(ValueError, match="overrides.*'lower'.*max_length, padding"):
        CodeBindProcessor.from_model_config(config, tokenizer, text={"lower": True})


@pytest.mark.parametrize("name", ["images", "image", "Radar", "my modality", "radar", "sampling_rate", "", 3])
def test_added_modalities_need_a_free_name(processor: CodeBindProcessor, name: Any) -> None:
    with pytest.raises(ValueError, match="name: got .*a new lower-case identifier.*taken: "):
        processor.add_modality(name, num_channels=1, input_size=[8])


def test_added_modalities_need_sound_sizes(processor: CodeBindProcessor) -> None:
    with pytest.raises(ValueError, match=r"input_size: got \[1, 2, 3\].*\[time\] or \[height, width\]"):
        processor.add_modality("lidar", num_channels=1, input_size=[1, 2, 3])
    with pytest.raises(ValueError, match="num_channels: got 0"):
        processor.add_modality("lidar", num_channels=0, input_size=[8])
    with pytest.raises(ValueError, match="unknown parameter 'colour'"):
        processor.add_modality("lidar", num_channels=1, input_size=[8], colour=True)


def test_a_rated_processor_asks_for_the_rate() -> None:
    extractor = CodeBindEegFeatureExtractor(sampling_rate=250)
    with pytest.raises(ValueError, match="eeg: got a recording without a sampling rate.*'sampling_rate': Hz"):
        extractor(np.zeros((2, 100)))
    with pytest.raises(ValueError, match=r"eeg\[0\]: got 15 samples.*20 that time_crop leaves out.*time_crop=None"):
        CodeBindEegFeatureExtractor(time_crop=[20, 40])([np.zeros((2, 15))])


def test_timed_clips_ask_for_the_frame_rate() -> None:
    with pytest.raises(
        ValueError, match="videos: got no frame rate.*'fps': rate.*videos_kwargs=.'clip_seconds': None"
    ):
        CodeBindVideoImageProcessor(clip_seconds=2.0)(np.zeros((4, 8, 8, 3), np.uint8))


def test_a_folder_without_sub_processors_is_an_os_error(processor: CodeBindProcessor, tmp_path: Path) -> None:
    processor.save_pretrained(tmp_path)
    (tmp_path / "processor_config.json").write_text('{"processor_class": "CodeBindProcessor"}')
    with pytest.raises(OSError, match=r"processor_config.json: holds no parameters for 'image_processor'"):
        CodeBindProcessor.from_pretrained(tmp_path)


def test_the_advice_for_half_characters_keeps_whole_ones(processor: CodeBindProcessor) -> None:
    halves = "a \ud83d\ude00 b\ud83d"
    with pytest.raises(ValueError, match="surrogatepass"):
        processor(text=halves)
    whole = halves.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert whole == "a \U0001f600 b\ufffd"
    assert processor(text=whole)["input_ids"].shape[0] == 1


def test_a_picture_that_is_cut_short_is_named_when_it_is_read(processor: CodeBindProcessor, tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:5000])
    with (
        Image.open(tmp_path / "b.png") as picture,
        pytest.raises(OSError, match=r"images\[1\]: got a picture that can"),
    ):
        processor(images=[PICTURE, picture])


@pytest.mark.parametrize("argument", ["point_clouds", "tactile"])
def test_the_name_of_a_file_that_is_refused_is_cut_where_it_is_endless(
    processor: CodeBindProcessor, argument: str
) -> None:
    value = {"array": "a" * 3000, "sampling_rate": -1}
    with pytest.raises(ValueError, match=f"{argument}: .* file 'a{{997}}\\.\\.\\.': got .*; allowed: ") as error:
        processor(**{argument: value})
    assert len(str(error.value)) < 2000


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        (
            {"audio": np.ones(9), "audio_kwargs": {"window_length": 10**400}},
            r"window_length: got 1000.*in \[1, 9223372036",
        ),
        (
            {"imu": np.ones((6, 9)), "imu_kwargs": {"num_samples": 10**400}},
            r"num_samples: got 1000.*in \[1, 9223372036",
        ),
        ({"audio": np.ones(9), "audio_kwargs": {"std": 10**400}}, r"std: got 1000.*in \[1e-12, 1.79"),
        (
            {"eeg": np.ones((16, 9)), "eeg_kwargs": {"channels": [10**5000]}},
            "channels: got list.*; allowed: None or a list",
        ),
        ({"eeg": {"samples": 1}, "eeg_kwargs": {"channels": ["a"]}}, "eeg: channels: got .'a'. for an array"),
        ({"eeg": {"samples": 1}, "eeg_kwargs": {"channels": ["a"], "montage": ["a"]}}, "eeg: got .*samples"),
        (
            {"eeg": np.ones((1, 9)), "eeg_kwargs": {"channels": ["b"], "montage": ["a"] + ["c" * 3000]}},
            "channels: got 'b'",
        ),
    ],
)
def test_numbers_and_names_without_end_are_refused_in_a_line(
    processor: CodeBindProcessor, keywords: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        processor(**keywords)
    assert len(str(error.value)) < 1000
