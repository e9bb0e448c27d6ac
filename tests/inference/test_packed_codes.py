"""Packed code ids: values by hand, against a loop over single bits, round trips, FAISS's order, and errors."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from codebind_hf.inference.packed_codes import bits_per_code, pack_codes, packed_size, unpack_codes


SIZES = (2, 3, 16, 17, 255, 256, 257, 1000, 1024, 40000, 65536)


def random_ids(items: int, segments: int, num_codes: int) -> np.ndarray:
    """Random ids among which are the first and the last one."""
    ids = np.random.default_rng(num_codes).integers(0, num_codes, (items, segments))
    ids[0, 0], ids[-1, -1] = 0, num_codes - 1
    return ids


def packed_bit_by_bit(ids: np.ndarray, bits: int) -> np.ndarray:
    packed = np.zeros((len(ids), -(-ids.shape[1] * bits // 8)), dtype=np.uint8)
    for item, row in enumerate(ids.tolist()):
        for segment, number in enumerate(row):
            for bit in range(bits):
                place = segment * bits + bit
                packed[item, place // 8] |= ((number >> bit) & 1) << (place % 8)
    return packed


@pytest.mark.parametrize(("num_codes", "bits"), [(2, 1), (3, 2), (4, 2), (5, 3), (256, 8), (1024, 10), (65536, 16)])
def test_an_id_takes_as_many_bits_as_the_largest_needs(num_codes: int, bits: int) -> None:
    assert bits_per_code(num_codes) == bits


def test_128_segments_of_1024_codes_are_160_bytes() -> None:
    assert packed_size(128, 1024) == 160
    assert pack_codes(random_ids(3, 128, 1024), 1024).shape == (3, 160)


def test_packed_bytes_by_hand() -> None:
    # 5 bits each, lowest first: 1 -> 10000, 2 -> 01000, 31 -> 11111. In a row 10000010 0011111(0), lowest bit first:
    # byte 0 is 1 + 64 = 65, byte 1 is 4 + 8 + 16 + 32 + 64 = 124.
    assert pack_codes(np.array([[1, 2, 31]]), 32).tolist() == [[65, 124]]


@pytest.mark.parametrize("num_codes", SIZES)
def test_packing_equals_a_loop_over_bits_and_unpacking_gives_the_ids_back(num_codes: int) -> None:
    ids = random_ids(5, 7, num_codes)
    packed = pack_codes(ids, num_codes)
    assert packed.dtype == np.uint8
    np.testing.assert_array_equal(packed, packed_bit_by_bit(ids, bits_per_code(num_codes)))
    np.testing.assert_array_equal(unpack_codes(packed, 7, num_codes), ids)


def test_more_items_than_a_chunk_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codebind_hf.inference.packed_codes._CHUNK", 4)
    ids = random_ids(11, 3, 1000)
    np.testing.assert_array_equal(unpack_codes(pack_codes(ids, 1000), 3, 1000), ids)


def test_tensors_give_tensors() -> None:
    ids = torch.from_numpy(random_ids(4, 6, 300))
    packed = pack_codes(ids, 300)
    assert packed.dtype == torch.uint8
    np.testing.assert_array_equal(packed, pack_codes(ids.numpy(), 300))
    assert torch.equal(unpack_codes(packed, 6, 300), ids)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.uint64])
def test_the_type_of_the_ids_does_not_matter(dtype: type) -> None:
    ids = random_ids(4, 5, 100)
    np.testing.assert_array_equal(pack_codes(ids.astype(dtype), 100), pack_codes(ids, 100))


def test_no_items_are_packed_and_unpacked() -> None:
    packed = pack_codes(np.zeros((0, 8), dtype=int), 1024)
    assert packed.shape == (0, 10)
    assert unpack_codes(packed, 8, 1024).shape == (0, 8)


@pytest.mark.parametrize("num_codes", [16, 100, 256, 1024, 5000])
def test_faiss_packs_in_the_same_order(num_codes: int) -> None:
    faiss = pytest.importorskip("faiss")
    bits = bits_per_code(num_codes)
    quantizer = faiss.ProductQuantizer(6, 3, bits)
    codes = np.random.default_rng(0).standard_normal((2**bits, 2)).astype(np.float32)
    faiss.copy_array_to_vector(np.tile(codes, (3, 1, 1)).ravel(), quantizer.centroids)
    ids = random_ids(9, 3, num_codes)
    np.testing.assert_array_equal(quantizer.decode(pack_codes(ids, num_codes)), codes[ids].reshape(9, 6))


BAD = {
    "an id too large": (lambda: pack_codes(np.array([[3]]), 3), r"ids: got values from 3 to 3; .* 0 to 2"),
    "a negative id": (lambda: pack_codes(np.array([[-1, 2]]), 3), "ids: got values from -1"),
    "one axis": (lambda: pack_codes(np.array([1, 2]), 3), r"ids: .*shape \(2,\); expected integers"),
    "floats": (lambda: pack_codes(np.array([[1.0]]), 3), "ids: got float64"),
    "no segments": (lambda: pack_codes(np.zeros((2, 0), dtype=int), 3), "ids: got int64 of shape"),
    "one code": (lambda: pack_codes(np.array([[0]]), 1), "num_codes: got 1; allowed: .* 2 to 65536"),
    "too many codes": (lambda: pack_codes(np.array([[0]]), 65537), "num_codes: got 65537"),
    "bytes of another width": (
        lambda: unpack_codes(np.zeros((2, 3), dtype=np.uint8), 8, 16),
        r"packed: .*\(2, 3\); 8 ids of 16 codes are uint8 of shape \(items, 4\)",
    ),
    "bytes of another type": (lambda: unpack_codes(np.zeros((2, 4), dtype=int), 8, 16), "packed: got int64"),
    "no id of this book": (lambda: unpack_codes(np.array([[255]], dtype=np.uint8), 2, 10), "packed: holds the id 15"),
    "segments": (lambda: unpack_codes(np.zeros((2, 4), dtype=np.uint8), 0, 16), "segments: got 0"),
}


@pytest.mark.parametrize(("call", "message"), BAD.values(), ids=BAD.keys())
def test_bad_codes_are_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
