"""Ids of one codebook are not those of another: an index tells by digest, where ids are added, searched and loaded."""

from pathlib import Path
from typing import Any

import pytest
import torch
from common import small_config, tiny_model
from torch.nn.functional import normalize

from codebind_hf.inference import CodeIndex
from codebind_hf.model.codebook_fitting import codes_digest
from codebind_hf.model.modeling_codebind import CodeBindModel


def model_with(seed: int, **overrides: Any) -> CodeBindModel:
    """The tiny model with codebooks drawn from `seed`; everything else is the same for all."""
    model = tiny_model(small_config("image", "audio", **overrides))
    generator = torch.Generator().manual_seed(seed)
    for name, codes in model.named_buffers():
        if name.endswith(".codes"):
            codes.copy_(normalize(torch.randn(codes.shape, generator=generator), dim=-1))
    return model


def ids_of(model: CodeBindModel, part: str = "shared", name: str = "image") -> torch.Tensor:
    """Code ids that say whose they are, as `encode` gives them."""
    encoder = model.config.modality(name).encoder
    ids = torch.arange(2 * model.config.num_segments_of(part, encoder)).reshape(2, -1) % 8
    ids.codebook = codes_digest(model.codebooks.book(part, encoder).codes)
    return ids


def test_encode_says_whose_codes_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_with(1)

    class Batch:
        positions, failure, starts, is_last, modality = [0, 1], None, None, True, "image"
        tensors = {"pixel_values": torch.randn(2, 3, 16, 24, generator=torch.Generator().manual_seed(2))}

    class Processor:
        def stream(self, items: Any, known: Any, **options: Any) -> Any:
            yield Batch()

    for part, book in (("shared", model.codebooks.shared), ("specific", model.codebooks.specific["vision"])):
        found = model.encode({"image": [0, 1]}, Processor(), output="codes", part=part)["image"]
        assert found.codebook == codes_digest(book.codes)
    assert model.encode([0, 1], Processor(), output="codes").codebook == codes_digest(model.codebooks.shared.codes)
    assert not hasattr(model.encode([0, 1], Processor(), output="torch"), "codebook")


def test_codes_of_another_codebook_are_refused_wherever_they_come_in(tmp_path: Path) -> None:
    ours, other = model_with(1), model_with(2)
    index = CodeIndex.from_model(ours)
    index.add(ids_of(ours), "image", specific=ids_of(ours, "specific"))
    index.save(tmp_path / "index")
    loaded = CodeIndex.load(tmp_path / "index", model=ours)
    digests = [codes_digest(model.codebooks.shared.codes)[:12] for model in (other, ours)]
    named = rf"got ids of the codebook {digests[0]}, and this index holds the codes of {digests[1]} .*Fix: encode with"
    for call, argument in (
        (lambda: loaded.add(ids_of(other), "image", specific=ids_of(ours, "specific")), "ids"),
        (lambda: loaded.search(ids_of(other)), "queries"),
    ):
        with pytest.raises(ValueError, match=rf"{argument}: {named}"):
            call()
    with pytest.raises(ValueError, match="specific: got ids of the codebook"):
        loaded.add(ids_of(ours), "image", specific=ids_of(other, "specific"))
    with pytest.raises(ValueError, match=rf"model: its shared codebook is {digests[0]}, .* of {digests[1]} .*Fix"):
        CodeIndex.load(tmp_path / "index", model=other)
    assert len(loaded) == 2
    # A copy of a tensor, or an array, does not say; the bits are taken as they are.
    loaded.add(ids_of(other).numpy(), "image", specific=ids_of(other, "specific").numpy())
    assert len(loaded) == 4
    loaded.add(ids_of(ours), "image", specific=ids_of(ours, "specific"))
    assert loaded.search(ids_of(ours)[:1], top_k=1).scores[0, 0] == pytest.approx(1, abs=1e-6)


def test_a_model_with_another_specific_codebook_alone_is_refused(tmp_path: Path) -> None:
    ours, other = model_with(1), model_with(1)
    with torch.no_grad():
        other.codebooks.specific["vision"].codes[0].neg_()
    index = CodeIndex.from_model(ours)
    index.add(ids_of(ours), "image", specific=ids_of(ours, "specific"))
    index.save(tmp_path / "index")
    with pytest.raises(ValueError, match=r"model: its specific \(image\) codebook is \w{12}, and this index"):
        CodeIndex.load(tmp_path / "index", model=other)
    plain = CodeIndex.from_model(ours)
    plain.add(ids_of(ours), "image")
    plain.save(tmp_path / "plain")
    assert len(CodeIndex.load(tmp_path / "plain", model=other)) == 2


def test_a_model_without_codebook_is_refused(tmp_path: Path) -> None:
    index = CodeIndex.from_model(model_with(1))
    index.save(tmp_path / "index")
    plain = tiny_model(small_config("image", "audio", num_shared_codes=0, align_on="continuous"))
    with pytest.raises(ValueError, match="model: its shared codebook is none"):
        CodeIndex.load(tmp_path / "index", model=plain)
