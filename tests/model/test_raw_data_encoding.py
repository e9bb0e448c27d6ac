"""`encode`, `similarity` and `probabilities`: any items, in their order, in bounded memory."""

import http.server
import io
import re
import tempfile
import threading
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from common import small_config, tiny_model
from memory import peak_memory
from PIL import Image as Pillow

from codebind_hf.model.modeling_codebind import CodeBindModel
from codebind_hf.model.raw_data_encoding import ClipEmbeds
from codebind_hf.processing.items import Audio, Depth, Eeg, Image, PointCloud, Sensor, Text, Thermal, Video
from codebind_hf.processing.processing_codebind import CodeBindProcessor
from codebind_hf.training.tokenization import build_tokenizer


NAMES = ("text", "image", "video", "audio", "depth", "thermal", "point_cloud", "eeg")


@pytest.fixture(scope="module")
def model() -> CodeBindModel:
    config = small_config(*NAMES, text_config={"vocab_size": 600})
    config.text_config.bos_token_id, config.text_config.eos_token_id, config.text_config.pad_token_id = 0, 1, 2
    return tiny_model(config)


@pytest.fixture(scope="module")
def processor(model: CodeBindModel) -> CodeBindProcessor:
    tokenizer = build_tokenizer(["a red ball", "a bell"], vocab_size=600, max_length=12)
    clips = {"num_clips": 2, "clip_seconds": 0.25, "num_mel_bins": 14, "num_frames": 18}
    return CodeBindProcessor.from_model_config(model.config, tokenizer, audio=clips)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def picture(seed: int = 0) -> Pillow.Image:
    return Pillow.fromarray(rng(seed).integers(0, 256, (30, 40, 3), dtype=np.uint8))


def sound(seconds: float = 1.0, seed: int = 0, rate: int = 16_000) -> dict[str, Any]:
    return {"array": (0.1 * rng(seed).normal(size=round(seconds * rate))).astype(np.float32), "sampling_rate": rate}


def wav(file: Path, seconds: float, rate: int = 16_000, seed: int = 0) -> Path:
    with wave.open(str(file), "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(2)
        stream.setframerate(rate)
        generator = rng(seed)
        for _ in range(round(seconds)):
            stream.writeframes(generator.integers(-3000, 3000, rate, dtype=np.int16).tobytes())
    return file


# Any items, in their order


def test_a_mixed_list_keeps_its_order_and_equals_every_modality_by_itself(
    model: CodeBindModel, processor: CodeBindProcessor, tmp_path: Path
) -> None:
    depth = rng().uniform(0.5, 4, (20, 30)).astype(np.float32)
    picture(1).save(tmp_path / "a.png")
    wav(tmp_path / "a.wav", 1)
    np.save(tmp_path / "eeg.npy", rng().normal(size=(5, 60)))
    items = [
        "a red ball",
        picture(),
        sound(),
        {"depth": depth},
        Depth((depth * 1000).astype(np.uint16), unit="mm"),
        tmp_path / "a.png",
        str(tmp_path / "a.wav"),
        Text("a.png"),
        Eeg(tmp_path / "eeg.npy"),
        PointCloud(rng().normal(size=(50, 3))),
        Text("missing.png"),
        Thermal(np.full((20, 30), 30.0), range=(0.0, 60.0)),
        Audio(sound()["array"], sampling_rate=16_000),
    ]
    found = model.encode(items, processor, batch_size=2)
    assert found.shape == (13, 24)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    expected = model.encode(
        {
            "text": ["a red ball", "a.png", "missing.png"],
            "image": [picture(), picture(1)],
            "audio": [sound(), str(tmp_path / "a.wav")],
            "depth": [depth],
            "eeg": [np.load(tmp_path / "eeg.npy")],
        },
        processor,
        quantize=False,
    )
    continuous = model.encode(items, processor, batch_size=3, quantize=False)
    rows = {"text": [0, 7, 10], "image": [1, 5], "audio": [2, 6], "depth": [3], "eeg": [8]}
    for modality, places in rows.items():
        np.testing.assert_allclose(continuous[places], expected[modality], atol=1e-5)
    # Millimetres are metres, up to their rounding, and a wrapped sound is the same sound.
    np.testing.assert_allclose(continuous[4], continuous[3], atol=1e-2)
    np.testing.assert_allclose(continuous[12], continuous[2], atol=1e-6)


@pytest.mark.parametrize("even_segments", [False, True])
def test_embeddings_are_those_of_the_forward_pass(
    model: CodeBindModel, processor: CodeBindProcessor, even_segments: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model.codebooks, "even_segments", even_segments)
    sounds, texts = [sound(seed=i) for i in range(3)], ["a", "a bell"]
    with torch.no_grad():
        output = model(**processor(audio=sounds, text=texts))
    found = model.encode({"audio": sounds, "text": texts}, processor, output="torch", quantize=False)
    codes = model.encode({"audio": sounds, "text": texts}, processor, output="codes")
    quantized = model.encode({"audio": sounds, "text": texts}, processor, output="torch")
    for modality in ("audio", "text"):
        torch.testing.assert_close(found[modality], output.continuous_embeds[modality], rtol=0, atol=1e-5)
        assert torch.equal(codes[modality], output.codes[modality].shared)
        assert torch.equal(quantized[modality], model.codes_to_embeds(codes[modality], modality))


@pytest.mark.parametrize("num_workers", [0, 3])
def test_a_stream_is_read_as_it_is_needed(
    model: CodeBindModel, processor: CodeBindProcessor, num_workers: int
) -> None:
    taken = 0

    def items() -> Iterator[Any]:
        nonlocal taken
        for i in range(400):
            taken += 1
            # One sound among many texts must not hold the others back.
            yield sound(0.3) if i == 3 else f"a bell {i}"

    stream = model.encode_stream(items(), processor, batch_size=4, num_workers=num_workers)
    first = [next(stream) for _ in range(8)]
    assert taken < 80
    rest = list(stream)
    assert taken == 400 == len(first) + len(rest)
    assert not model.training
    whole = model.encode([sound(0.3) if i == 3 else f"a bell {i}" for i in range(400)], processor, batch_size=50)
    assert (np.stack(first + rest) * whole).sum(1).min() > 0.9


def test_clips_do_not_hold_back_what_waits_for_its_batch(model: CodeBindModel, processor: CodeBindProcessor) -> None:
    taken = 0

    def items() -> Iterator[Any]:
        nonlocal taken
        yield "a bell"
        for i in range(300):
            taken += 1
            yield sound(0.3, seed=i)

    stream = model.encode_stream(items(), processor, batch_size=2, clips="sliding")
    next(stream)
    assert taken < 40
    stream.close()


def test_rows_may_be_trained_on(model: CodeBindModel, processor: CodeBindProcessor) -> None:
    head = torch.nn.Linear(24, 2)
    rows = [next(model.encode_stream(["a bell"], processor, output="torch"))]
    rows.append(model.encode([sound()], processor, output="torch", clips="sliding", pool="none")[0].embeds)
    for row in rows:
        head(row).sum().backward()
    assert head.weight.grad is not None


def test_a_stream_that_is_closed_puts_the_mode_back(model: CodeBindModel, processor: CodeBindProcessor) -> None:
    model.train()
    stream = model.encode_stream(["a"] * 9, processor, batch_size=2, num_workers=1)
    next(stream)
    assert not model.training
    stream.close()
    assert model.training
    model.eval()


# Recordings of any length


def test_one_number_of_clips_is_the_processors(model: CodeBindModel, processor: CodeBindProcessor) -> None:
    found = model.encode([sound(2.0)], processor, clips=5, quantize=False)
    processed = processor(audio=[sound(2.0)], audio_kwargs={"num_clips": 5})
    with torch.no_grad():
        expected = model(**processed, quantize=False).embeds["audio"]
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("seconds", [0.1, 0.25, 0.9, 3.1])
@pytest.mark.parametrize("normalize_clips", [True, False])
def test_sliding_clips_are_the_mean_of_all_clips(
    model: CodeBindModel, processor: CodeBindProcessor, seconds: float, normalize_clips: bool
) -> None:
    """Also when they do not fit into one batch."""
    model.encoders["audio"].config.normalize_clips = normalize_clips
    try:
        (clips,) = model.encode([sound(seconds)], processor, clips="sliding", pool="none", quantize=False)
        pooled = model.encode([sound(seconds)], processor, batch_size=3, clips="sliding", quantize=False)[0]
        part = processor.feature_extractor
        windows = part.windows(sound(seconds), "audio", "sliding", None)
        values = np.concatenate([windows.values(i) for i in range(len(windows.starts))])
        with torch.no_grad():
            expected = model(input_features=torch.from_numpy(values)[None], quantize=False).embeds["audio"][0]
    finally:
        model.encoders["audio"].config.normalize_clips = True
    np.testing.assert_allclose(pooled, expected.numpy(), atol=1e-5)
    assert clips.starts == windows.starts
    assert clips.seconds == 0.25
    assert clips.embeds.shape == (len(clips.starts), 24)
    np.testing.assert_allclose(np.linalg.norm(clips.embeds, axis=1), 1, atol=1e-5)
    assert clips.starts[-1] == pytest.approx(max(seconds - 0.25, 0), abs=1e-4)


def test_clips_of_a_video_have_their_times(model: CodeBindModel, processor: CodeBindProcessor, tmp_path: Path) -> None:
    frames = rng().integers(0, 256, (45, 20, 30, 3), dtype=np.uint8)
    np.save(tmp_path / "v.npy", frames)
    for value in (
        Video(frames, fps=5.0),
        Video(tmp_path / "v.npy", fps=5.0),
        {"video": {"array": frames, "fps": 5.0}},
    ):
        (clips,) = model.encode([value], processor, clips="sliding", hop_seconds=1.0, pool="none")
        # Windows of two seconds, one every second of nine.
        assert clips.starts == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
        assert clips.seconds == 2.0
        assert clips.embeds.shape == (8, 24)
    with pytest.raises(ValueError, match=r"items\[0\]: got a video without its frame rate"):
        model.encode([Video(frames)], processor, clips="sliding")


@pytest.mark.slow
def test_threads_share_a_film(model: CodeBindModel, processor: CodeBindProcessor, tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p"
        for image in rng().integers(0, 256, (100, 24, 32, 3), dtype=np.uint8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    options = {"clips": "sliding", "hop_seconds": 0.5, "pool": "none", "batch_size": 1}
    (alone,) = model.encode([tmp_path / "a.mp4"], processor, **options)
    for _ in range(3):
        (together,) = model.encode([tmp_path / "a.mp4"], processor, num_workers=3, **options)
        assert together.starts == alone.starts
        np.testing.assert_array_equal(together.embeds, alone.embeds)


def test_items_that_are_no_recordings_are_one_clip(model: CodeBindModel, processor: CodeBindProcessor) -> None:
    found = model.encode(["a bell", sound(0.6), picture()], processor, pool="none", clips="sliding", output="codes")
    assert [type(row) for row in found] == [ClipEmbeds] * 3
    assert [row.starts for row in found] == [[0.0], [0.0, 0.25, 0.35], [0.0]]
    assert [tuple(row.embeds.shape) for row in found] == [(1, 6), (3, 6), (1, 6)]


_SETUP = """
import sys, warnings
warnings.simplefilter("ignore")
sys.path.insert(0, {tests!r})
import numpy as np, torch
torch.set_num_threads(1)
from codebind_hf import CodeBindConfig, CodeBindModel, CodeBindProcessor
from codebind_hf.training.tokenization import build_tokenizer
config = CodeBindConfig.from_preset("tiny").restricted_to(["text", "audio", "eeg"])
model = CodeBindModel(config).eval()
processor = CodeBindProcessor.from_model_config(config, build_tokenizer(["a"]))
def sounds(count):
    for i in range(count):
        yield {{"array": np.full(4000, i / count, np.float32), "sampling_rate": 16000}}
def recordings(count):
    for i in range(count):
        yield {{"eeg": np.full((16, 8192), i / count, np.float32)}}
model.encode(list(sounds(40)), processor)
"""


@pytest.mark.slow
def test_an_hour_of_sound_needs_less_than_500_megabytes(tmp_path: Path) -> None:
    file = wav(tmp_path / "hour.wav", 3600, rate=16_000)
    setup = _SETUP.format(tests=str(Path(__file__).parents[1]))
    work = f"clips = model.encode([{str(file)!r}], processor, clips='sliding', pool='none')[0]"
    assert peak_memory(setup, f"{work}\nassert clips.embeds.shape == (3600, 64), clips.embeds.shape") < 500e6


def peak_of_stream(items: str, count: int, batch_size: int) -> int:
    setup = _SETUP.format(tests=str(Path(__file__).parents[1]))
    work = f"total = sum(1 for _ in model.encode_stream({items}({count}), processor, batch_size={batch_size}))"
    return peak_memory("", f"{setup}\n{work}\nassert total == {count}")


@pytest.mark.slow
def test_a_stream_ten_times_as_long_needs_no_more_memory() -> None:
    """1,000 recordings of half a megabyte against 100: the peak of the whole process, 1.3 times at the most."""
    assert peak_of_stream("recordings", 1000, 16) < 1.3 * peak_of_stream("recordings", 100, 16)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_stream_of_20_000_sounds_needs_no_more_memory_than_one_of_2_000() -> None:
    assert peak_of_stream("sounds", 20_000, 64) < 1.3 * peak_of_stream("sounds", 2000, 64)


# What is refused


@pytest.mark.parametrize(
    ("items", "options", "message"),
    [
        ([np.zeros((3, 4))], {}, r"items\[0\]: got ndarray of shape \(3, 4\).*Depth\(array, unit='m'\)"),
        (["a", 3], {}, r"items\[1\]: got int; allowed: an item whose modality is known"),
        ([Path("a.npy")], {}, r"items\[0\]: got 'a.npy', which may be of several modalities.*Depth\(path\)"),
        ([Sensor(np.zeros(3), "radar")], {}, r"items\[0\]: 'radar' is not in this checkpoint; it has text, image"),
        (["https://example.org/a.png"], {}, r"items\[0\]: got the URL 'https://example.org/a.png'.*allow_urls=True"),
        ({"image": ["https://example.org/a.png"]}, {}, r"items\['image'\]\[0\]: got the URL .*allow_urls=True"),
        (["s3://bucket/a.png"], {"allow_urls": True}, r"items\[0\]: got a URL with s3://; allowed: http://"),
        (["https://example.org/a"], {"allow_urls": True}, r"items\[0\]: got 'https://example.org/a', a file with the"),
        (["a"], {"clips": 0}, "clips: got 0; allowed: 'uniform', 'sliding', or a number"),
        (["a"], {"clips": "all"}, "clips: got 'all'"),
        (["a"], {"pool": "max"}, "pool: got 'max'; allowed: 'mean', 'none'"),
        (["a"], {"hop_seconds": 1.0}, "hop_seconds: got 1.0; it is above 0, and only for clips='sliding'"),
        (["a"], {"num_workers": -1}, r"num_workers: got -1; allowed: a whole number in \[0, "),
    ],
)
def test_bad_items_and_options_are_named(
    model: CodeBindModel, processor: CodeBindProcessor, items: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        model.encode(items, processor, **options)


def test_urls_are_fetched_when_they_are_allowed(
    model: CodeBindModel, processor: CodeBindProcessor, tmp_path: Path
) -> None:
    picture().save(tmp_path / "a.png")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(tmp_path))

        def log_message(self, *args: Any) -> None:
            """Nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_address[1]}/a.png"
        found = model.encode([url, Image(url), Text(url)], processor, allow_urls=True)
        with pytest.raises(OSError, match=r"items\[0\]: http.*/b\.png cannot be fetched"):
            model.encode([url.replace("a.png", "b.png")], processor, allow_urls=True)
    finally:
        server.shutdown()
        server.server_close()
    expected = model.encode([tmp_path / "a.png"], processor)
    np.testing.assert_allclose(found[:2], np.repeat(expected, 2, axis=0), atol=1e-6)
    assert not np.allclose(found[2], found[0])


def test_words_are_not_taken_for_files_nor_files_for_words(
    model: CodeBindModel, processor: CodeBindProcessor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bell").mkdir()
    (tmp_path / "frames" / "a").mkdir(parents=True)
    picture().save(tmp_path / "frames" / "a" / "0.png")
    np.save(tmp_path / "map.npy", np.ones((4, 4)))
    np.testing.assert_array_equal(
        model.encode(["bell", "e.g. 1.5"], processor), model.encode([Text("bell"), Text("e.g. 1.5")], processor)
    )
    np.testing.assert_array_equal(
        model.encode(["frames/a"], processor), model.encode([Video(tmp_path / "frames" / "a")], processor)
    )
    for value, message in {
        "map.npy": r"got 'map.npy', which may be of several modalities",
        "nope.wav": r"got 'nope.wav', which ends like a file and names none",
    }.items():
        with pytest.raises(ValueError, match=rf"items\[1\]: {message}"):
            model.encode(["a bell", value], processor)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_bad_item_has_its_place_in_the_whole_list(
    model: CodeBindModel, processor: CodeBindProcessor, num_workers: int
) -> None:
    depths: list[Any] = [{"depth": np.ones((4, 4), np.float32)} for _ in range(20)]
    depths[17] = {"depth": np.full((4, 4), np.nan, np.float32)}
    mixed = [one for depth in depths for one in ("a bell", depth)]
    options = {"batch_size": 4, "num_workers": num_workers}
    with pytest.raises(ValueError, match=r"^items\[35\]: "):
        model.encode(mixed, processor, **options)
    with pytest.raises(ValueError, match=r"^items\['depth'\]\[17\]: "):
        model.encode({"depth": [one["depth"] for one in depths]}, processor, **options)


# Bad items that are skipped, or leave an empty row


def mixed_items(tmp_path: Path) -> tuple[list[Any], list[int]]:
    """Items of several modalities and the places of those that cannot be used, each for another reason."""
    nan, ones = np.full((4, 4), np.nan, np.float32), np.ones((4, 4), np.float32)
    items: list[Any] = ["a bell", {"depth": nan}, picture(), {"depth": ones}]
    items += [3, str(wav(tmp_path / "a.wav", 2)), Path("gone.png"), "https://example.org/a.png", "a red ball"]
    items += [Sensor(np.zeros(3), "radar"), {"audio": {"array": [1.0], "sampling_rate": 0}}, "half \ud800"]
    return items, [1, 4, 6, 7, 9, 10, 11]


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_bad_items_leave_a_row_of_nan_or_none_at_all(
    model: CodeBindModel,
    processor: CodeBindProcessor,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    batch_size: int,
    num_workers: int,
) -> None:
    items, bad = mixed_items(tmp_path)
    good = [place for place in range(len(items)) if place not in bad]
    options = {"batch_size": batch_size, "num_workers": num_workers}
    expected = model.encode([items[place] for place in good], processor)
    found = model.encode(items, processor, on_error="null", **options)
    assert found.shape == (len(items), 24)
    assert np.isnan(found[bad]).all()
    np.testing.assert_allclose(found[good], expected, atol=1e-5)
    named = [re.match(r"items\[(\d+)\]", record.getMessage()) for record in caplog.records]
    assert sorted(int(match[1]) for match in named if match) == bad
    skipped = model.encode(items, processor, on_error="skip", **options)
    np.testing.assert_array_equal(skipped, found[good])
    streamed = list(model.encode_stream(items, processor, on_error="null", **options))
    np.testing.assert_array_equal(np.stack(streamed), found)


def test_bad_items_have_codes_of_minus_one_and_no_clips(
    model: CodeBindModel, processor: CodeBindProcessor, tmp_path: Path
) -> None:
    items, bad = mixed_items(tmp_path)
    codes = model.encode(items, processor, output="codes", on_error="null")
    assert [place for place, row in enumerate(codes) if (row == -1).all()] == bad
    assert codes.shape == (len(items), 6)
    clips = model.encode(items, processor, pool="none", on_error="null")
    assert [place for place, row in enumerate(clips) if row is None] == bad
    assert len(model.encode(items, processor, pool="none", on_error="skip")) == len(items) - len(bad)


@pytest.mark.parametrize("on_error", ["skip", "null"])
def test_a_recording_that_breaks_off_is_lost_as_a_whole(
    model: CodeBindModel, processor: CodeBindProcessor, caplog: pytest.LogCaptureFixture, on_error: str
) -> None:
    """Its first clips were embedded before the broken one was reached: they must not count for the next item."""
    frames = np.zeros((64, 8, 8, 3), np.float32)
    frames[48:] = np.nan
    items = [Video(frames, fps=8.0), Audio(sound()["array"], 16_000), "a bell"]
    options = {"clips": "sliding", "batch_size": 2, "on_error": on_error}
    found = model.encode(items, processor, **options)
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == ["items[0] frame 48"]
    alone = model.encode(items[1:], processor, **options)
    np.testing.assert_allclose(found[-2:], alone, atol=1e-6)
    assert np.isnan(found[:-2]).all()
    assert len(found) == (2 if on_error == "skip" else 3)


def test_items_that_are_all_bad_are_an_error_only_where_nothing_is_left(
    model: CodeBindModel, processor: CodeBindProcessor
) -> None:
    with pytest.raises(ValueError, match="items: got nothing; expected one value or more that can be used"):
        model.encode([3, 4], processor, on_error="skip")
    assert np.isnan(model.encode([3, 4], processor, on_error="null")).all()
    with pytest.raises(ValueError, match="on_error: got 'ignore'; allowed: 'raise', 'skip', 'null'"):
        model.encode(["a"], processor, on_error="ignore")


def test_an_error_of_the_callers_iterator_is_never_skipped(model: CodeBindModel, processor: CodeBindProcessor) -> None:
    def items() -> Iterator[str]:
        yield "a bell"
        raise ValueError("of the caller")

    with pytest.raises(ValueError, match="of the caller"):
        model.encode(items(), processor, on_error="skip")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": "x"}, "batch_size: got 'x'; allowed: a whole number"),
        ({"batch_size": True}, "batch_size: got True; allowed: a whole number"),
        ({"batch_size": 1.5}, "batch_size: got 1.5; allowed: a whole number"),
        ({"num_workers": None}, "num_workers: got None; allowed: a whole number"),
        ({"clips": 2.0}, "clips: got 2.0; allowed: a text or a whole number"),
        ({"clips": "sliding", "hop_seconds": float("nan")}, "hop_seconds: got nan; allowed: a finite number or None"),
        ({"clips": "sliding", "hop_seconds": "1"}, "hop_seconds: got '1'; allowed: a finite number or None"),
        ({"allow_urls": "yes"}, "allow_urls: got 'yes'; allowed: True or False"),
        ({"quantize": 1}, "quantize: got 1; allowed: True, False"),
        ({"progress": "no"}, "progress: got 'no'; allowed: True, False"),
        ({"output": np.zeros(3)}, "output: got array.*; allowed: 'numpy', 'torch', 'codes'"),
        ({"batchsize": 3}, "encode: got unknown parameter 'batchsize'.*did you mean `batch_size`"),
    ],
)
def test_options_of_a_wrong_type_are_named(
    model: CodeBindModel, processor: CodeBindProcessor, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        model.encode_stream(["a"], processor, **options)


@contextmanager
def answering(respond: Callable[[http.server.BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """The address of a server that answers every request so."""

    class Handler(http.server.BaseHTTPRequestHandler):
        do_GET = respond

        def log_message(self, *args: Any) -> None:
            """Nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/a.png"
    finally:
        server.shutdown()
        server.server_close()


def headed(status: int, body: bytes = b"", **headers: str) -> Callable[[http.server.BaseHTTPRequestHandler], None]:
    def respond(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return respond


@pytest.mark.parametrize(
    ("respond", "message"),
    [
        pytest.param(headed(200, b"x" * 500, content_length="1000"), "cut short: 500 of 1000 bytes", id="cut"),
        pytest.param(headed(200, b"5\r\nab", transfer_encoding="chunked"), "cannot be fetched", id="cut-chunk"),
        pytest.param(headed(302, location="ftp://127.0.0.1/a.png"), "it redirects to ftp://", id="other-scheme"),
        pytest.param(headed(500), "cannot be fetched .*500", id="error"),
    ],
)
def test_downloads_that_fail_name_the_item(
    model: CodeBindModel, processor: CodeBindProcessor, respond: Any, message: str
) -> None:
    with answering(respond) as url, pytest.raises(OSError, match=rf"items\[0\]: http.*{message}"):
        model.encode([url], processor, allow_urls=True)


def test_a_url_with_a_space_is_named(model: CodeBindModel, processor: CodeBindProcessor) -> None:
    with pytest.raises(OSError, match=r"items\[0\]: http://127.0.0.1/my file.wav cannot be fetched"):
        model.encode(["http://127.0.0.1/my file.wav"], processor, allow_urls=True)


def test_a_downloaded_file_is_gone_when_its_row_is_there(
    model: CodeBindModel, processor: CodeBindProcessor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    stored = io.BytesIO()
    picture().save(stored, "PNG")
    with answering(headed(200, stored.getvalue())) as url:
        stream = model.encode_stream([url] * 4, processor, batch_size=1, allow_urls=True)
        for _ in range(3):
            next(stream)
            assert len([path for path in tmp_path.rglob("*") if path.is_file()]) <= 1
        stream.close()
    assert not any(tmp_path.iterdir())


# Scores


def test_similarity_is_the_cosine_and_probabilities_apply_the_scale(model: CodeBindModel) -> None:
    first, second = rng(1).normal(size=(3, 24)).astype(np.float32), rng(2).normal(size=(5, 24)).astype(np.float32)
    found = model.similarity(first, second)
    for i in range(3):
        for j in range(5):
            cosine = first[i] @ second[j] / np.linalg.norm(first[i]) / np.linalg.norm(second[j])
            assert found[i, j] == pytest.approx(cosine, abs=1e-6)
    scores = np.exp(model.logit_scale().item() * found)
    np.testing.assert_allclose(model.probabilities(first, second), scores / scores.sum(1, keepdims=True), rtol=1e-4)
    tensor = model.similarity(torch.from_numpy(first[0]), torch.from_numpy(second))
    assert isinstance(tensor, torch.Tensor)
    np.testing.assert_allclose(tensor.numpy(), found[:1], atol=1e-6)
    with pytest.raises(ValueError, match="second: got embeddings of 4 numbers; `first` has 24"):
        model.similarity(first, second[:, :4])
    with pytest.raises(ValueError, match=r"first: got torch.int64 of shape \(3,\)"):
        model.similarity(torch.arange(3), second)


def test_similarity_reads_embeddings_however_they_are_stored(model: CodeBindModel) -> None:
    first, second = rng(1).normal(size=(3, 24)).astype(np.float32), rng(2).normal(size=(5, 24)).astype(np.float32)
    expected = model.similarity(first, second)
    stored = (first.tolist(), first.astype(">f4"), first.astype(object), first.astype(np.longdouble), list(first))
    for other in (*stored, np.ma.MaskedArray(first), torch.from_numpy(first).requires_grad_()):
        np.testing.assert_allclose(torch.as_tensor(model.similarity(other, second)).detach(), expected, atol=1e-6)
    # A tensor that learns, as the second, has no part in the type of the answer.
    assert isinstance(model.similarity(first, torch.from_numpy(second).requires_grad_()), np.ndarray)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_similarity_and_probabilities_refuse_what_has_no_cosine(model: CodeBindModel, value: float) -> None:
    good, bad = np.ones((4, 24)), np.ones((4, 24))
    bad[2, 5] = value
    for call in (model.similarity, model.probabilities):
        with pytest.raises(ValueError, match=r"first: got NaN, infinite or too large numbers, first in row 2. Fix: "):
            call(bad, good)
        with pytest.raises(ValueError, match="second: got NaN, infinite or too large"):
            call(good, torch.from_numpy(bad))
    # What the message advises.
    kept = bad[np.isfinite(bad).all(-1)]
    if not np.isfinite(value):
        assert model.similarity(kept, good).shape == (3, 4)
