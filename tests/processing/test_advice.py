"""What a message advises is done, and gives what is right: no advice about values is left that nobody followed."""

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

import codebind_hf.processing
from codebind_hf import CodeBindProcessor
from codebind_hf.processing.feature_reading import FeatureReader


CHANCE = np.random.default_rng(0)
CODE = re.compile(r"`([^`\n]+)`")
ABOUT_VALUES = re.compile(r"values|samples|array|frames|picture|\.astype|np\.|text\.|invalid")
GREY = np.linspace(0, 1, 40 * 30).reshape(30, 40, 1).repeat(3, axis=2)
SOUND = 0.5 * np.sin(np.arange(16000) / 20)
SIGNAL = np.cumsum(CHANCE.normal(size=(5, 90)), axis=1)
CLOUD = CHANCE.normal(size=(200, 3))
FRAMES = CHANCE.integers(0, 255, (4, 30, 40, 3), dtype=np.uint8)
MAP = 2 + np.sin(np.mgrid[:30, :40][1] / 9)


class Case(NamedTuple):
    """An advice: its code as it stands in the source, what is refused, and what would have been right.

    Args:
        call: of the processor, with a value and keywords.
        tolerance: of the tensors.
    """

    code: str
    refused: Any
    right: Any
    call: Callable[..., Any]
    tolerance: float = 1e-4
    keywords: dict[str, Any] = {}  # noqa: RUF012


def calls(processor: CodeBindProcessor) -> dict[str, Callable[..., Any]]:
    def of(argument: str) -> Callable[..., Any]:
        return lambda value, **keywords: next(iter(processor(**{argument: value}, **keywords).values()))

    return {name: of(name) for name in ("images", "depth", "audio", "eeg", "imu", "point_clouds", "videos", "text")}


def sampled(dtype: Any, bits: int, unsigned: bool = False) -> np.ndarray:
    half = 2 ** (bits - 1)
    return (SOUND * half + (half if unsigned else 0)).round().astype(dtype)


def rounded(bits: int) -> np.ndarray:
    """What is left of the sound with so many bits."""
    return (SOUND * 2 ** (bits - 1)).round() / 2 ** (bits - 1)


DO = calls(CodeBindProcessor())
SIGNALS = np.linspace(0, 1, 5)
RATE = {"sampling_rate": 16000}
RECORDS = np.array([tuple(row) for row in SIGNAL.T], dtype=[(name, "f8") for name in "abcde"])
GAPS = np.where(CHANCE.random(SIGNAL.shape) < 0.02, np.nan, SIGNAL)
HOLES = np.where(CHANCE.random(MAP.shape) < 0.05, np.nan, MAP)
CASES: dict[str, Case] = {
    "missing pixels": Case("depth_kwargs={'invalid': 'fill'}", HOLES, MAP, DO["depth"], 0.15),
    "missing samples": Case("depth_kwargs={'invalid': 'fill'}", GAPS, SIGNAL, DO["eeg"], 0.5),
    "missing points": Case(
        "point_clouds_kwargs={'invalid': 'drop'}", np.insert(CLOUD, 50, np.nan, axis=0), CLOUD, DO["point_clouds"]
    ),
    "complex": Case("abs(values)", SIGNAL * 1j, np.abs(SIGNAL), DO["eeg"]),
    "instants": Case(
        "(values - values[0]) / np.timedelta64(1, 's')",
        np.datetime64("2026-01-01T00:00:00") + np.arange(80).reshape(2, 40).astype("m8[s]"),
        (np.arange(80).reshape(2, 40) - np.arange(40)).astype(float),
        DO["imu"],
    ),
    "durations": Case(
        "values / np.timedelta64(1, 's')", np.arange(80).reshape(2, 40).astype("m8[s]"), None, DO["imu"]
    ),
    "spelled numbers": Case(".astype(np.float32)", SIGNAL.astype("U20"), SIGNAL, DO["eeg"]),
    "spelled bytes": Case(".astype(np.float32)", SIGNAL.astype("S20"), SIGNAL, DO["eeg"]),
    "records": Case(
        "np.stack([values[name] for name in values.dtype.names], -1)", RECORDS, SIGNAL.T, lambda x, **_: DO["eeg"](x.T)
    ),
    "booleans": Case(".astype(np.float32)", SIGNAL > 0, (SIGNAL > 0).astype(float), DO["eeg"]),
    "sounds in rows": Case(
        "list(array)", np.stack([SOUND, -SOUND / 2]).astype(np.float32), None, DO["audio"], keywords=RATE
    ),
    "time first": Case("array.T", SIGNAL.T.repeat(2, axis=0), SIGNAL.repeat(2, axis=1), DO["eeg"]),
    "one channel": Case("array[None]", SIGNAL[0], SIGNAL[:1], DO["eeg"]),
    "points last": Case("array.T", CLOUD.T, CLOUD, DO["point_clouds"]),
    "intensities": Case("array[:, :3]", np.pad(CLOUD, ((0, 0), (0, 1))), CLOUD, DO["point_clouds"]),
    "one picture": Case("frames[None]", FRAMES[0], FRAMES[:1], DO["videos"]),
    "16 bits": Case("values / {}", (GREY * 65535).round().astype(np.uint16), GREY, DO["images"], 0.02),
    "12 bits": Case("values / {}", (GREY * 4095).round().astype(np.uint16), GREY, DO["images"], 0.02),
    "8 bits": Case("values.astype(np.uint8)", (GREY * 255).round().astype(np.int64), GREY, DO["images"], 0.05),
    "black and white": Case(
        "values * np.uint8(255)", GREY > 0.5, ((GREY > 0.5) * 255).astype(np.uint8), DO["images"], 0.05
    ),
    "deep picture": Case(
        "{}", Image.fromarray((GREY[..., 0] * 65535).round().astype(np.uint16)), GREY[..., 0], DO["images"], 0.02
    ),
    "float picture": Case("{}", Image.fromarray(GREY[..., 0].astype(np.float32)), GREY[..., 0], DO["images"], 0.02),
    **{
        f"samples {bits} as {np.dtype(dtype)}": Case(
            "samples / {}", sampled(dtype, bits), rounded(bits), DO["audio"], 0.01, RATE
        )
        for bits, dtype in (
            *((8, np.int8), (16, np.int32), (16, np.int64), (24, np.int32), (32, np.int32), (16, np.float32)),
            *((24, np.float32), (32, np.float64)),
        )
    },
    **{
        f"samples {bits} as {np.dtype(dtype)}": Case(
            "(samples.astype(np.float32) - {}) / {}",
            sampled(dtype, bits, unsigned=True),
            rounded(bits),
            DO["audio"],
            0.01,
            RATE,
        )
        for bits, dtype in ((8, np.uint8), (16, np.uint16))
    },
    "half characters": Case(
        'text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")', "a \ud83d\ude00", None, DO["text"]
    ),
}
NAMES = ("values", "samples", "array", "frames", "picture", "text")


def told(code: str) -> re.Pattern[str]:
    return re.compile(".+".join(re.escape(piece) for piece in code.split("{}")))


@pytest.mark.parametrize("name", [name for name in CASES if name != "half characters"])
def test_what_a_message_advises_gives_what_is_right(name: str) -> None:
    code, refused, right, call, tolerance, keywords = CASES[name]
    with pytest.raises(ValueError, match="Fix: ") as error:
        call(refused, **keywords)
    found = [each for each in CODE.findall(str(error.value)) if told(code).fullmatch(each) and "kwargs" not in each]
    # Where the processor has a keyword for it, the message names it.
    keyword = re.search(r"`\w+_kwargs=(\{[^}]+\})`", str(error.value)) if "kwargs" in code else None
    if keyword is not None:
        policy = "drop" if "drop" in code else "fill"
        assert f"'invalid': '{policy}'" in str(error.value)
        options = {f"{argument}_kwargs": {"invalid": policy} for argument, do in DO.items() if do is call}
        made = call(refused, **options)
    else:
        advised = f"refused{found[0]}" if found[0].startswith(".") else found[0]
        values = {"np": np, "refused": refused, **dict.fromkeys(NAMES, refused)}
        fixed = eval(advised, values)
        right = fixed if right is None else right
        made = call(fixed, **keywords)
    torch.testing.assert_close(made, call(right, **keywords), atol=tolerance, rtol=0)


def test_filling_is_better_than_zeros() -> None:
    """What was advised once, `np.nan_to_num`, reads holes as measurements of nothing."""
    for argument, holes, whole in (("depth", HOLES, MAP), ("eeg", GAPS + 50, SIGNAL + 50)):
        do = DO[argument]
        filled = (do(holes, **{f"{argument}_kwargs": {"invalid": "fill"}}) - do(whole)).abs().max()
        assert 5 * filled < (do(np.nan_to_num(holes)) - do(whole)).abs().max()


def test_features_of_tokens_are_pooled_or_turned_as_advised() -> None:
    reader = FeatureReader(name="image", num_channels=8)
    tokens = CHANCE.normal(size=(5, 8)).astype(np.float32)
    with pytest.raises(ValueError, match=r"`array\.mean\(0\)`"):
        reader([tokens])
    np.testing.assert_allclose(reader(tokens.mean(0), return_tensors="np")["pixel_values"][0], tokens.mean(0))
    many = FeatureReader(name="image", num_channels=8, input_size=[5])
    with pytest.raises(ValueError, match=r"`array\.T`"):
        many(tokens.T)
    np.testing.assert_allclose(many(tokens, return_tensors="np")["pixel_values"][0], tokens)


@pytest.mark.parametrize(
    ("argument", "value", "options"),
    [
        ("depth", (MAP * 1000).astype(np.uint16), {"depth_unit": "mm"}),
        ("depth", MAP * 1000, {"depth_unit": "mm"}),
        ("depth", np.where(MAP > 2.9, 1e20, MAP), {"depth_kwargs": {"invalid": "fill"}}),
        ("thermal", (MAP * 100 + 29315).astype(np.uint16), {"thermal_unit": "centikelvin", "thermal_range": (20, 30)}),
        ("thermal", (MAP * 9000).astype(np.uint16), {"thermal_unit": "levels"}),
    ],
)
def test_units_that_a_message_asks_for_are_taken(argument: str, value: np.ndarray, options: dict[str, Any]) -> None:
    processor = CodeBindProcessor()
    with pytest.raises(ValueError, match=f"{next(iter(options))}") as error:
        processor(**{argument: value})
    assert all(name in str(error.value) for name in options)
    found = next(iter(processor(**{argument: value}, **options).values()))
    right = {
        "depth": lambda: processor(depth=np.where(MAP > 2.9, 2.9, MAP) if "depth_kwargs" in options else MAP),
        "thermal": lambda: processor(thermal=MAP / 10 if "thermal_range" in options else (MAP * 9000).round() / 65535),
    }[argument]()
    torch.testing.assert_close(found, next(iter(right.values())), atol=5e-2, rtol=0)


def advised() -> set[str]:
    """Code about values in the texts of all messages of the room."""
    codes: set[str] = set()
    for file in Path(codebind_hf.processing.__file__).parent.glob("*.py"):
        tree = ast.parse(file.read_text())
        texts = {id(node): node for node in ast.walk(tree) if isinstance(node, (ast.JoinedStr, ast.Constant))}
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
                texts.pop(id(body[0].value), None)
            if isinstance(node, ast.JoinedStr):
                for part in node.values:
                    texts.pop(id(part), None)
        for text in texts.values():
            parts = text.values if isinstance(text, ast.JoinedStr) else [text]
            whole = "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in parts)
            codes |= {code for code in CODE.findall(whole) if ABOUT_VALUES.search(code)}
    return codes


def test_every_advice_about_values_was_followed() -> None:
    """A new advice needs a case above."""
    elsewhere = {"array.mean(0)", "[array]"}
    assert advised() - {case.code for case in CASES.values()} == elsewhere
