"""Strange values, as hypothesis draws them: tensors, arrays, pictures, texts, arguments."""

import decimal
import fractions
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas
import scipy.sparse
import torch
from hypothesis import strategies as st
from PIL import Image


class Hostile:
    """An object whose every way of being looked at raises an error of its own."""

    @property
    def __array__(self) -> Any:  # type: ignore[override]
        raise ZeroDivisionError("no array")

    def __repr__(self) -> str:
        raise ZeroDivisionError("no text")

    def __len__(self) -> int:
        raise ZeroDivisionError("no length")


class Convertible:
    """An object that is no array and gives one."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self._array.astype(dtype) if dtype is not None else self._array


DTYPES = [
    dtype for dtype in vars(torch).values() if isinstance(dtype, torch.dtype) and not str(dtype).startswith("torch.q")
]
NUMPY_DTYPES = ["f4", "f4", "f8", "f2", ">f4", "<f8", "g", ">i2", "u1", "u2", "i4", "i8", "?", "O"]
NUMPY_DTYPES += ["c8", "c16", "U3", "S3", "M8[s]", "m8[s]", "f4,i4"]
MODES = ["RGB", "L", "1", "P", "PA", "LA", "RGBA", "RGBa", "CMYK", "YCbCr", "HSV", "I", "F", "I;16", "I;16B", "LAB"]
SPECIAL = [0.0, 1.0, -1.0, 0.5, 255.0, 1e30, float("nan"), float("inf"), -float("inf")]

scalars = st.sampled_from(
    [None, True, False, 0, 1, -1, 3, 10**9, 10**30, 10**5000, 0.5, 1.5, -2.0, 1e300, float("nan"), float("inf"), 2j]
    + ["", "x", "mean", "uniform", "\ud800", "a" * 5000, b"x", (), [], {}, set(), [1], [None], ["x"], {"a": 1}]
    + [np.int64(3), np.float32(0.5), np.bool_(True), np.array([1, 2]), np.zeros((2, 2)), torch.ones(2)]
    + [torch.tensor(1), torch.ones(2, device="meta"), np.ma.masked, np.datetime64("2020-01-01")]
    + [fractions.Fraction(1, 3), decimal.Decimal("0.1"), object, len, Hostile(), range(3), memoryview(b"abc")]
)


def shapes_near(shape: tuple[int, ...]) -> st.SearchStrategy[tuple[int, ...]]:
    """A shape itself and such as are easily taken for it."""
    near = [(), (0,), shape[1:], (1, *shape), (*shape, 1), shape[::-1], (0, *shape[1:])]
    near += [(*shape[:-1], 0), (*shape[:-1], shape[-1] + 1), (1, *shape[1:])]
    return st.sampled_from([shape] * len(near) * 4 + near)


def _typed(shape: tuple[int, ...], dtype: torch.dtype, value: float) -> torch.Tensor:
    tensor = torch.linspace(0, 1, max(1, int(np.prod(shape)))).resize_(shape) if shape else torch.tensor(0.5)
    if value != 0.5:
        tensor.view(-1)[:1] = value
    try:
        return tensor.to(dtype)
    except (RuntimeError, NotImplementedError, TypeError):
        return torch.empty(shape, dtype=dtype)


def _lazy(tensor: torch.Tensor) -> torch.Tensor:
    return torch.nn.UninitializedParameter() if tensor.is_floating_point() else tensor


STORAGE: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "plain": lambda x: x,
    "transposed": lambda x: x.mT.contiguous().mT if x.ndim > 1 else x,
    "meta": lambda x: x.to("meta"),
    "sparse": lambda x: x.to_sparse(),
    "compressed": lambda x: x.to_sparse_csr(),
    "nested": lambda x: torch.nested.nested_tensor([x, x]),
    "jagged": lambda x: torch.nested.nested_tensor([x, x[:1]], layout=torch.jagged),
    "rows nested": lambda x: torch.nested.as_nested_tensor(list(x)),
    "quantized": lambda x: torch.quantize_per_tensor(x.float(), 0.1, 0, torch.quint8),
    "negative view": lambda x: torch.view_as_complex(torch.stack([x, -x], -1).float()).conj().imag,
    "conjugate": lambda x: x.cfloat().conj(),
    "learning": lambda x: x.float().requires_grad_() * 1,
    "parameter": lambda x: torch.nn.Parameter(x.float()),
    "lazy": _lazy,
    "opaque": lambda x: x.float().to_mkldnn(),
    "expanded": lambda x: x.reshape(-1)[:1].expand(x.shape) if x.numel() else x,
}


@st.composite
def tensors(draw: st.DrawFn, shape: tuple[int, ...]) -> torch.Tensor:
    """A tensor of about this shape, of any type, stored in any way."""
    dtype = draw(st.sampled_from([torch.float32] * len(DTYPES) * 2 + [torch.int64] * 5 + DTYPES))
    plain = _typed(draw(shapes_near(shape)), dtype, draw(st.sampled_from([0.5] * len(SPECIAL) * 4 + SPECIAL)))
    storage = draw(st.sampled_from(["plain"] * len(STORAGE) * 2 + sorted(STORAGE)))
    try:
        return STORAGE[storage](plain)
    except (RuntimeError, NotImplementedError, TypeError, IndexError, ValueError):
        return plain


@st.composite
def arrays(draw: st.DrawFn, shape: tuple[int, ...]) -> Any:
    """Anything that holds numbers, of about this shape."""
    chosen = draw(shapes_near(shape))
    array = np.linspace(0, 1, int(np.prod(chosen))).reshape(chosen)
    if array.size and draw(st.booleans()):
        array.reshape(-1)[0] = draw(st.sampled_from(SPECIAL))
    with np.errstate(all="ignore"):
        typed = array.astype(draw(st.sampled_from(NUMPY_DTYPES)))
    kinds = ["array", "array", "array", "list", "masked", "all masked", "matrix", "frame", "object", "rows", "sparse"]
    kind = draw(st.sampled_from(kinds))
    if kind == "list":
        return typed.tolist()
    if "masked" in kind:
        return np.ma.MaskedArray(typed, mask=kind == "all masked")
    if kind == "matrix" and typed.ndim == 2:
        return np.asmatrix(typed)
    if kind == "frame" and typed.ndim == 2:
        return _frame(typed)
    if kind == "sparse" and typed.ndim == 2 and typed.dtype.kind == "f":
        return scipy.sparse.csr_matrix(typed.astype(np.float64))
    if kind == "object":
        return Convertible(typed)
    return list(typed) if kind == "rows" and typed.ndim else typed


def _frame(array: np.ndarray) -> Any:
    return pandas.DataFrame(array.tolist())


def _closed(picture: Image.Image) -> Image.Image:
    picture.close()
    return picture


@st.composite
def pictures(draw: st.DrawFn) -> Any:
    """A picture of any mode and of odd sizes, perhaps closed."""
    mode = draw(st.sampled_from(MODES))
    size = draw(st.sampled_from([(20, 30), (1, 1), (1, 3000), (3000, 1), (0, 5), (7, 7)]))
    picture = Image.new(mode, size)
    return _closed(picture) if draw(st.integers(0, 9)) == 0 else picture


# What a JSON or YAML file can hold.
json_values = st.sampled_from(
    [None, True, False, 0, 1, -1, 3, 16, 10**9, 10**30, 0.5, 1.5, -2.0, 1e300, float("nan"), float("inf"), "", "x"]
    + ["codes", "none", "a" * 300, [], {}, [1], [8, 8], [None], ["x"], {"a": 1}, {"align": "x"}, {"align": 1.0}]
)
texts = st.one_of(
    st.text(max_size=30),
    st.text(alphabet=st.characters(), max_size=10),
    st.sampled_from(["", "\ud800", "a\udfffb", "\0", "<|endoftext|>", "é" * 500, "a b " * 300]),
)


def values(shape: tuple[int, ...]) -> st.SearchStrategy[Any]:
    """What someone may hand to a door that reads arrays of about this shape."""
    one = st.one_of(*[arrays(shape)] * 6, *[tensors(shape)] * 4, pictures(), scalars, texts)
    rated = st.fixed_dictionaries({"array": one}, optional={"sampling_rate": scalars, "fps": scalars, "path": scalars})
    return st.one_of(*[one] * 6, st.lists(one, max_size=3), rated)
