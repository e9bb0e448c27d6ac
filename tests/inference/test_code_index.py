"""The index against exact search over the quantized embeddings, ties, round trips through files, shards, errors."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from common import small_config, tiny_model, unit
from fuzzing.doors import index_calls
from fuzzing.outcomes import REFUSED, TAKEN, Outcomes
from memory import peak_memory
from torch import Tensor
from torch.nn.functional import normalize

from codebind_hf.inference import code_index, faiss_gallery
from codebind_hf.inference.code_index import CodeIndex


BACKENDS = [
    pytest.param("numpy", id="numpy"),
    pytest.param(
        "faiss", id="faiss", marks=pytest.mark.skipif(not code_index._has_faiss(), reason="the extra `index`")
    ),
]
each_backend = pytest.mark.parametrize("backend", BACKENDS)
NORMS = {"codes of one norm": 0.0, "codes of their own norms": 0.4}


def make_codes(num_codes: int = 16, width: int = 4, spread: float = 0.0) -> Tensor:
    """Codes whose norms are `exp(spread * normal)`."""
    lengths = torch.exp(spread * torch.randn(num_codes, 1, generator=torch.Generator().manual_seed(9)))
    return unit(num_codes, width, seed=8) * lengths


def random_ids(items: int, segments: int = 6, num_codes: int = 16, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, num_codes, (items, segments))


def make_index(backend: str = "numpy", **items: int) -> CodeIndex:
    """An index of 6 segments with random items by modality."""
    index = CodeIndex(make_codes(), 6, backend)
    for seed, (modality, count) in enumerate(items.items()):
        index.add(random_ids(count, seed=seed), modality)
    return index


def naive_cosines(codes: Tensor, ids: np.ndarray, queries: Tensor) -> np.ndarray:
    """Cosine by cosine, from the definition, in float64."""
    scores = np.zeros((len(queries), len(ids)))
    for item, row in enumerate(ids.tolist()):
        embedding = torch.cat([codes[number] for number in row]).double()
        for position, query in enumerate(queries.double()):
            scores[position, item] = float(query @ embedding / query.norm() / embedding.norm())
    return scores


@each_backend
@pytest.mark.parametrize("spread", NORMS.values(), ids=NORMS.keys())
def test_scores_equal_cosines_from_the_definition(backend: str, spread: float) -> None:
    codes, ids, queries = make_codes(spread=spread), random_ids(40), unit(5, 24) * 3
    index = CodeIndex(codes, 6, backend)
    index.add(ids, "image")
    found = index.search(queries, top_k=40)
    expected = naive_cosines(codes, ids, queries)
    np.testing.assert_allclose(found.scores, np.take_along_axis(expected, found.keys, 1), atol=1e-6)
    np.testing.assert_array_equal(found.keys, np.argsort(-expected, axis=1, kind="stable"))


@each_backend
def test_a_product_without_norms_would_rank_otherwise(backend: str) -> None:
    # Both items point nearly along the query; the second is three times as long and a little farther off.
    codes = torch.tensor([[1.0, 0.0], [0.96 * 3, 0.28 * 3]])
    index = CodeIndex(codes, 1, backend)
    index.add(np.array([[0], [1]]), "image")
    found = index.search(torch.tensor([[1.0, 0.0]]), top_k=1)
    assert found.keys.tolist() == [[0]]
    assert found.scores[0, 0] == pytest.approx(1.0)


@each_backend
@pytest.mark.parametrize("spread", NORMS.values(), ids=NORMS.keys())
def test_the_top_100_are_those_of_exact_search_for_every_pair_of_modalities(backend: str, spread: float) -> None:
    """10,000 vectors and 200 queries: what a model quantizes, searched as floats and as 160 bits an item."""
    model = tiny_model(
        small_config("text", "image", "depth", shared_dim=64, num_shared_codes=1000, normalize_codes=not spread)
    )
    book = model.codebooks.shared
    book.reset(make_codes(1000, 4, spread))
    centres = torch.randn(40, 64, generator=torch.Generator().manual_seed(1))
    continuous = {}
    for seed, modality in enumerate(("text", "image", "depth")):
        generator = torch.Generator().manual_seed(seed + 2)
        noise = torch.randn(10_000, 64, generator=generator)
        continuous[modality] = normalize(centres[torch.arange(10_000) % 40] + 0.6 * noise + seed * 0.3, dim=-1)
    quantized = {name: model.codebooks.quantize("shared", "vision", x) for name, x in continuous.items()}
    index = CodeIndex.from_model(model, backend)
    for modality, part in quantized.items():
        index.add(part.ids, modality)
    assert index.bytes_per_vector == 16 * 10 / 8
    for query in quantized:
        for gallery_number, gallery in enumerate(quantized):
            exact = quantized[gallery].embedding.double() @ continuous[query][:200].double().T
            found = index.search(continuous[query][:200], top_k=100, modalities=[gallery])
            rows = torch.from_numpy(found.keys) - 10_000 * gallery_number
            own = exact.T.gather(1, rows)
            best = exact.T.topk(100, dim=1).values
            # Ties aside: rank by rank the cosines are equal, so what differs in the keys differs in nothing else.
            torch.testing.assert_close(own, best, atol=2e-6, rtol=0)
            torch.testing.assert_close(torch.from_numpy(found.scores).double(), best, atol=2e-6, rtol=0)
            assert all(len(set(row.tolist())) == 100 for row in rows)


@pytest.mark.skipif(not code_index._has_faiss(), reason="the extra `index`")
@pytest.mark.parametrize("spread", NORMS.values(), ids=NORMS.keys())
@pytest.mark.parametrize("num_codes", [16, 11])
def test_both_backends_give_the_same_bits(spread: float, num_codes: int) -> None:
    found = []
    for backend in ("numpy", "faiss"):
        index = CodeIndex(make_codes(num_codes, spread=spread), 6, backend)
        for seed, modality in enumerate(("text", "image", "audio")):
            index.add(random_ids(700, num_codes=num_codes, seed=seed), modality)
        found.append(index.search(unit(9, 24, seed=3), top_k=150, modalities=["text", "audio"]))
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


@each_backend
@pytest.mark.parametrize("count", [5, 300])
def test_of_items_that_tie_the_first_added_wins(backend: str, count: int) -> None:
    # Two kinds of items in turn, over two modalities: each query has one kind in front, all of them tied. With 300 of
    # each the ties are more than the candidates that FAISS is first asked for.
    index = CodeIndex(make_codes(), 6, backend)
    kinds = random_ids(2)
    for turn in range(count):
        index.add(kinds, ("image", "text")[turn % 2])
    found = index.search(kinds, top_k=4)
    assert found.keys.tolist() == [[0, 2, 4, 6], [1, 3, 5, 7]]
    assert found.modalities.tolist() == [["image", "text"] * 2] * 2
    np.testing.assert_allclose(found.scores, 1.0, atol=1e-6)


@each_backend
def test_more_candidates_are_asked_for_until_the_best_are_certain(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Norms differ so much that the 3 largest products are not the 3 largest cosines.
    monkeypatch.setattr(faiss_gallery, "_SPARE", 0)
    codes, ids, queries = make_codes(spread=1.5), random_ids(500), unit(7, 24, seed=5)
    index = CodeIndex(codes, 6, backend)
    index.add(ids, "image")
    expected = naive_cosines(codes, ids, queries)
    np.testing.assert_array_equal(index.search(queries, 3).keys, np.argsort(-expected, axis=1, kind="stable")[:, :3])


@each_backend
def test_ids_quantized_and_continuous_queries_are_all_taken(backend: str) -> None:
    model = tiny_model(small_config("text", "image"))
    index = CodeIndex.from_model(model, backend)
    ids = torch.from_numpy(random_ids(30))
    index.add(ids, "image")
    by_ids = index.search(ids[:4], top_k=3)
    by_embeds = index.search(model.codes_to_embeds(ids[:4], "image"), top_k=3)
    np.testing.assert_array_equal(by_ids.keys, by_embeds.keys)
    np.testing.assert_allclose(by_ids.scores, by_embeds.scores, atol=1e-6)
    assert by_ids.keys[:, 0].tolist() == [0, 1, 2, 3]
    half = index.search(model.codes_to_embeds(ids[:4], "image").bfloat16(), top_k=1)
    assert half.keys[:, 0].tolist() == [0, 1, 2, 3]


@each_backend
def test_a_search_of_some_modalities_is_the_whole_search_without_the_others(backend: str) -> None:
    index = make_index(backend, text=30, image=40, audio=50)
    queries = unit(6, 24)
    everything = index.search(queries, top_k=120)
    some = index.search(queries, top_k=1000, modalities=["audio", "text"])
    kept = everything.modalities != "image"
    assert some.keys.shape == (6, 80)
    np.testing.assert_array_equal(some.keys, everything.keys[kept].reshape(6, 80))
    np.testing.assert_array_equal(some.modalities == "text", some.keys < 30)


@each_backend
def test_neither_chunks_nor_groups_of_queries_change_a_result(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    index = make_index(backend, text=30, image=40)
    queries = unit(9, 24)
    whole = index.search(queries, top_k=12)
    monkeypatch.setattr(code_index, "CHUNK", 7)
    monkeypatch.setattr(code_index, "queries_at_once", lambda *sizes: 2)
    small = make_index(backend, text=30, image=40).search(queries, top_k=12)
    np.testing.assert_array_equal(small.keys, whole.keys)
    np.testing.assert_allclose(small.scores, whole.scores, atol=1e-6)


@each_backend
def test_items_added_after_a_search_are_found(backend: str) -> None:
    index = make_index(backend, text=10)
    late = random_ids(3, seed=7)
    index.search(unit(1, 24))
    index.add(late[:2], "image")
    index.add(late[2:], "text")
    assert index.search(late, top_k=1).keys.ravel().tolist() == [10, 11, 12]
    assert len(index) == 13


@pytest.mark.parametrize("spread", NORMS.values(), ids=NORMS.keys())
def test_reconstruction_is_that_of_the_model_bit_for_bit(spread: float) -> None:
    model = tiny_model(small_config("text", "image", normalize_codes=not spread))
    model.codebooks.shared.reset(make_codes(spread=spread))
    index = CodeIndex.from_model(model)
    ids = torch.from_numpy(random_ids(20))
    index.add(ids, "image", keys=[f"pict\u00fcre {number}" for number in range(20)])
    keys = [f"pict\u00fcre {number}" for number in (7, 0, 7, 19)]
    assert torch.equal(index.reconstruct(keys), model.codes_to_embeds(ids[[7, 0, 7, 19]], "image"))


def test_keys_come_back_as_they_were_given() -> None:
    texts, numbers = make_index(), make_index()
    texts.add(random_ids(2), "image", keys=["a.png", "\u00fcber.png"])
    numbers.add(random_ids(2), "image", keys=np.array([-5, 2**40]))
    assert texts.search(random_ids(2), top_k=1).keys.tolist() == [["a.png"], ["\u00fcber.png"]]
    assert numbers.search(random_ids(2), top_k=1).keys.tolist() == [[-5], [2**40]]


def test_modalities_of_one_object_may_share_its_key() -> None:
    index, ids = make_index(), random_ids(2)
    index.add(ids[:1], "image", keys=["object"])
    index.add(ids[1:], "audio", keys=["object"])
    assert torch.equal(index.reconstruct(["object"], modality="audio"), index.reconstruct(["object"] * 2, "audio")[:1])
    with pytest.raises(ValueError, match=r"keys: \['object'\] names several items; `modality` tells"):
        index.reconstruct(["object"])


def test_items_are_kept_in_as_few_pieces_as_needed() -> None:
    index = make_index()
    for row in random_ids(300):
        index.add(row[None], "image")
    assert len(index._items.parts) < 12
    assert index.search(random_ids(300), top_k=1).keys.ravel().tolist() == list(range(300))


@each_backend
@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("keys", [None, "integers", "texts"])
def test_a_saved_index_comes_back(backend: str, mmap: bool, keys: str | None, tmp_path: Path) -> None:
    index, queries = CodeIndex(make_codes(11), 6, backend), unit(4, 24)
    given: dict[str | None, Any] = {None: None, "integers": range(100, 125), "texts": [f"{n}.png" for n in range(25)]}
    for seed, modality in enumerate(("image", "text")):
        index.add(random_ids(25, num_codes=11, seed=seed), modality, given[keys])
    index.save(tmp_path / "new" / "index")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["index"]
    back = CodeIndex.load(tmp_path / "new" / "index", mmap=mmap, backend=backend)
    assert len(back) == 50
    assert back.modalities == ["image", "text"]
    for one, other in zip(index.search(queries, 20), back.search(queries, 20), strict=True):
        np.testing.assert_array_equal(one, other)
    assert isinstance(back._items.parts[0].codes, np.memmap) is mmap
    assert isinstance(back._in_faiss.get(0), faiss_gallery.FaissGallery) is (backend == "faiss")


def test_a_loaded_index_grows_and_replaces_itself_on_disk(tmp_path: Path) -> None:
    make_index(image=10).save(tmp_path / "index")
    index = CodeIndex.load(tmp_path / "index")
    late = random_ids(1, seed=7)
    index.add(late, "text")
    index.save(tmp_path / "index")
    back = CodeIndex.load(tmp_path / "index")
    assert len(back) == 11
    assert back.search(late, top_k=1).keys.tolist() == [[10]]
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_what_fails_while_saving_leaves_the_old_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_index(image=10).save(tmp_path / "index")
    monkeypatch.setattr("codebind_hf.inference.index_files._flush", lambda file: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        make_index(image=20).save(tmp_path / "index")
    assert len(CodeIndex.load(tmp_path / "index")) == 10
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_an_empty_index_can_be_saved_and_filled_later(tmp_path: Path) -> None:
    make_index().save(tmp_path / "index")
    index = CodeIndex.load(tmp_path / "index")
    index.add(random_ids(2), "image", keys=["a", "b"])
    assert index.search(random_ids(2)[1:], top_k=1).keys.tolist() == [["b"]]


@each_backend
@pytest.mark.parametrize("mmap", [True, False])
def test_merged_shards_are_the_whole(backend: str, mmap: bool, tmp_path: Path) -> None:
    whole, one, other = (CodeIndex(make_codes(), 6, backend) for _ in range(3))
    for shard, modalities in ((one, ("text", "image")), (other, ("audio", "image"))):
        for modality in modalities:
            ids = random_ids(30, seed=len(whole))
            whole.add(ids, modality)
            shard.add(ids, modality)
    other.save(tmp_path / "shard")
    one.search(unit(1, 24))
    one.merge(CodeIndex.load(tmp_path / "shard", mmap))
    assert len(one) == 120
    assert one.modalities == ["text", "image", "audio"]
    queries = unit(5, 24)
    for found, expected in zip(one.search(queries, 50), whole.search(queries, 50), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert torch.equal(one.reconstruct([119]), whole.reconstruct([119]))
    assert len(CodeIndex.load(tmp_path / "shard")) == 60


def test_a_memory_mapped_index_reads_from_disk_and_needs_no_copy(tmp_path: Path) -> None:
    make_index(image=10).save(tmp_path / "index")
    index = CodeIndex.load(tmp_path / "index", backend="auto")
    index.search(unit(1, 24))
    assert index._in_faiss == {}


@pytest.mark.skipif(not code_index._has_faiss(), reason="the extra `index`")
@pytest.mark.parametrize(("spread", "uses_faiss"), [(0.0, True), (0.4, False)])
def test_auto_takes_faiss_where_it_pays(spread: float, uses_faiss: bool) -> None:
    index = CodeIndex(make_codes(spread=spread), 6)
    index.add(random_ids(10), "image")
    index.search(unit(1, 24))
    assert bool(index._in_faiss) is uses_faiss


def test_without_faiss_auto_searches_exactly_and_faiss_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_index, "_has_faiss", lambda: False)
    index = make_index("auto", image=10)
    assert index.search(random_ids(10), top_k=1).keys.ravel().tolist() == list(range(10))
    with pytest.raises(ValueError, match=r"not installed. Fix: pip install \"codebind-hf\[index\]\""):
        make_index("faiss")


def test_entries_are_all_items_with_their_modalities_and_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_index, "CHUNK", 4)
    entries = list(make_index(image=5, text=3).entries())
    images = [entry for entry in entries if entry.modality == "image"]
    np.testing.assert_array_equal(np.concatenate([entry.ids for entry in images]), random_ids(5))
    assert sorted(key for entry in entries for key in entry.keys.tolist()) == list(range(8))


def search_of_nothing() -> object:
    return make_index().search(unit(1, 24))


def keys_of_two_kinds() -> None:
    make_index(image=2).add(random_ids(2), "image", keys=["a", "b"])


def many_modalities() -> None:
    index = make_index()
    for number in range(257):
        index.add(random_ids(1), f"modality {number}")


BAD: dict[str, tuple[Callable[[], object], str]] = {
    "ids of other segments": (lambda: make_index().add(random_ids(2, 5), "image"), r"ids: .*\(2, 5\).*\(items, 6\)"),
    "an id outside the book": (lambda: make_index().add(random_ids(2) + 16, "image"), "ids: got values from 1"),
    "no modality": (lambda: make_index().add(random_ids(2), ""), "modality: got ''"),
    "too few keys": (lambda: make_index().add(random_ids(2), "image", ["a"]), "keys: got 1 for 2 items"),
    "mixed keys": (lambda: make_index().add(random_ids(2), "image", ["a", 1]), "keys: got int, str; allowed"),
    "keys of another kind": (keys_of_two_kinds, "keys: got texts, and this index has numbers"),
    "a key of zeros": (lambda: make_index().add(random_ids(1), "image", ["a\0"]), "without zero characters"),
    "a key of 65 bits": (lambda: make_index().add(random_ids(1), "image", [2**64]), "keys: .* 64 bits"),
    "257 modalities": (many_modalities, "modality: 'modality 256' is one more than the 256"),
    "one query": (lambda: make_index(image=2).search(unit(24)), r"queries: .*\(24,\).*\(queries, 24\).*query\[None\]"),
    "queries of another width": (lambda: make_index(image=2).search(unit(1, 23)), r"queries: got shape \(1, 23\)"),
    "query ids outside the book": (lambda: make_index(image=2).search(random_ids(1) + 16), "queries: got values"),
    "a query of zeros": (lambda: make_index(image=2).search(torch.zeros(1, 24)), "queries: got NaN, .* zeros"),
    "a query of NaN": (lambda: make_index(image=2).search(unit(1, 24) * torch.nan), "queries: got NaN"),
    "no place": (lambda: make_index(image=2).search(unit(1, 24), top_k=0), "top_k: got 0"),
    "unknown modality": (
        lambda: make_index(image=2).search(unit(1, 24), modalities=["eeg"]),
        r"modalities: .*eeg.*has image",
    ),
    "a word for modalities": (
        lambda: make_index(image=2).search(unit(1, 24), modalities="image"),
        "modalities: got 'image'",
    ),
    "nothing to search": (search_of_nothing, "modalities: got None; this index has no items"),
    "an unknown key": (lambda: make_index(image=2).reconstruct([1, 2]), r"keys: no item has \[2\]"),
    "a key of another type": (lambda: make_index(image=2).reconstruct(["a"]), r"keys: no item has \['a'\]"),
    "ids without data": (
        lambda: make_index().add(torch.zeros(2, 6, device="meta"), "image"),
        "ids: got .*without data",
    ),
    "keys that are no list": (lambda: make_index().add(random_ids(2), "image", 3), "keys: got 3; allowed: a list"),
    "keys that are one text": (lambda: make_index().add(random_ids(2), "image", "ab"), "keys: got 'ab'; allowed"),
    "half a character": (lambda: make_index().add(random_ids(1), "image", ["\ud800"]), "without .* surrogates"),
    "a modality that is a number": (lambda: make_index().add(random_ids(2), 3), "modality: got 3; give the name"),
    "a word for top_k": (lambda: make_index(image=2).search(unit(1, 24), top_k="x"), "top_k: got 'x'; give"),
    "a number for modalities": (
        lambda: make_index(image=2).search(unit(1, 24), modalities=3),
        "modalities: got 3; this index has image",
    ),
    "queries by modality": (
        lambda: make_index(image=2).search({"image": unit(1, 24)}),
        "queries: got dict.*Fix: encode first, and take one modality of the dictionary",
    ),
    "a key that is no list": (lambda: make_index(image=2).reconstruct(3), "keys: got 3; allowed: a list"),
    "keys of an empty index": (lambda: make_index().reconstruct([1]), "keys: got .*expected keys of the 0 items"),
    "codes that are a list of words": (lambda: CodeIndex([["a"]], 6), "codes: got str .*a numpy array"),
    "half a segment": (lambda: CodeIndex(make_codes(), 1.5), "segments: got 1.5; allowed: a whole number"),
    "a word for segments": (lambda: CodeIndex(make_codes(), "6"), "segments: got '6'; allowed: a whole number"),
    "something else to merge": (lambda: make_index().merge([]), "other: got .*; allowed: CodeIndex"),
    "a number for a folder": (lambda: make_index().save(3), "folder: got 3; allowed: a text or a path"),
    "a number to load from": (lambda: CodeIndex.load(3), "folder: got 3; allowed: a text or a path"),
    "a backend that is a list": (lambda: make_index(["numpy"]), "backend: got .'numpy'.; allowed: 'auto'"),
    "another codebook": (lambda: make_index().merge(CodeIndex(make_codes(spread=0.1), 6)), "other: has 6 segments"),
    "other segments": (lambda: make_index().merge(CodeIndex(make_codes(), 5)), "other: has 5 segments"),
    "an unknown backend": (lambda: make_index("gpu"), "backend: got 'gpu'; allowed: 'auto', 'faiss', 'numpy'"),
    "codes that are NaN": (lambda: CodeIndex(make_codes() * torch.nan, 6), "codes: got shape"),
    "one code": (lambda: CodeIndex(make_codes(1), 6), "num_codes: got 1"),
    "a model without codes": (
        lambda: CodeIndex.from_model(tiny_model(small_config("text", num_shared_codes=0, align_on="continuous"))),
        "model: has no shared codebook",
    ),
}


@pytest.mark.parametrize(("call", "message"), BAD.values(), ids=BAD.keys())
def test_bad_arguments_of_an_index_are_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


DAMAGE: dict[str, tuple[Callable[[Path], object], type[Exception], str]] = {
    "no folder": (lambda path: [file.unlink() for file in path.iterdir()], OSError, "index.json"),
    "no codes": (lambda path: (path / "codes.npy").unlink(), OSError, "codes.npy"),
    "no keys": (lambda path: (path / "keys.npy").unlink(), OSError, "keys.npy"),
    "cut codes": (lambda path: cut(path / "codes.npy"), ValueError, "codes.npy: is no array or cut short"),
    "cut book": (lambda path: cut(path / "codebook.safetensors"), ValueError, "codebook.safetensors: is no codebook"),
    "cut description": (lambda path: cut(path / "index.json"), ValueError, "index.json: is no JSON"),
    "another format": (lambda path: (path / "index.json").write_text("[]"), ValueError, "index.json: got None"),
    "modalities of others": (
        lambda path: np.save(path / "modalities.npy", np.zeros(3)),
        ValueError,
        "modalities.npy: has shape",
    ),
    "a modality too many": (
        lambda path: np.save(path / "modalities.npy", np.array([0, 9, 0, 0], np.uint8)),
        ValueError,
        "modalities.npy: holds modality 9 of 1",
    ),
    "modalities as floats": (
        lambda path: np.save(path / "modalities.npy", np.zeros(4)),
        ValueError,
        "float64, not uint8",
    ),
    "empty codes": (lambda path: (path / "codes.npy").write_bytes(b""), ValueError, "codes.npy: is no array"),
    "no items": (
        lambda path: (path / "index.json").write_text('{"format": "codebind_hf.CodeIndex", "version": 1}'),
        ValueError,
        "index.json: has no 'code_dim'",
    ),
    "codes as floats": (lambda path: np.save(path / "codes.npy", np.zeros((4, 3))), ValueError, "float64 codes"),
}


@pytest.mark.parametrize(("damage", "kind", "message"), DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_index_is_refused(
    damage: Callable[[Path], object], kind: type[Exception], message: str, tmp_path: Path
) -> None:
    index = make_index()
    index.add(random_ids(4), "image", keys=list("abcd"))
    index.save(tmp_path / "index")
    damage(tmp_path / "index")
    with pytest.raises(kind, match=message):
        CodeIndex.load(tmp_path / "index")


def test_a_folder_of_something_else_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="folder: .* holds something that is no index"):
        make_index(image=2).save(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("foreign", ["index.json", "thesis.txt"])
def test_a_folder_with_files_of_others_is_not_replaced(foreign: str, tmp_path: Path) -> None:
    folder = tmp_path / "index"
    make_index(image=2).save(folder)
    (folder / foreign).write_text('{"mine": 1}')
    with pytest.raises(ValueError, match="folder: .* holds something that is no index"):
        make_index(image=3).save(folder)
    assert (folder / foreign).read_text() == '{"mine": 1}'
    assert (folder / "codes.npy").is_file()


def test_a_link_to_a_folder_stays_a_link(tmp_path: Path) -> None:
    make_index(image=2).save(tmp_path / "index")
    (tmp_path / "link").symlink_to(tmp_path / "index")
    make_index(image=3).save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert len(CodeIndex.load(tmp_path / "index")) == 3
    assert {path.name for path in tmp_path.iterdir()} == {"index", "link"}


def test_an_index_is_still_there_when_the_new_one_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_index(image=2).save(tmp_path / "index")
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if ".saving-" in self.name:
            raise OSError("no room")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="no room"):
        make_index(image=3).save(tmp_path / "index")
    assert len(CodeIndex.load(tmp_path / "index")) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_ids_that_the_book_does_not_have_are_refused(tmp_path: Path) -> None:
    index = CodeIndex(make_codes(6), 4)
    index.add(random_ids(3, 4, 6), "image")
    index.save(tmp_path / "index")
    np.save(tmp_path / "index" / "codes.npy", np.full_like(np.load(tmp_path / "index" / "codes.npy"), 255))
    with pytest.raises(ValueError, match=r"codes.npy: packed: holds the id 7, and a book of 6 codes"):
        CodeIndex.load(tmp_path / "index")


@each_backend
@pytest.mark.parametrize("factor", [1e20, 1e-20, 1e37])
def test_queries_of_any_length_have_the_same_cosines(backend: str, factor: float) -> None:
    index, queries = make_index(backend, image=50), unit(3, 24)
    expected, found = (index.search(each, top_k=50) for each in (queries, queries * factor))
    assert np.array_equal(found.keys, expected.keys)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-6)


def test_nothing_is_a_shard_and_a_choice_too() -> None:
    index = make_index()
    index.add(random_ids(2), "image", keys=["a", "b"])
    index.add(random_ids(0), "image", keys=[])
    assert len(index) == 2
    assert index.reconstruct([]).shape == (0, 24)


def test_a_search_never_holds_the_embeddings(tmp_path: Path) -> None:
    # 400,000 items of 32 segments are 12.8 MB of codes, 205 MB of floats and 102 MB of ids.
    index = CodeIndex(make_codes(256), 32, "numpy")
    for seed in range(10):
        index.add(random_ids(40_000, 32, 256, seed), "image")
    index.save(tmp_path / "index")
    imports = "import torch\ntorch.set_num_threads(1)\nfrom codebind_hf.inference import CodeIndex"
    work = f"index = CodeIndex.load({str(tmp_path / 'index')!r})\nindex.search(torch.randn(100, 128), top_k=100)"
    assert peak_memory(imports, work) < 70e6


def test_an_index_takes_codes_ids_and_queries_however_they_are_stored() -> None:
    codes, ids, queries = make_codes(), random_ids(4), unit(2, 24)
    plain = CodeIndex(codes, 6, "numpy")
    plain.add(ids, "image", torch.arange(4))
    stored = CodeIndex(codes.numpy().astype(">f4"), np.int64(6), "numpy")
    stored.add(ids.astype(">i4"), "image", [0, 1, 2, 3])
    expected = plain.search(queries)
    for other in (queries.numpy().astype(">f8"), queries.to_sparse(), queries.tolist(), queries.requires_grad_()):
        found = stored.search(other)
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-6)
        np.testing.assert_array_equal(found.keys, expected.keys)


@pytest.mark.filterwarnings("ignore")
def test_an_index_takes_or_clearly_refuses_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A name that is drawn is a folder that is written.
    monkeypatch.chdir(tmp_path)
    outcomes = Outcomes()
    outcomes.try_all(index_calls(), 250)
    assert min(outcomes.counts["index", TAKEN], outcomes.counts["index", REFUSED]) > 5, outcomes.table()
