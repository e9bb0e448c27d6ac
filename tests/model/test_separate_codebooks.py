"""Separate codebooks (paper table 7): the book of every encoder but text quantizes both of its parts."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from common import ALL_TERMS, assert_same, buffers_of, small_config, tiny_inputs, tiny_model
from torch import Tensor
from torch.nn.functional import normalize

from codebind_hf import CodeBindModel
from codebind_hf.evaluation.model_card import write_model_card
from codebind_hf.inference.code_index import CodeIndex
from codebind_hf.model.codebooks import SharedSpecificCodebook
from codebind_hf.model.configuration_codebind import CodeBindConfig
from codebind_hf.training.building import warn_of_idle_terms
from codebind_hf.training.freezing import train_only
from codebind_hf.training.health import codebook_log


NAMES = ("text", "image", "depth", "eeg")


def separate(**overrides: Any) -> CodeBindConfig:
    return small_config(*NAMES, **{"shared_codebook": "per_encoder", **overrides})


def transcribed(embedding: Tensor, codes: Tensor, width: int) -> tuple[list[list[int]], Tensor]:
    """Ids and quantized embeddings with loops, given the codes that should have been searched."""
    ids = []
    for row in embedding:
        cut = [row[start : start + width] for start in range(0, len(row), width)]
        ids.append([max(range(len(codes)), key=lambda k, x=x: float(x.detach() @ codes[k])) for x in cut])  # type: ignore[misc]
    return ids, normalize(torch.stack([torch.cat([codes[k] for k in row]) for row in ids]), dim=-1)


@pytest.fixture(scope="module")
def model() -> CodeBindModel:
    made = tiny_model(separate())
    with torch.no_grad():
        # Fresh books of one size are equal, and a swapped one would not show.
        for seed, book in enumerate([made.codebooks.shared, *made.codebooks.specific.values()]):
            book.reset(torch.randn(book.codes.shape, generator=torch.Generator().manual_seed(seed)))
    return made


# What quantizes what


def test_both_parts_of_an_encoder_pick_from_its_own_book_and_text_from_the_shared_one(model: CodeBindModel) -> None:
    output = model(**tiny_inputs(model.config))
    books = {name: book.codes for name, book in model.codebooks.specific.items()}
    assert set(books) == {"vision", "depth", "eeg"}
    for name, codes in {"text": model.codebooks.shared.codes, "image": books["vision"], "eeg": books["eeg"]}.items():
        ids, embeds = transcribed(output.continuous_embeds[name], codes, 4)
        assert output.codes[name].shared.tolist() == ids
        torch.testing.assert_close(output.embeds[name], embeds)
        if name != "text":
            ids, embeds = transcribed(output.continuous_specific_embeds[name], codes, 4)
            assert output.codes[name].specific.tolist() == ids
            torch.testing.assert_close(output.specific_embeds[name], embeds)


def test_ids_give_back_embeddings_by_the_book_they_came_from(model: CodeBindModel) -> None:
    output = model(**tiny_inputs(model.config))
    for name in NAMES:
        assert torch.equal(model.codes_to_embeds(output.codes[name].shared, name), output.embeds[name])
        assert torch.equal(model.get_features(name, **_values(model, name)).pooler_output, output.embeds[name])
    assert not torch.equal(model.codes_to_embeds(output.codes["eeg"].shared, "depth"), output.embeds["eeg"])
    with pytest.raises(ValueError, match=r"ids: got values in \[0, 12\]; allowed are 0 to 9"):
        model.codes_to_embeds(torch.tensor([[0, 1, 2, 3, 4, 12]]), "eeg")


def _values(model: CodeBindModel, name: str) -> dict[str, Tensor]:
    inputs = tiny_inputs(model.config)
    mask = {"attention_mask": inputs["attention_mask"]} if name == "text" else {}
    return {"values": inputs[model.config.modality(name).tensor], **mask}


def test_an_encoder_without_specific_part_still_has_a_book() -> None:
    model = tiny_model(separate(specific_dim=0, loss_weights=None))
    output = model(**tiny_inputs(model.config))
    ids, _ = transcribed(output.continuous_embeds["eeg"], model.codebooks.specific["eeg"].codes, 4)
    assert output.codes["eeg"].shared.tolist() == ids
    assert output.codes["eeg"].specific is None


def test_an_added_modality_has_a_book_for_both_parts() -> None:
    model = tiny_model(separate())
    model.add_modality(
        "radar",
        {"num_channels": 2, "input_size": [32], "patch_size": [8], "hidden_size": 32, "num_attention_heads": 2},
    )
    assert model.codebooks.book("shared", "radar") is model.codebooks.book("specific", "radar") is not None
    assert model.codebooks.book("shared", "text") is model.codebooks.shared


# Learning


def test_one_step_moves_a_book_by_what_both_parts_picked() -> None:
    config = separate(codebook_decay=0.0, restart_codes=False, codebook_spread_rate=0.0)
    books = SharedSpecificCodebook(config)
    before = buffers_of(books)
    parts = {"shared": torch.randn(5, 24), "specific": torch.randn(5, 20)}
    chosen = [(part, "depth", books.quantize(part, "depth", x)) for part, x in parts.items()]
    books.update(chosen)
    sums, counts = torch.zeros(10, 4), torch.zeros(10)
    for _, _, quantized in chosen:
        for x, k in zip(quantized.segments.reshape(-1, 4), quantized.ids.flatten().tolist(), strict=True):
            sums[k] += x
            counts[k] += 1
    torch.testing.assert_close(books.specific["depth"].cluster_size, counts)
    used = counts > 0
    torch.testing.assert_close(books.specific["depth"].codes[used], normalize(sums[used], dim=-1))
    still = {name: x for name, x in buffers_of(books).items() if "depth" not in name}
    assert_same(still, {name: x for name, x in before.items() if "depth" not in name})


def test_a_training_step_moves_every_book_with_samples_and_every_term_but_cm_is_there() -> None:
    weights = {**dict.fromkeys(ALL_TERMS, 0.3), "orth": 0.0}
    model = tiny_model(separate(loss_weights=weights)).train()
    before = buffers_of(model.codebooks)
    output = model(**tiny_inputs(model.config), return_loss=True)
    output.loss.backward()
    moved = {
        name.removesuffix(".codes") for name, x in buffers_of(model.codebooks).items() if x.ne(before[name]).any()
    }
    assert {"shared", "specific.vision", "specific.depth", "specific.eeg"} <= moved
    assert set(output.loss_terms) == set(ALL_TERMS) - {"cm", "orth"}
    assert set(codebook_log(model)) == {
        f"codebook/{name}/{kind}" for name in ("shared", "vision", "depth", "eeg") for kind in ("usage", "perplexity")
    }


def test_parity_books_move_by_the_shared_part_before_the_specific_part_is_searched() -> None:
    model = tiny_model(separate(parity_codebooks=True, parity_losses=True)).train()
    book = model.codebooks.specific["eeg"]
    model.codebooks.quantize("shared", "eeg", torch.randn(5, 24))
    after = book.codes.clone()
    assert int(book.num_updates) == 1
    model.codebooks.quantize("specific", "eeg", torch.randn(5, 20))
    assert int(book.num_updates) == 2
    assert not torch.equal(after, book.codes)
    assert int(model.codebooks.shared.num_updates) == 0


@pytest.mark.parametrize("method", ["init_codebooks", "fit_codebooks"])
def test_kmeans_fits_a_book_to_both_parts_and_the_shared_one_to_text(method: str) -> None:
    model, alone = tiny_model(separate()), tiny_model(separate())
    inputs = tiny_inputs(model.config)
    output = model(**inputs)
    getattr(model, method)([inputs])
    segments = [
        model.codebooks.segments(part, "eeg", x["eeg"]).flatten(0, 1)
        for part, x in (("shared", output.continuous_embeds), ("specific", output.continuous_specific_embeds))
    ]
    alone.codebooks.specific["eeg"].fit(torch.cat(segments))
    torch.testing.assert_close(model.codebooks.specific["eeg"].codes, alone.codebooks.specific["eeg"].codes)
    alone.codebooks.shared.fit(
        model.codebooks.segments("shared", "text", output.continuous_embeds["text"]).flatten(0, 1)
    )
    torch.testing.assert_close(model.codebooks.shared.codes, alone.codebooks.shared.codes)


def test_without_text_the_shared_book_is_left_alone_by_kmeans() -> None:
    model = tiny_model(separate().restricted_to(["eeg"]))
    before = model.codebooks.shared.codes.clone()
    model.init_codebooks([tiny_inputs(model.config)])
    assert torch.equal(before, model.codebooks.shared.codes)


def test_the_books_of_frozen_encoders_are_frozen_for_both_parts() -> None:
    model = tiny_model(separate(loss_weights={"commit": 1.0})).train()
    train_only(model, ["eeg"])
    model.train()
    before = buffers_of(model.codebooks)
    model(**tiny_inputs(model.config), return_loss=True)
    moved = {name.rpartition(".")[0] for name, x in buffers_of(model.codebooks).items() if x.ne(before[name]).any()}
    assert moved == {"specific.eeg", "shared"}


# Files, and the default


def test_a_model_comes_back_with_its_books(model: CodeBindModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    loaded = CodeBindModel.from_pretrained(tmp_path)
    assert loaded.config.shared_codebook == "per_encoder"
    assert_same(model.state_dict(), loaded.state_dict())
    inputs = tiny_inputs(model.config)
    assert torch.equal(model(**inputs).embeds["eeg"], loaded(**inputs).embeds["eeg"])
    part = CodeBindModel.from_pretrained(tmp_path, modalities=["eeg"])
    eeg = {"eeg_values": inputs["eeg_values"]}
    assert torch.equal(part(**eeg).embeds["eeg"], model(**eeg).embeds["eeg"])


def test_one_book_is_the_default_and_is_not_written(tmp_path: Path) -> None:
    small_config("eeg").save_pretrained(tmp_path)
    assert "shared_codebook" not in json.loads((tmp_path / "config.json").read_text())
    plain, written = tiny_model(small_config(*NAMES)), tiny_model(small_config(*NAMES, shared_codebook="one"))
    assert_same(plain.state_dict(), written.state_dict())


# Refusals


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        pytest.param(
            {"shared_codebook": "two"}, "shared_codebook: got 'two'; allowed: 'one', 'per_encoder'", id="name"
        ),
        pytest.param({"num_specific_codes": 0}, "both parts of vision, which has num_specific_codes=0", id="no codes"),
        pytest.param({"specific_code_dim": 5}, "of 5 numbers for a shared part of code_dim=4", id="width"),
        pytest.param(
            {"num_shared_codes": 0, "align_on": "continuous"}, "num_shared_codes: got 0; shared_codebook", id="text"
        ),
    ],
)
def test_what_cannot_be_one_book_for_two_parts_is_named(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        separate(**fields)


def test_code_matching_is_named_as_idle(caplog: pytest.LogCaptureFixture) -> None:
    warn_of_idle_terms(small_config(*NAMES, loss_weights={"cm": 0.1}))
    assert caplog.text == ""
    warn_of_idle_terms(separate(loss_weights={"cm": 0.1}))
    assert "loss_weights: cm: no effect, the model has no shared codebook of all encoders" in caplog.text


def test_an_index_holds_the_codes_of_one_book(model: CodeBindModel, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has 4 codebooks for its shared parts .* Fix: `from_model"):
        CodeIndex.from_model(model)
    output = model(**tiny_inputs(model.config))
    index = CodeIndex.from_model(model, "numpy", modality="image")
    index.add(output.codes["image"].shared, "image")
    index.save(tmp_path / "index")
    index = CodeIndex.load(tmp_path / "index", backend="numpy")
    assert torch.equal(index.reconstruct([0, 1, 2]), output.embeds["image"])
    found = index.search(output.continuous_embeds["eeg"], top_k=1)
    cosines = output.continuous_embeds["eeg"] @ output.embeds["image"].T
    torch.testing.assert_close(torch.from_numpy(found.scores[:, 0]), cosines.amax(1).detach())
    index.add(output.codes["image"].shared, "video")
    with pytest.raises(ValueError, match="modality: got 'eeg'; the codes of this index are of image, video alone"):
        index.add(output.codes["eeg"].shared, "eeg")


def test_an_index_of_one_book_for_all_takes_any_modality() -> None:
    plain = tiny_model(small_config(*NAMES))
    assert CodeIndex.from_model(plain, modality="eeg").only is None
    with pytest.raises(ValueError, match="modality"):
        CodeIndex.from_model(plain, modality="radar")


def _with_books(config: CodeBindConfig, tmp_path: Path) -> str:
    return write_model_card(tmp_path, None, config).read_text()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        pytest.param(
            separate, "ids of codes of its own encoder, of text shared codes, one of 10 or 16", id="separate"
        ),
        pytest.param(lambda: small_config(*NAMES), "ids of the shared codes, one of 16", id="one"),
    ],
)
def test_a_card_says_which_codes_there_are(make: Callable[[], CodeBindConfig], said: str, tmp_path: Path) -> None:
    assert said in _with_books(make(), tmp_path)
