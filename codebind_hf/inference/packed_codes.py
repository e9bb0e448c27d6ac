"""How are code ids stored in as few bytes as they need? Every id takes ceil(log2(num_codes)) bits.

The bits of an item are one little-endian string: id s of an item begins at bit `s * bits`, its lowest bit first, and
bit b of the string is bit `b % 8` of byte `b // 8`. FAISS stores the codes of a product quantizer in the same order.

Axes in this file: N items, S segments of one embedding.
"""

from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


SMALLEST_BOOK, LARGEST_BOOK = 2, 65536
# Items at a time: bounds the memory of the single bits whatever the number of items.
_CHUNK = 16384


def bits_per_code(num_codes: int) -> int:
    """Bits of one id of a book.

    Raises:
        ValueError: the size of the book is not from 2 to 65536.
    """
    if isinstance(num_codes, bool) or int(num_codes) != num_codes or not SMALLEST_BOOK <= num_codes <= LARGEST_BOOK:
        raise ValueError(f"num_codes: got {num_codes}; allowed: whole numbers from {SMALLEST_BOOK} to {LARGEST_BOOK}.")
    return (int(num_codes) - 1).bit_length()


def packed_size(segments: int, num_codes: int) -> int:
    """Bytes of the ids of one embedding; errors are those of `unpack_codes`."""
    if isinstance(segments, bool) or int(segments) != segments or segments < 1:
        raise ValueError(f"segments: got {segments}; it must be a whole number of at least 1.")
    return -(-int(segments) * bits_per_code(num_codes) // 8)


@overload
def pack_codes(ids: Tensor, num_codes: int) -> Tensor: ...


@overload
def pack_codes(ids: NDArray[Any], num_codes: int) -> NDArray[np.uint8]: ...


def pack_codes(ids: Any, num_codes: int) -> Any:
    """Code ids in as few bits as they need.

    Args:
        ids (integers of shape `(items, segments)`): an array or a tensor; the result is of the same kind.
        num_codes: size of the codebook, 2 to 65536.

    Returns:
        uint8 of shape `(items, ceil(segments * bits / 8))`; what is left of the last byte is zero.

    Raises:
        ValueError: a wrong shape or type, an id outside the book, or a book of another size than allowed.
    """
    if isinstance(ids, Tensor):
        return torch.from_numpy(pack_codes(ids.detach().cpu().numpy(), num_codes)).to(ids.device)
    bits = bits_per_code(num_codes)
    ids_NS = checked_ids("ids", ids, num_codes)
    packed = np.empty((len(ids_NS), packed_size(ids_NS.shape[1], num_codes)), dtype=np.uint8)
    for start in range(0, len(ids_NS), _CHUNK):
        rows = slice(start, start + _CHUNK)
        octets = np.ascontiguousarray(ids_NS[rows], dtype="<u2").view(np.uint8).reshape(-1, ids_NS.shape[1], 2)
        digits = np.unpackbits(octets, axis=-1, bitorder="little")[..., :bits]
        packed[rows] = np.packbits(digits.reshape(len(octets), -1), axis=-1, bitorder="little")
    return packed


@overload
def unpack_codes(packed: Tensor, segments: int, num_codes: int) -> Tensor: ...


@overload
def unpack_codes(packed: NDArray[Any], segments: int, num_codes: int) -> NDArray[np.int64]: ...


def unpack_codes(packed: Any, segments: int, num_codes: int) -> Any:
    """The code ids, int64 of shape `(items, segments)`, that `pack_codes` packed; of the kind of `packed`.

    Args:
        packed (uint8 of shape `(items, bytes)`): an array or a tensor.
        segments: ids of one item.
        num_codes: size of the codebook.

    Raises:
        ValueError: a wrong shape or type, or bytes that no id of this book gives.
    """
    if isinstance(packed, Tensor):
        return torch.from_numpy(unpack_codes(packed.detach().cpu().numpy(), segments, num_codes)).to(packed.device)
    size = packed_size(segments, num_codes)
    if packed.ndim != 2 or packed.shape[1] != size or packed.dtype != np.uint8:
        raise ValueError(
            f"packed: got {packed.dtype} of shape {packed.shape}; {segments} ids of {num_codes} codes are uint8 of "
            f"shape (items, {size})."
        )
    ids_NS = unpacked(packed, segments, num_codes).astype(np.int64)
    if ids_NS.size and int(ids_NS.max()) >= num_codes:
        raise ValueError(
            f"packed: holds the id {int(ids_NS.max())}, and a book of {num_codes} codes has ids up to "
            f"{num_codes - 1}. Fix: unpack with the `num_codes` it was packed with."
        )
    return ids_NS


def unpacked(packed: NDArray[np.uint8], segments: int, num_codes: int) -> NDArray[np.int32]:
    """`unpack_codes` of bytes that are known to be good, int32."""
    bits = bits_per_code(num_codes)
    first_S = np.arange(segments) * bits
    # An id spans at most three bytes; behind the last byte of an item come zeros.
    padded = np.pad(packed, ((0, 0), (0, 2)))
    ids_NS = padded[:, first_S // 8].astype(np.int32)
    for octet in (1, 2):
        ids_NS |= padded[:, first_S // 8 + octet].astype(np.int32) << (8 * octet)
    return (ids_NS >> (first_S % 8).astype(np.int32)) & ((1 << bits) - 1)


def checked_ids(name: str, ids: Any, num_codes: int, segments: int | None = None) -> NDArray[Any]:
    """`ids` as an array `(items, segments)` of ids of a book of `num_codes`.

    Raises:
        ValueError: names the argument, what came and what is allowed.
    """
    array = ids.detach().cpu().numpy() if isinstance(ids, Tensor) else np.asarray(ids)
    is_wrong = array.ndim != 2 or not array.shape[-1] or array.shape[-1] != (segments or array.shape[-1])
    if is_wrong or not np.issubdtype(array.dtype, np.integer):
        wanted = "segments" if segments is None else str(segments)
        raise ValueError(f"{name}: got {array.dtype} of shape {array.shape}; expected integers (items, {wanted}).")
    if array.size and not 0 <= int(array.min()) <= int(array.max()) < num_codes:
        raise ValueError(
            f"{name}: got values from {int(array.min())} to {int(array.max())}; a book of {num_codes} codes has ids "
            f"from 0 to {num_codes - 1}."
        )
    return array
