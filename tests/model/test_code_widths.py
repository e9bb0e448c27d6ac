"""Books of different widths: the shared one and every encoder's own cut their parts into segments of their own."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from common import ALL_TERMS, assert_same, buffers_of, small_config, tiny_config, tiny_inputs, tiny_model
from torch import Tensor
from torch.nn.functional import normalize

from codebind_hf import CodeBindModel
from codebind_hf.inference.code_index import CodeIndex
from codebind_hf.inference.explain import explain_code
from codebind_hf.model.codebooks import SharedSpecificCodebook
from codebind_hf.model.configuration_codebind import CodeBindConfig
from codebind_hf.model.configuration_encoders import CodeBindEncoderConfig
from codebind_hf.training.adapters import add_lora, load_adapter, save_adapter
from codebind_hf.training.gradient_cache import in_chunks


# Shared codes of 4 numbers, specific ones of 5, those of EEG of 6, so that no two books may be swapped.
WIDTHS: dict[str, Any] = {"specific_code_dim": 5, "eeg_config": {"specific_dim": 18, "specific_code_dim": 6}}
NAMES = ("text", "image", "depth", "eeg")
DEPTH, EEG = 5, 6


def widths_config(**overrides: Any) -> CodeBindConfig:
    return small_config(*NAMES, **{**WIDTHS, **overrides})


def naive_codes(embedding: Tensor, codes: Tensor, width: int) -> tuple[list[list[int]], Tensor]:
    """Ids and quantized embedding from the definition, segment by segment and code by code."""
    ids, rows = [], []
    for row in embedding:
        segments = [row[start : start + width] for start in range(0, len(row), width)]
        chosen = [
            max(range(len(codes)), key=lambda k, x=x: float((x @ codes[k] / codes[k].norm()).detach()))  # type: ignore[misc]
            for x in segments
        ]
        ids.append(chosen)
        rows.append(torch.cat([codes[k] for k in chosen]))
    return ids, normalize(torch.stack(rows), dim=-1)


def specific_books(model: CodeBindModel) -> Iterator[tuple[str, Tensor]]:
    yield from ((name, book.codes) for name, book in model.codebooks.specific.items())


def moved_books(model: CodeBindModel, before: dict[str, Tensor]) -> list[str]:
    """Names of the specific books whose codes are no longer those of `before`."""
    return [
        name for name, codes in specific_books(model) if codes.ne(before[f"codebooks.specific.{name}.codes"]).any()
    ]


# The configuration


def test_a_width_is_the_encoders_or_the_models_or_that_of_shared_codes() -> None:
    config = widths_config()
    assert [config.code_dim_of("shared", name) for name in ("depth", "eeg")] == [4, 4]
    assert [config.code_dim_of("specific", name) for name in ("depth", "eeg")] == [DEPTH, EEG]
    assert [config.num_segments_of("specific", name) for name in ("depth", "eeg", "text")] == [4, 3, 0]
    assert config.num_segments_of("shared", "eeg") == 6
    plain = small_config("eeg", eeg_config={"specific_code_dim": 10})
    assert plain.code_dim_of("specific", "eeg") == 10
    assert small_config("eeg").code_dim_of("specific", "eeg") == 4


def test_a_config_without_the_field_is_saved_as_before_and_one_with_it_comes_back(tmp_path: Path) -> None:
    small_config("eeg").save_pretrained(tmp_path / "plain")
    assert "specific_code_dim" not in (tmp_path / "plain" / "config.json").read_text()
    widths_config().save_pretrained(tmp_path / "widths")
    saved = json.loads((tmp_path / "widths" / "config.json").read_text())
    assert (saved["specific_code_dim"], saved["eeg_config"]["specific_code_dim"]) == (DEPTH, EEG)
    loaded = CodeBindConfig.from_pretrained(tmp_path / "widths")
    assert [loaded.code_dim_of("specific", name) for name in ("depth", "eeg")] == [DEPTH, EEG]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        pytest.param(
            {"specific_code_dim": 7},
            "specific_dim: got 20 for vision, not a multiple of specific_code_dim=7",
            id="model",
        ),
        pytest.param(
            {"depth_config": {"specific_code_dim": 3}},
            "specific_dim: got 20 for depth, not a multiple of specific_code_dim=3",
            id="encoder",
        ),
        pytest.param({"specific_code_dim": 0}, "specific_code_dim: got 0; it must be 1 or more", id="zero"),
        pytest.param({"depth_config": {"specific_code_dim": -1}}, "specific_code_dim: got -1", id="negative"),
        pytest.param({"specific_code_dim": 2.5}, "specific_code_dim", id="no integer"),
    ],
)
def test_a_width_that_does_not_fit_is_named(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        small_config("depth", **fields)


# What the model makes of it


@pytest.mark.parametrize("part", ["shared", "specific"])
@pytest.mark.parametrize("name", ["depth", "eeg"])
def test_codes_and_embeddings_are_those_of_the_definition(part: str, name: str) -> None:
    model = tiny_model(widths_config())
    output = model(**tiny_inputs(model.config))
    book = model.codebooks.book(part, name)
    before, after = (
        (output.continuous_embeds, output.embeds)
        if part == "shared"
        else (output.continuous_specific_embeds, output.specific_embeds)
    )
    width = {"shared": 4, "depth": DEPTH, "eeg": EEG}["shared" if part == "shared" else name]
    assert book.codes.shape == (16 if part == "shared" else 10, width)
    ids, embeds = naive_codes(before[name], book.codes, width)
    assert getattr(output.codes[name], part).tolist() == ids
    torch.testing.assert_close(after[name], embeds)
    assert torch.equal(model.codes_to_embeds(getattr(output.codes[name], part), name, part), after[name])


def test_the_default_is_the_same_bits_as_the_width_of_shared_codes_written_down() -> None:
    plain, written = tiny_model(small_config(*NAMES)), tiny_model(small_config(*NAMES, specific_code_dim=4))
    assert_same(plain.state_dict(), written.state_dict())
    inputs = tiny_inputs(plain.config)
    assert torch.equal(plain(**inputs).specific_embeds["eeg"], written(**inputs).specific_embeds["eeg"])


def test_even_segments_are_those_of_the_own_width() -> None:
    model = tiny_model(widths_config(even_segments=True))
    output = model(**tiny_inputs(model.config))
    for name, width in (("depth", DEPTH), ("eeg", EEG)):
        own = output.continuous_specific_embeds[name].unflatten(-1, (-1, width)).norm(dim=-1)
        torch.testing.assert_close(own, torch.full_like(own, own.shape[1] ** -0.5))


def test_codes_decode_as_their_embeddings_do_and_a_wrong_count_is_named() -> None:
    model = tiny_model(widths_config())
    output = model(**tiny_inputs(model.config))
    parts = output.codes["eeg"].shared, output.codes["eeg"].specific
    assert [part.shape[1] for part in parts] == [6, 3]
    expected = model.decode(output.embeds["eeg"], output.specific_embeds["eeg"], modality="eeg")
    torch.testing.assert_close(model.decode(*parts, modality="eeg"), expected)
    with pytest.raises(ValueError, match=r"specific: got \(3, 4\); expected embeddings \(batch, 18\) or .* 3\)"):
        model.decode(parts[0], output.codes["depth"].specific, modality="eeg")
    with pytest.raises(ValueError, match="expected integers with 3 segments last"):
        model.codes_to_embeds(output.codes["depth"].specific, "eeg", "specific")


def test_books_without_codes_still_have_segments() -> None:
    model = tiny_model(widths_config(num_specific_codes=0, even_segments=True, loss_weights={"uni": 1.0})).train()
    output = model(**tiny_inputs(model.config), return_loss=True)
    assert output.codes["eeg"].specific is None
    lengths = output.specific_embeds["eeg"].unflatten(-1, (-1, EEG)).norm(dim=-1)
    torch.testing.assert_close(lengths, torch.full_like(lengths, 3**-0.5))


@pytest.mark.slow
def test_the_path_compiles_and_exports_as_eager() -> None:
    model = tiny_model(small_config("eeg", **WIDTHS))
    inputs = tiny_inputs(model.config)
    with torch.no_grad():
        expected = model(**inputs).specific_embeds["eeg"]
        exported = torch.export.export(model, (), inputs).module()
        compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
        for found in (exported, compiled):
            assert torch.equal(found(**inputs).specific_embeds["eeg"], expected)
    torch.compiler.reset()


# Learning


def test_books_start_from_kmeans_of_their_own_segments() -> None:
    for method in ("init_codebooks", "fit_codebooks"):
        model = tiny_model(widths_config())
        # As many codes as there are segments: each of them becomes a code.
        inputs = {name: tiny_inputs(model.config, batch=2)[name] for name in ("pixel_values", "depth_values")}
        getattr(model, method)([inputs])
        segments = model(**inputs).continuous_specific_embeds["depth"].unflatten(-1, (-1, DEPTH)).flatten(0, 1)
        cosines = normalize(segments, dim=-1) @ model.codebooks.specific["depth"].codes.T
        torch.testing.assert_close(cosines.amax(1), torch.ones(8))


def test_a_step_moves_each_book_to_the_mean_of_its_segments() -> None:
    config = widths_config(codebook_decay=0, restart_codes=False, specific_dim=20)
    books = SharedSpecificCodebook(config).train()
    chosen = [("shared", "eeg", torch.randn(7, 24)), ("specific", "eeg", torch.randn(7, 18))]
    chosen.append(("specific", "depth", torch.randn(7, 20)))
    quantized = [(part, name, books.quantize(part, name, x)) for part, name, x in chosen]
    books.update(quantized)
    for (part, name, found), (_, _, embedding), width in zip(quantized, chosen, (4, EEG, DEPTH), strict=True):
        segments = [normalize(x, dim=-1) for row in embedding for x in row.split(width)]
        for code in set(found.ids.flatten().tolist()):
            mine = [x for x, k in zip(segments, found.ids.flatten().tolist(), strict=True) if k == code]
            expected = normalize(torch.stack(mine).mean(0), dim=-1)
            torch.testing.assert_close(books.book(part, name).codes[code], expected)


def test_unused_codes_restart_at_segments_of_their_own_width() -> None:
    books = SharedSpecificCodebook(widths_config(restart_codes=True, codebook_decay=0.9)).train()
    # One direction only: the nine codes that it does not pick restart at it.
    x = torch.ones(4, 18)
    for _ in range(30):
        books.update([("specific", "eeg", books.quantize("specific", "eeg", x))])
    cosines = books.specific["eeg"].codes @ torch.full((EEG,), EEG**-0.5)
    assert int((cosines > 0.99).sum()) >= 9


def test_every_term_is_finite_and_reaches_the_heads() -> None:
    weights = {**dict.fromkeys((*ALL_TERMS, "views"), 0.3), "orth": 0.0}
    model = tiny_model(widths_config(loss_weights=weights)).train()
    inputs = tiny_inputs(model.config)
    views = {name: inputs[name] + 0.1 for name in ("depth_values", "eeg_values")}
    before = buffers_of(model)
    output = model(**inputs, views=views, return_loss=True)
    assert set(output.loss_terms) == {name for name, weight in weights.items() if weight}
    assert all(term.isfinite() for term in output.loss_terms.values())
    output.loss.backward()
    assert all(x.grad.abs().max() > 0 for x in model.encoders["eeg"].specific_head.parameters())
    assert moved_books(model, before) == ["vision", "depth", "eeg"]


def test_commitment_is_a_mean_over_segments_of_both_widths() -> None:
    model = tiny_model(widths_config(loss_weights={"commit": 1.0}, decoder_config=None)).train()
    inputs = {name: tiny_inputs(model.config)[name] for name in ("pixel_values", "eeg_values")}
    expected = []
    with torch.no_grad():
        output = model.eval()(**inputs)
    for name, own in (("image", DEPTH), ("eeg", EEG)):
        total = 0.0
        for part, embeds, width in (
            ("shared", output.continuous_embeds[name], 4),
            ("specific", output.continuous_specific_embeds[name], own),
        ):
            book = model.codebooks.book(part, model.config.modality(name).encoder)
            segments = normalize(embeds.unflatten(-1, (-1, width)), dim=-1)
            codes = book.codes[getattr(output.codes[name], part)]
            total += 0.25 * float((segments - codes).square().sum(-1).mean())
        expected.append(total)
    found = model.train()(**inputs, return_loss=True).loss_terms["commit"]
    assert found.item() == pytest.approx(sum(expected) / 2, rel=1e-5)


def test_chunks_have_the_gradients_of_the_whole_batch() -> None:
    gradients, codes = [], []
    for size in (None, 2):
        model = tiny_model(widths_config(loss_weights={"recon": 1.0, "commit": 1.0, "cm": 1.0, "uni": 1.0})).train()
        inputs = tiny_inputs(model.config)
        if size is None:
            loss = model(**inputs, return_loss=True).loss
        else:
            with in_chunks(model, size):
                loss = model(**inputs, return_loss=True).loss
        loss.backward()
        gradients.append({name: x.grad for name, x in model.named_parameters() if x.grad is not None})
        codes.append(dict(specific_books(model)))
    for one, other in (gradients, codes):
        assert one.keys() == other.keys()
        for name, value in one.items():
            torch.testing.assert_close(other[name], value, rtol=1e-4, atol=1e-5, msg=name)


def test_parity_losses_and_books_take_any_width() -> None:
    weights = dict.fromkeys(("commit", "cctr", "cuni", "cm", "recon"), 1.0)
    model = tiny_model(widths_config(loss_weights=weights, parity_losses=True, parity_codebooks=True)).train()
    inputs = {name: tiny_inputs(model.config)[name] for name in ("pixel_values", "eeg_values")}
    before = buffers_of(model)
    terms = model(**inputs, return_loss=True).loss_terms
    assert all(terms[name].isfinite() and terms[name] > 0 for name in ("commit", "cctr", "cm", "recon"))
    assert moved_books(model, before) == ["vision", "eeg"]


# What is kept and handed on


def test_checkpoints_come_back_whole_and_in_part(tmp_path: Path) -> None:
    model = tiny_model(widths_config())
    model.save_pretrained(tmp_path)
    assert_same(CodeBindModel.from_pretrained(tmp_path).state_dict(), model.state_dict())
    part = CodeBindModel.from_pretrained(tmp_path, modalities=["text", "eeg"])
    assert part.codebooks.specific["eeg"].codes.shape == (10, EEG)
    inputs = {"eeg_values": tiny_inputs(model.config)["eeg_values"]}
    assert torch.equal(part(**inputs).specific_embeds["eeg"], model(**inputs).specific_embeds["eeg"])


def test_an_added_modality_may_have_a_width_of_its_own(tmp_path: Path) -> None:
    tower = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "num_channels": 5}
    fields = {**tower, "input_size": [33], "patch_size": [3], "specific_dim": 21}
    model = tiny_model(small_config("text", "image", specific_code_dim=5))
    model.add_modality("radar", CodeBindEncoderConfig(**fields, specific_code_dim=7))
    values = torch.randn(2, 5, 33, generator=torch.Generator().manual_seed(0))
    output = model(radar_values=values)
    assert output.codes["radar"].specific.shape == (2, 3)
    model.save_pretrained(tmp_path)
    loaded = CodeBindModel.from_pretrained(tmp_path)
    assert torch.equal(loaded(radar_values=values).specific_embeds["radar"], output.specific_embeds["radar"])
    with pytest.raises(ValueError, match="specific_dim: got 21 for sonar, not a multiple of specific_code_dim=5"):
        model.add_modality("sonar", CodeBindEncoderConfig(**fields))
    assert "sonar" not in model.codebooks.specific_code_dims


def test_an_adapter_brings_books_of_its_widths_and_fits_no_others(tmp_path: Path) -> None:
    model = tiny_model(widths_config())
    inputs = {"eeg_values": tiny_inputs(model.config)["eeg_values"]}
    with torch.no_grad():
        model.codebooks.specific["eeg"].codes.neg_()
    add_lora(model, ["eeg"])
    save_adapter(model, tmp_path)
    fresh = tiny_model(widths_config())
    load_adapter(fresh, tmp_path)
    assert torch.equal(fresh.eval()(**inputs).specific_embeds["eeg"], model(**inputs).specific_embeds["eeg"])
    other = tiny_model(widths_config(eeg_config={"specific_dim": 18, "specific_code_dim": 3}))
    with pytest.raises(
        ValueError, match=r"codebooks\.specific\.eeg\.\w+ has shape \(10, 6\), and this model \(10, 3\)"
    ):
        load_adapter(other, tmp_path)


def test_an_index_of_a_specific_book_gives_its_embeddings_back(tmp_path: Path) -> None:
    model = tiny_model(widths_config())
    output = model(**tiny_inputs(model.config))
    ids, embeds = output.codes["eeg"].specific, output.specific_embeds["eeg"]
    index = CodeIndex(model.codebooks.specific["eeg"].codes, model.config.num_segments_of("specific", "eeg"), "numpy")
    # Three codes of ten: 4 bits each.
    assert index.bytes_per_vector == 2
    index.add(ids, "eeg")
    index.save(tmp_path / "index")
    loaded = CodeIndex.load(tmp_path / "index")
    assert torch.equal(loaded.reconstruct(range(len(ids)), modality="eeg"), embeds)
    assert loaded.search(embeds, top_k=1).scores[:, 0].tolist() == pytest.approx([1.0] * 3, abs=1e-6)
    code = int(ids[0, 0])
    assert explain_code(loaded, code)["eeg"].count == int((ids == code).sum())


def test_the_shared_index_of_a_model_does_not_depend_on_specific_widths() -> None:
    plain, widths = (CodeIndex.from_model(tiny_model(config)) for config in (tiny_config(), widths_config()))
    assert (plain.segments, plain.bytes_per_vector) == (widths.segments, widths.bytes_per_vector) == (6, 3)
