"""torch.compile without graph breaks and torch.export with any batch: the same values as eager.

The backend is "aot_eager": it traces as "inductor" does, without half a minute of C++ compilation for every graph.
"""

import shutil
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pytest
import torch
from common import small_config, tiny_config, tiny_inputs, tiny_model, unit
from torch import Tensor, nn
from torch.export import Dim

from codebind_hf.model.codebooks import SharedSpecificCodebook
from codebind_hf.model.modalities import ENCODERS, MODALITIES
from codebind_hf.model.modeling_codebind import CodeBindModel


BATCHES = (3, 5)
ALL = list(MODALITIES)
SLOW = pytest.mark.slow
BACKEND = {"fullgraph": True, "backend": "aot_eager"}


@pytest.fixture(autouse=True)
def _fresh_graphs() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.fixture(scope="module")
def model() -> CodeBindModel:
    return tiny_model(**{f"{name}_config": {"num_hidden_layers": 1} for name in ENCODERS})


def arguments_of(model: CodeBindModel, modality: str, batch: int) -> dict[str, Tensor]:
    inputs = tiny_inputs(model.config, batch, seed=batch)
    names = ["input_ids", "attention_mask"] if modality == "text" else [MODALITIES[modality].tensor]
    return {name: inputs[name] for name in names}


def codebooks(**overrides: Any) -> SharedSpecificCodebook:
    return SharedSpecificCodebook(small_config("text", "image", **overrides))


# torch.compile


@pytest.mark.parametrize(
    ("part", "overrides"),
    [
        pytest.param("shared", {}, id="shared", marks=pytest.mark.slow),
        pytest.param("specific", {}, id="specific", marks=pytest.mark.slow),
        pytest.param("shared", {"code_dim": 24, "specific_dim": 24}, id="one-segment", marks=pytest.mark.slow),
        pytest.param("shared", {"num_shared_codes": 0, "align_on": "continuous"}, id="no-codebook"),
    ],
)
def test_the_quantizer_compiles_whole_with_values_and_gradients_of_eager(part: str, overrides: dict[str, Any]) -> None:
    books = codebooks(**overrides)
    width = 24 if part == "shared" else books.specific["vision"].code_dim * 5

    def quantized(x: Tensor) -> tuple[Tensor | None, ...]:
        return tuple(books.quantize(part, "vision", x))

    compiled = torch.compile(quantized, **BACKEND, dynamic=True)
    for batch in BATCHES:
        x, y = (unit(batch, 4, width, seed=batch).requires_grad_() for _ in range(2))
        expected, found = quantized(x), compiled(y)
        for one, other in zip(expected, found, strict=True):
            assert (one is None) == (other is None)
            assert one is None or torch.equal(one, other)
        for output, values in ((expected[1], x), (found[1], y)):
            (output * unit(batch, 4, width, seed=9)).sum().backward()
            assert values.grad.abs().max() > 0
        torch.testing.assert_close(y.grad, x.grad, rtol=1e-6, atol=1e-7)


def test_the_nearest_code_search_compiles_over_several_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    # The default argument of the search was bound before a patched constant could matter.
    monkeypatch.setattr("codebind_hf.model.codebooks.nearest_codes.__defaults__", (7,))
    book = codebooks().shared
    compiled = torch.compile(book, **BACKEND)
    segments = unit(4, 5, book.code_dim, seed=2)
    for one, other in zip(book(segments), compiled(segments), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("modality", ALL)
def test_features_compile_whole_with_the_values_of_eager(model: CodeBindModel, modality: str) -> None:
    method = getattr(model, f"get_{modality}_features")
    compiled = torch.compile(method, **BACKEND)
    inputs = arguments_of(model, modality, BATCHES[0])
    with torch.no_grad():
        expected, found = method(**inputs), compiled(**inputs)
    assert torch.equal(found.pooler_output, expected.pooler_output)
    assert torch.equal(found.last_hidden_state, expected.last_hidden_state)


def test_one_graph_serves_every_batch(model: CodeBindModel) -> None:
    graphs = []

    def counting(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(model.get_eeg_features, fullgraph=True, dynamic=True, backend=counting)
    for batch in (3, 5, 8):
        inputs = arguments_of(model, "eeg", batch)
        with torch.no_grad():
            assert torch.equal(compiled(**inputs).pooler_output, model.get_eeg_features(**inputs).pooler_output)
    assert len(graphs) == 1


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="inductor needs a C++ compiler")
def test_inductor_gives_the_codes_of_eager(model: CodeBindModel) -> None:
    def features(values: Tensor) -> tuple[Tensor, Tensor]:
        pooled = model.get_eeg_features(values, quantize=False).pooler_output
        return pooled, model.codebooks.quantize("shared", "eeg", pooled).ids

    compiled = torch.compile(features, fullgraph=True)
    inputs = arguments_of(model, "eeg", BATCHES[0])
    with torch.no_grad():
        expected, found = features(inputs["eeg_values"]), compiled(inputs["eeg_values"])
    torch.testing.assert_close(found[0], expected[0], rtol=1e-5, atol=1e-6)
    assert torch.equal(found[1], expected[1])


# torch.export


class Embedding(nn.Module):
    """The embedding path of one modality, as an exported program has it."""

    def __init__(self, model: CodeBindModel, modality: str) -> None:
        super().__init__()
        self.model, self.modality = model, modality

    def forward(self, values: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        return self.model.get_features(self.modality, values, attention_mask).pooler_output


@pytest.mark.parametrize(
    "modality",
    [name if name in ("text", "image", "audio") else pytest.param(name, marks=SLOW) for name in ALL],
)
def test_the_embedding_path_exports_with_any_batch(model: CodeBindModel, modality: str) -> None:
    path = Embedding(model, modality).eval()
    first, second = (tuple(arguments_of(model, modality, batch).values()) for batch in BATCHES)
    batch, tokens = Dim("batch", min=2, max=64), Dim("tokens", min=2, max=12)
    dynamic = [{0: batch, 1: tokens}] * 2 if modality == "text" else [{0: batch}]
    with torch.no_grad():
        program = torch.export.export(path, first, dynamic_shapes=tuple(dynamic)).module()
        for inputs in (first, second):
            assert torch.equal(program(*inputs), path(*inputs))


@pytest.mark.slow
def test_the_whole_forward_pass_exports_saves_and_loads() -> None:
    model = tiny_model(small_config("text", "eeg"))
    first, second = (tiny_inputs(model.config, batch, seed=batch) for batch in BATCHES)
    dynamic = {name: {0: Dim.AUTO, 1: Dim.AUTO} if value.ndim == 2 else {0: Dim.AUTO} for name, value in first.items()}
    file = BytesIO()
    with torch.no_grad():
        torch.export.save(torch.export.export(model, (), first, dynamic_shapes=dynamic), file)
        file.seek(0)
        found, expected = torch.export.load(file).module()(**second), model(**second)
    for name, value in expected.embeds.items():
        assert torch.equal(found.embeds[name], value)
        assert torch.equal(found.codes[name].shared, expected.codes[name].shared)
    assert torch.equal(found.specific_embeds["eeg"], expected.specific_embeds["eeg"])
    assert torch.equal(found.logits_per_eeg, expected.logits_per_eeg)


@pytest.mark.slow
@pytest.mark.parametrize("readout", ["token", "network"])
def test_a_read_out_of_its_own_exports_and_compiles(readout: str) -> None:
    model = tiny_model(small_config("depth", specific_readout=readout))
    first, second = (arguments_of(model, "depth", batch) for batch in BATCHES)
    with torch.no_grad():
        exported = torch.export.export(model, (), first, dynamic_shapes={"depth_values": {0: Dim.AUTO}}).module()
        compiled = torch.compile(model, **BACKEND, dynamic=True)
        for inputs in (first, second):
            expected = model(**inputs).continuous_specific_embeds["depth"]
            for found in (exported, compiled):
                torch.testing.assert_close(found(**inputs).continuous_specific_embeds["depth"], expected)


def test_a_modality_that_was_added_compiles_and_exports() -> None:
    model = tiny_model(small_config("text", "image"))
    fields = tiny_config().eeg_config.to_dict()
    kept = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "num_channels")
    sizes = {"input_size": [33], "patch_size": [3]}
    model.add_modality("radar", {**{name: fields[name] for name in kept}, **sizes})
    values = torch.randn(3, 5, 33)
    path = Embedding(model.eval(), "radar")
    with torch.no_grad():
        expected = path(values)
        assert torch.equal(torch.compile(path, **BACKEND)(values), expected)
        assert torch.equal(torch.export.export(path, (values,)).module()(values), expected)
