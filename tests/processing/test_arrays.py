"""One door for array-likes: what can be converted has the right numbers, for the rest there is a reason."""

import fractions
import re
from typing import Any

import numpy as np
import pandas
import pytest
import scipy.sparse
import torch
from fuzzing.strategies import Convertible, Hostile
from PIL import Image

from codebind_hf import CodeBindProcessor
from codebind_hf.processing.arrays import as_array, as_float_array, split_items
from codebind_hf.processing.feature_extraction_codebind import CodeBindAudioFeatureExtractor
from codebind_hf.processing.image_processing_codebind import CodeBindImageProcessor
from codebind_hf.processing.pipeline_inputs import checked_embeds
from codebind_hf.processing.signal_processing_codebind import CodeBindEegFeatureExtractor
from codebind_hf.processing.values import LIMITS, describe, shown


# Numbers that float8 has too.
ROWS = [[0.5, -1.0, 2.0], [3.0, 0.25, -4.0]]
ARRAY = np.array(ROWS, np.float32)
TENSOR = torch.from_numpy(ARRAY)
PIXELS = np.arange(30 * 40 * 3, dtype=np.uint8).reshape(30, 40, 3)

CONVERTED: dict[str, Any] = {
    "array": ARRAY,
    "float16": ARRAY.astype(np.float16),
    "longdouble": ARRAY.astype(np.longdouble),
    "big-endian": ARRAY.astype(">f4"),
    "big-endian of 64 bits": ARRAY.astype(">f8"),
    "Fortran order": np.asfortranarray(ARRAY),
    "nested lists": ROWS,
    "tuple of arrays": tuple(ARRAY),
    "list of tensors": [TENSOR[0].bfloat16(), TENSOR[1].requires_grad_()],
    "numbers of numpy": [[np.float64(x) for x in row] for row in ROWS],
    "objects": ARRAY.astype(object),
    "objects that are fractions": np.array([[fractions.Fraction(x) for x in row] for row in ROWS]),
    "objects that are arrays": np.array([np.array(row, object) for row in ROWS]),
    "masked without masked entries": np.ma.MaskedArray(ARRAY, mask=np.zeros_like(ARRAY, bool)),
    "matrix": np.asmatrix(ARRAY),
    "memory": memoryview(ARRAY),
    "data frame": pandas.DataFrame(ARRAY),
    "nullable data frame": pandas.DataFrame(ARRAY).astype("Float64"),
    "sparse matrix": scipy.sparse.csr_matrix(ARRAY),
    "sparse array": scipy.sparse.coo_array(ARRAY),
    "object that gives an array": Convertible(ARRAY),
    "tensor": TENSOR,
    "bfloat16": TENSOR.bfloat16(),
    "half": TENSOR.half(),
    "float8": TENSOR.to(torch.float8_e4m3fn),
    "learning": TENSOR.clone().requires_grad_() * 1,
    "parameter": torch.nn.Parameter(TENSOR),
    "transposed": TENSOR.T.contiguous().T,
    "negative view": torch.complex(TENSOR, -TENSOR).conj().imag,
    "sparse": TENSOR.to_sparse(),
    "compressed": TENSOR.to_sparse_csr(),
    "opaque": TENSOR.to_mkldnn(),
    "quantized": torch.quantize_per_tensor(TENSOR, 0.25, 32, torch.quint8),
    "nested": torch.nested.nested_tensor(list(TENSOR)),
    "jagged": torch.nested.nested_tensor(list(TENSOR), layout=torch.jagged),
}

REFUSED: dict[str, tuple[Any, str]] = {
    "nothing": (None, "got NoneType"),
    "a number": (3.0, "got float.*make it a list of arrays"),
    "bytes": (b"abc", "got bytes of length 3"),
    "a set": ({1, 2}, "got set; allowed: a numpy array, a torch tensor"),
    "meta": (TENSOR.to("meta"), "without data.*device that has memory"),
    "lazy": (torch.nn.UninitializedParameter(), "without data"),
    "ragged nested": (torch.nested.nested_tensor([TENSOR[0], TENSOR[0, :2]]), "rows of unequal length.*pad or cut"),
    "ragged lists": ([[1, 2], [3]], "rows of unequal length"),
    "ragged arrays": ([ARRAY[0], ARRAY[0, :2]], "rows of unequal length"),
    "arrays with a number": ([ARRAY[0], 1.0], "rows of unequal length"),
    "complex": (TENSOR.cfloat(), "dtype complex64; allowed: real numbers. Fix: take what is meant: `.real`"),
    "conjugate": (TENSOR.cfloat().conj(), "dtype complex64"),
    "half complex": (TENSOR.to(torch.complex32), "dtype torch.complex32; allowed: real numbers"),
    "texts": (np.array(["1", "2"]), "dtype <U1; allowed: real numbers. Fix: spelled-out numbers"),
    "a text among numbers": ([[1.0, "x"]], "got str.*"),
    "dates": (np.array(["2020-01-01"], "M8[s]"), r"dtype datetime64\[s\].*np.timedelta64\(1, 's'\)"),
    "spans of time": (np.array([5], "m8[s]"), r"dtype timedelta64\[s\].*np.timedelta64"),
    "records": (np.zeros(2, "f4,i4"), "dtype .*values.dtype.names"),
    "masked": (np.ma.masked_less(ARRAY, 0), "got 2 masked values; allowed: values that are all there"),
    "masked in a list": ([np.ma.masked_less(ARRAY, 0)], "got 2 masked values"),
    "a masked constant": ([1.0, np.ma.masked], "got 1 masked values"),
    "missing": (np.array([1.0, None]), "got None at place 1; allowed: values that are all there"),
    "missing in a series": (pandas.Series([1, None], dtype=object), "got None at place 1"),
    "objects": (np.array([1.0, object()]), "got object at place 1 of an array of objects"),
    "no array after all": (Hostile(), "got Hostile, which gives no array"),
    "endless": ((lambda x: (x.append(x), x)[1])([]), "lists nested more than 32 deep"),
    "empty": (np.zeros((0, 3)), r"got an empty array of shape \(0, 3\)"),
    "empty list": ([], "got an empty array"),
}


@pytest.mark.parametrize("name", CONVERTED)
def test_whatever_holds_numbers_gives_these_numbers(name: str) -> None:
    found = as_array(CONVERTED[name], "eeg")
    assert type(found) is np.ndarray
    assert found.dtype.isnative
    assert found.dtype in (np.float16, np.float32, np.float64)
    np.testing.assert_array_equal(found, ARRAY)
    assert as_float_array(CONVERTED[name], "eeg").dtype in (np.float32, np.float64)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", REFUSED)
def test_what_gives_no_numbers_is_refused_with_the_reason(name: str) -> None:
    value, message = REFUSED[name]
    with pytest.raises(ValueError, match=re.compile(rf"^eeg\[2\]: .*{message}", re.DOTALL)):
        as_array(value, "eeg[2]")


def test_the_processor_reads_what_the_door_converts() -> None:
    recording = np.random.default_rng(0).normal(size=(4, 60)).round(1).astype(np.float32)
    tensor = torch.from_numpy(recording)
    processor = CodeBindProcessor()
    expected = processor(eeg=recording)["eeg_values"]
    for value in (tensor.to_sparse(), pandas.DataFrame(recording), recording.astype(">f8"), tensor.requires_grad_()):
        assert torch.equal(processor(eeg=value)["eeg_values"], expected)


def test_a_batch_may_be_a_tensor_of_any_layout() -> None:
    items = [ARRAY, ARRAY[:, :2]]
    ragged = torch.nested.nested_tensor([torch.from_numpy(item) for item in items])
    for value, expected in ((ragged, items), (TENSOR.expand(2, 2, 3).to_sparse(), [ARRAY, ARRAY])):
        found, labels = split_items(value, "eeg", 2)
        assert labels == ["eeg[0]", "eeg[1]"]
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(as_array(one, "eeg"), other)


def test_a_sparse_matrix_is_measured_before_it_is_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    huge = torch.sparse_coo_tensor(torch.zeros(2, 1, dtype=torch.long), torch.ones(1), (10**9, 10**9))
    for value in (huge, scipy.sparse.coo_matrix((10**9, 10**9))):
        with pytest.raises(ValueError, match=r"eeg: got 1e\+18 values of a sparse .*cut it.*LIMITS.values"):
            as_array(value, "eeg")
    monkeypatch.setattr(LIMITS, "values", 5)
    with pytest.raises(ValueError, match="eeg: got 6 values of a sparse tensor; allowed: up to 5"):
        as_array(TENSOR.to_sparse(), "eeg")
    monkeypatch.setattr(LIMITS, "values", 6)
    assert as_array(TENSOR.to_sparse(), "eeg").shape == (2, 3)


def test_a_view_of_more_numbers_than_there_is_memory_for_is_refused() -> None:
    for value in (torch.zeros(1).expand(10**6, 10**6), np.broadcast_to(np.float32(0), (10**6, 10**6))):
        with pytest.raises(ValueError, match=r"eeg: got 1e\+12 values; allowed: up to"):
            as_float_array(value, "eeg")


def test_embeddings_for_a_gallery_pass_the_same_door() -> None:
    expected = checked_embeds(ARRAY, 3, "gallery")
    for value in (TENSOR.bfloat16(), TENSOR.to_sparse(), ARRAY.astype(">f4")):
        torch.testing.assert_close(checked_embeds(value, 3, "gallery"), expected)
    with pytest.raises(ValueError, match="gallery: got 1 NaN"):
        checked_embeds(np.array([[1.0, np.nan, 0.0]]), 3, "gallery")


# What to do: the advice of a message is followed, and gives what it should.


def advice(call: Any) -> str:
    with pytest.raises(ValueError, match="Fix: ") as error:
        call()
    return str(error.value).partition("Fix: ")[2]


def followed(fix: str, values: np.ndarray) -> np.ndarray:
    """The first code of an advice that computes something of `values`."""
    code = next(code for code in re.findall(r"`([^`]+)`", fix) if re.search(r"values|samples|picture", code))
    return eval(code, {"np": np, "values": values, "samples": values, "picture": values})


@pytest.mark.parametrize(
    ("levels", "dtype"), [(65535, np.uint16), (65535, np.int32), (255, np.int64), (255, np.uint16), (1, np.bool_)]
)
def test_the_advice_for_integers_gives_the_picture(levels: int, dtype: type) -> None:
    processor = CodeBindImageProcessor(resize_on="tensor")
    grey = np.linspace(0, 1, 40 * 30).reshape(30, 40, 1).repeat(3, axis=2).round(0 if levels == 1 else 6)
    stored = (grey * levels).round().astype(dtype)
    fixed = followed(advice(lambda: processor(stored)), stored)
    found, expected = processor(fixed)["pixel_values"][0], processor(grey)["pixel_values"][0]
    # A grey level is 1 / 255 of the range, which the deviation of the normalization makes 0.015.
    np.testing.assert_allclose(found, expected, atol=0.02)


def test_the_advice_for_a_deep_picture_gives_the_picture() -> None:
    deep = (np.linspace(0, 1, 40 * 30).reshape(30, 40) * 65535).round().astype(np.uint16)
    processor = CodeBindImageProcessor(resize_on="tensor")
    picture = Image.fromarray(deep)
    found = processor(followed(advice(lambda: processor(picture)), picture))["pixel_values"][0]
    np.testing.assert_allclose(found, processor(deep / 65535.0)["pixel_values"][0], atol=1e-4)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int32, np.uint32])
def test_the_advice_for_samples_gives_the_sound(dtype: type) -> None:
    sound = 0.5 * np.sin(np.arange(8000) / 20)
    info = np.iinfo(dtype)
    middle, half = (info.max + 1 + info.min) / 2, (info.max + 1 - info.min) / 2
    stored = (sound * half + middle).round().astype(dtype)
    fixed = followed(
        advice(lambda: CodeBindAudioFeatureExtractor()({"array": stored, "sampling_rate": 16000})), stored
    )
    np.testing.assert_allclose(fixed, sound, atol=1 / half + 1e-7)


def test_the_advice_for_missing_samples_is_better_than_zeros() -> None:
    time = np.arange(400) / 100
    whole = np.stack([50 + np.sin(2 * np.pi * time), 50 + np.cos(2 * np.pi * time)]).astype(np.float32)
    broken = whole.copy()
    broken[:, 100:110] = np.nan
    extractor = CodeBindEegFeatureExtractor()
    fix = advice(lambda: extractor(broken))
    assert "{'invalid': 'fill'}" in fix
    assert "nan_to_num" not in fix
    expected, zeros = (extractor(x)["eeg_values"][0] for x in (whole, np.nan_to_num(broken)))
    found = extractor(broken, invalid="fill")["eeg_values"][0]
    assert np.abs(found - expected).max() < 0.1
    assert np.abs(zeros - expected).max() > 1


# Messages are lines to read.


@pytest.mark.parametrize(
    "value",
    [
        Hostile(),
        10**5000,
        "a" * 10**6,
        b"a" * 10**6,
        "\ud800",
        np.zeros((10, 10)),
        np.zeros(1, ",".join(["f4"] * 300)),
        torch.nn.UninitializedParameter(),
        torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
        [torch.ones(1000)] * 100,
        {"a": ["line\nline"] * 1000},
        "line\nline",
    ],
    ids=lambda value: type(value).__name__,
)
def test_any_value_is_shown_in_a_short_line(value: Any) -> None:
    for text in (describe(value), shown(value)):
        assert 0 < len(text) <= 120
        assert "\n" not in text
        text.encode()
