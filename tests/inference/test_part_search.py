"""Search by what, which or both: against cosines from the definition, through files and shards; what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from common import small_config, tiny_model
from pipeline_items import item
from torch import Tensor
from torch.nn.functional import normalize

from codebind_hf import CodeBindModel, CodeBindProcessor
from codebind_hf.inference import CodeIndex, code_index, join_parts
from codebind_hf.processing.arguments import argument_of


# Of the shared part, of image and video, and of audio: number, width and how many an item has.
SIZES = {"shared": (16, 4, 6), "image": (10, 3, 5), "audio": (12, 2, 7)}


def book(part: str) -> Tensor:
    """Codes with norms of their own."""
    number, width, _ = SIZES[part]
    generator = torch.Generator().manual_seed(number)
    lengths = torch.exp(0.3 * torch.randn(number, 1, generator=generator))
    return normalize(torch.randn(number, width, generator=generator), dim=-1) * lengths


def ids_of(part: str, items: int, seed: int) -> np.ndarray:
    number, _, segments = SIZES[part]
    return np.random.default_rng(seed).integers(0, number, (items, segments))


def vectors(part: str, ids: np.ndarray) -> Tensor:
    return normalize(book(part)[torch.from_numpy(ids)].flatten(1).double(), dim=-1)


def empty(**options: Any) -> CodeIndex:
    own = {"image": (book("image"), 5), "video": (book("image"), 5), "audio": (book("audio"), 7)}
    return CodeIndex(book("shared"), 6, specific=own, **options)


ITEMS = {"image": 30, "text": 8, "audio": 20, "video": 25}
SHARED = {name: ids_of("shared", count, seed) for seed, (name, count) in enumerate(ITEMS.items())}
BOOKS = {"image": "image", "video": "image", "audio": "audio"}
SPECIFIC = {name: ids_of(part, ITEMS[name], 9 + place) for place, (name, part) in enumerate(BOOKS.items())}


def filled(**options: Any) -> CodeIndex:
    """Items of four modalities, in two pieces each, one modality after the other, with keys."""
    index = empty(**options)
    for half in (slice(None, 7), slice(7, None)):
        for name, ids in SHARED.items():
            own = {"specific": SPECIFIC[name][half]} if name in SPECIFIC else {}
            index.add(ids[half], name, [f"{name} {row}" for row in range(len(ids))][half], **own)
    return index


def expected(pair: tuple[Tensor, Tensor], names: list[str], weight: float) -> dict[str, np.ndarray]:
    """Scores of every item by its key, from the definition in float64."""
    found = {}
    for name in names:
        shared, own = (q.double() / q.double().norm(dim=1, keepdim=True) for q in pair)
        scores = (1 - weight) * shared @ vectors("shared", SHARED[name]).T
        scores = scores + weight * own @ vectors(BOOKS[name], SPECIFIC[name]).T
        found |= {f"{name} {row}": scores[:, row].numpy() for row in range(len(SHARED[name]))}
    return found


def queries(part: str, count: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    number, width, segments = SIZES[part]
    return 3 * torch.randn(count, 24, generator=generator), torch.randn(count, width * segments, generator=generator)


@pytest.mark.parametrize("chunk", [5, 8192])
@pytest.mark.parametrize(
    ("names", "part"), [(["image"], "image"), (["image", "video"], "image"), (["audio"], "audio")], ids=str
)
def test_scores_are_weighted_cosines(names: list[str], part: str, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_index, "CHUNK", chunk)
    pair = queries(part)
    for by, given, weight in (("which", pair[1], 1.0), ("both", pair, 0.5), ("both", pair, 0.2), ("both", pair, 0.0)):
        options = {} if by == "which" else {"specific_weight": weight}
        found = filled().search(given, 100, names, by=by, **options)
        scores = expected(pair, names, weight)
        assert found.keys.shape == (4, len(scores))
        for query in range(4):
            own = [scores[key][query] for key in found.keys[query].tolist()]
            np.testing.assert_allclose(found.scores[query], own, atol=1e-6)
            np.testing.assert_allclose(own, sorted(scores[key][query] for key in scores)[::-1], atol=2e-6)
    few = filled().search(pair, 3, names, by="both")
    np.testing.assert_array_equal(few.keys, filled().search(pair, 100, names, by="both").keys[:, :3])


def test_by_what_is_the_search_of_an_index_without_specific_codes(tmp_path: Path) -> None:
    plain = CodeIndex(book("shared"), 6)
    for half in (slice(None, 7), slice(7, None)):
        for name, ids in SHARED.items():
            plain.add(ids[half], name, [f"{name} {row}" for row in range(len(ids))][half])
    shared, _ = queries("image")
    one, other = plain.search(shared, 40), filled().search(shared, 40, by="what")
    for mine, theirs in zip(one, other, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_ties_go_to_the_item_that_was_added_first() -> None:
    index = empty()
    for name in ("video", "image"):
        index.add(
            np.repeat(SHARED["image"][:1], 3, 0),
            name,
            [f"{name} {row}" for row in range(3)],
            np.repeat(SPECIFIC["image"][:1], 3, 0),
        )
    found = index.search(queries("image"), 4, by="both")
    assert found.keys[0].tolist() == ["video 0", "video 1", "video 2", "image 0"]


def test_queries_may_be_ids_and_named_parts() -> None:
    index = filled()
    ids = SimpleNamespace(
        shared=torch.from_numpy(SHARED["image"][:6]), specific=torch.from_numpy(SPECIFIC["image"][:6])
    )
    for by in ("which", "both"):
        found = index.search(ids, 1, ["image"], by=by)
        assert found.keys[:, 0].tolist() == [f"image {row}" for row in range(6)]
        np.testing.assert_allclose(found.scores, 1, atol=1e-6)
    np.testing.assert_array_equal(index.search(ids, 5).keys, index.search(ids.shared, 5).keys)
    pair = index.search((ids.shared, ids.specific), 5, ["image"], by="both")
    np.testing.assert_array_equal(index.search(ids, 5, ["image"], by="both").scores, pair.scores)


@pytest.mark.parametrize("mmap", [True, False])
def test_files_and_shards_give_the_same(mmap: bool, tmp_path: Path) -> None:
    pair, whole = queries("image"), filled()
    whole.save(tmp_path / "whole")
    loaded = CodeIndex.load(tmp_path / "whole", mmap)
    shards = [empty(), empty()]
    for name, ids in SHARED.items():
        for shard, half in zip(shards, (slice(None, 7), slice(7, None)), strict=True):
            own = {"specific": SPECIFIC[name][half]} if name in SPECIFIC else {}
            shard.add(ids[half], name, [f"{name} {row}" for row in range(len(ids))][half], **own)
    shards[1].save(tmp_path / "second")
    # An index that knew no specific codebook takes them from its shards.
    merged = CodeIndex(book("shared"), 6)
    merged.merge(shards[0])
    merged.merge(CodeIndex.load(tmp_path / "second", mmap))
    for index in (loaded, merged):
        index.add(SHARED["image"][:1], "image", ["late"], SPECIFIC["image"][:1])
    whole.add(SHARED["image"][:1], "image", ["late"], SPECIFIC["image"][:1])
    for by in ("which", "both"):
        given = pair[1] if by == "which" else pair
        expected = whole.search(given, 20, ["image", "video"], by=by)
        for index in (loaded, merged):
            found = index.search(given, 20, ["image", "video"], by=by)
            np.testing.assert_array_equal(found.scores, expected.scores)
            np.testing.assert_array_equal(found.keys, expected.keys)
    # What lies on disk is replaced as a whole, and again readable.
    loaded.save(tmp_path / "second")
    assert len(CodeIndex.load(tmp_path / "second")) == len(whole)


def test_an_index_without_specific_codes_is_written_as_before(tmp_path: Path) -> None:
    index = empty()
    index.add(SHARED["text"], "text")
    index.save(tmp_path / "index")
    about = json.loads((tmp_path / "index" / "index.json").read_text())
    assert about["version"] == 2
    assert "specific" not in about
    filled().save(tmp_path / "both")
    about = json.loads((tmp_path / "both" / "index.json").read_text())
    assert about["version"] == 3
    assert about["specific"]["audio"] == {"segments": 7, "items": 20}


def test_damage_is_told(tmp_path: Path) -> None:
    filled().save(tmp_path / "index")
    about = json.loads((tmp_path / "index" / "index.json").read_text())
    column = tmp_path / "index" / f"specific.{about['modalities'].index('audio')}.npy"
    whole = np.load(column)
    np.save(column, whole[:3])
    with pytest.raises(ValueError, match=r"specific.2.npy: has shape \(3, 4\)"):
        CodeIndex.load(tmp_path / "index")
    np.save(column, np.full_like(whole, 255))
    with pytest.raises(ValueError, match="specific.2.npy: .* holds the id 15"):
        CodeIndex.load(tmp_path / "index")
    column.unlink()
    with pytest.raises(OSError, match=r"specific.2.npy: cannot be read"):
        CodeIndex.load(tmp_path / "index")
    about["specific"]["audio"]["items"] = 19
    (tmp_path / "index" / "index.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match="names 19 specific codes of 'audio', of which there are 20"):
        CodeIndex.load(tmp_path / "index")


def test_joined_parts_have_the_scores_as_cosines() -> None:
    pair = queries("audio")
    gallery = vectors("shared", SHARED["audio"]), vectors("audio", SPECIFIC["audio"])
    for weight in (0.0, 0.3, 1.0):
        scores = join_parts(*pair, weight) @ join_parts(*gallery, weight).T
        by_key = expected(pair, ["audio"], weight)
        np.testing.assert_allclose(scores, np.stack(list(by_key.values()), 1), atol=1e-6)
    for shared, specific, message in (
        (pair[0][:2], pair[1], "specific: got 4 rows"),
        (pair[0] * 0, pair[1], "shared: got .* rows of zeros"),
        (pair[0][0], pair[1], "shared: got .* a matrix"),
    ):
        with pytest.raises(ValueError, match=message):
            join_parts(shared, specific)


def add(**changes: Any) -> Callable[[], Any]:
    given = {"ids": SHARED["image"][:2], "modality": "image", "specific": SPECIFIC["image"][:2], **changes}
    return lambda: empty().add(**given)


def found(given: Any, modalities: Any = ("image",), **options: Any) -> Callable[[], Any]:
    return lambda: filled().search(given, 3, modalities and list(modalities), **options)


def merged(**changes: Any) -> Callable[[], Any]:
    other = CodeIndex(book("shared"), 6, specific=changes.pop("books", {"image": (book("image"), 5)}))
    other.add(SHARED["image"][:2], "image", ["a", "b"], **changes)
    return lambda: filled().merge(other)


PAIR = queries("image")
BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "text has none": (add(modality="text"), "specific: got codes for 'text'; .* for image, video, audio"),
    "number": (add(specific=SPECIFIC["image"][:1]), "specific: got codes of 1 items; `ids` has 2"),
    "width": (add(specific=SHARED["image"][:2]), r"specific: .* \(items, 5\)"),
    "outside": (add(specific=SPECIFIC["image"][:2] + 10), "specific: got values .* 0 to 9"),
    "none for some": (lambda: filled().add(SHARED["image"], "image"), "specific: got none for 'image'"),
    "some for none": (
        lambda: (
            index := empty(),
            index.add(SHARED["image"], "image"),
            index.add(*map(SHARED.get, ["image"]), "image", specific=SPECIFIC["image"]),
        ),
        "specific: got codes for 'image', whose items .* have no",
    ),
    "book": (
        lambda: CodeIndex(book("shared"), 6, specific={"image": book("image")}),
        r"specific: .* \(codes, segments\)",
    ),
    "books": (lambda: CodeIndex(book("shared"), 6, specific=[1]), "specific: got"),
    "segments": (lambda: CodeIndex(book("shared"), 6, specific={"image": (book("image"), 0)}), "segments: got 0"),
    "by": (found(PAIR, by="kind"), "by: got 'kind'; allowed: 'what', 'which', 'both'"),
    "weight": (found(PAIR, by="both", specific_weight=1.5), "specific_weight: got 1.5"),
    "no pair": (found(PAIR[0], by="both"), "queries: .* needs a pair"),
    "pair of other lengths": (found((PAIR[0], PAIR[1][:2]), by="both"), "queries: got 4 shared and 2 specific"),
    "shared part": (found(PAIR[0], by="which"), r"queries: got shape \(4, 24\); .* \(queries, 15\)"),
    "no specific part": (
        found(SimpleNamespace(shared=PAIR[0], specific=None), by="which"),
        "queries: got no specific parts",
    ),
    "modality without": (found(PAIR, ["text"], by="both"), "modalities: got .*text.* specific codes of image, audio"),
    "several books": (found(PAIR, None, by="both"), "modalities: .* cannot be compared. Fix: modalities="),
    "unknown modality": (found(PAIR, ["smell"], by="both"), "modalities: got .*smell"),
    "merge without": (merged(), "other: items of 'image' have specific codes in only one"),
    "merge another book": (
        merged(books={"image": (book("image") + 1, 5)}, specific=SPECIFIC["image"][:2]),
        "other: has another specific",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_is_refused(name: str) -> None:
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_the_index_of_a_model_finds_the_unit_that_was_encoded(
    model: CodeBindModel, processor: CodeBindProcessor
) -> None:
    names = ("image", "audio", "video")
    items = {name: [item(name, seed) for seed in range(3)] for name in names}
    shared = model.encode(items, processor, output="codes")
    own = model.encode(items, processor, output="codes", part="specific")
    index = CodeIndex.from_model(model)
    for name in names:
        index.add(shared[name], name, specific=own[name])
    with torch.no_grad():
        output = model(**processor(**{argument_of("image"): items["image"]}))
    for by in ("which", "both"):
        found = index.search(output.codes["image"], 1, ["image"], by=by)
        assert found.keys.ravel().tolist() == [0, 1, 2]
        np.testing.assert_allclose(found.scores, 1, atol=1e-6)
    # Pictures and videos are of one encoder.
    assert index.search(own["image"], 6, ["image", "video"], by="which").keys.shape == (3, 6)


def test_encode_gives_specific_parts_as_the_model_does(model: CodeBindModel, processor: CodeBindProcessor) -> None:
    items = {name: [item(name, seed) for seed in range(3)] for name in ("image", "eeg", "audio")}
    with torch.no_grad():
        output = model(**processor(**{argument_of(name): value for name, value in items.items()}))
    quantized = model.encode(items, processor, part="specific")
    continuous = model.encode(items, processor, part="specific", quantize=False)
    ids = model.encode(items, processor, part="specific", output="codes")
    for name in items:
        torch.testing.assert_close(torch.from_numpy(quantized[name]), output.specific_embeds[name])
        torch.testing.assert_close(torch.from_numpy(continuous[name]), output.continuous_specific_embeds[name])
        assert torch.equal(ids[name], output.codes[name].specific)
    broken = {"eeg": [item("eeg"), np.full((5, 40), np.nan)]}
    with_hole = model.encode(broken, processor, part="specific", on_error="null")["eeg"]
    assert with_hole.shape == quantized["eeg"][:2].shape
    assert np.isnan(with_hole[1]).all()
    np.testing.assert_allclose(with_hole[0], quantized["eeg"][0], atol=1e-6)
    for given, options, message in (
        (items["image"], {}, 'part: got "specific" for items of any modality'),
        ({"text": ["a"]}, {}, "part: got \"specific\", and 'text' has none"),
        (items, {"part": "both"}, "part: got 'both'; allowed: 'shared', 'specific'"),
    ):
        with pytest.raises(ValueError, match=message):
            model.encode(given, processor, **{"part": "specific", **options})


def test_a_model_without_specific_codes_says_so(processor: CodeBindProcessor) -> None:
    bare = tiny_model(small_config("image", num_specific_codes=0))
    pictures = {"image": [item("image")]}
    assert bare.encode(pictures, processor, part="specific")["image"].shape == (1, bare.config.specific_dim)
    with pytest.raises(ValueError, match="output: got \"codes\", but the specific part of 'image' has no codebook"):
        bare.encode(pictures, processor, part="specific", output="codes")
    with pytest.raises(ValueError, match="specific: got codes for 'image'; .* no modality"):
        CodeIndex.from_model(bare).add(np.zeros((1, 6), dtype=int), "image", specific=np.zeros((1, 2), dtype=int))
