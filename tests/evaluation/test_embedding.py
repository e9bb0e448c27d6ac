from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from codebind_hf.evaluation.embedding import class_embeddings, embed_dataset, embed_texts


def test_every_modality_of_every_row_is_embedded(fake: SimpleNamespace) -> None:
    rows = fake.rows(7)
    del rows[2]["audio"]
    rows[4]["audio"] = None
    embedded = embed_dataset(fake.model, fake.processor, rows, batch_size=3, progress=False)
    assert len(embedded) == 7
    assert embedded.modalities["audio"].positions.tolist() == [0, 1, 3, 5, 6]
    assert embedded.modalities["image"].positions.tolist() == list(range(7))
    assert embedded.ids[5] == "row-5"
    assert embedded.labels == [row["label"] for row in rows]
    assert embedded.attributes[1] == rows[1]["attributes"]
    image = embedded.modalities["image"]
    assert image.embeds.shape == (7, fake.model.config.shared_dim)
    assert image.specific_embeds is not None
    assert image.shared_codes is not None
    assert image.shared_codes.shape == (7, 4)
    text = embedded.modalities["text"]
    assert text.specific_embeds is None
    assert text.specific_codes is None


def test_the_batch_size_does_not_change_an_embedding(fake: SimpleNamespace) -> None:
    rows = fake.rows(9)
    one = embed_dataset(fake.model, fake.processor, rows, batch_size=1, progress=False)
    many = embed_dataset(fake.model, fake.processor, rows, batch_size=64, progress=False)
    for name in one.modalities:
        torch.testing.assert_close(one.modalities[name].continuous_embeds, many.modalities[name].continuous_embeds)


def test_prepared_rows_give_the_embeddings_of_raw_rows(fake: SimpleNamespace) -> None:
    rows = fake.rows(4)
    prepared = []
    for row in rows:
        arguments = {"text": [row["text"]], "images": [row["image"]], "audio": [row["audio"]]}
        tensors = {name: value[0] for name, value in fake.processor(return_tensors="pt", **arguments).items()}
        prepared.append({"tensors": tensors, "id": row["id"], "label": row["label"], "attributes": {}})
    raw = embed_dataset(fake.model, fake.processor, rows, modalities=("text", "image", "audio"), progress=False)
    ready = embed_dataset(fake.model, None, prepared, progress=False)
    assert set(ready.modalities) == {"text", "image", "audio"}
    for name, modality in ready.modalities.items():
        torch.testing.assert_close(modality.embeds, raw.modalities[name].embeds)


def test_a_broken_item_is_named(fake: SimpleNamespace) -> None:
    rows = fake.rows(5)
    rows[3]["eeg"] = "broken"
    with pytest.raises(ValueError, match=r"row 3 \(row-3\), eeg: .*broken"):
        embed_dataset(fake.model, fake.processor, rows, progress=False)


def test_a_broken_item_can_be_skipped_and_is_listed(fake: SimpleNamespace) -> None:
    rows = fake.rows(5)
    rows[3]["eeg"] = "broken"
    embedded = embed_dataset(fake.model, fake.processor, rows, on_error="skip", progress=False)
    assert embedded.modalities["eeg"].positions.tolist() == [0, 1, 2, 4]
    assert embedded.modalities["image"].positions.tolist() == [0, 1, 2, 3, 4]
    assert [(failure.position, failure.modality) for failure in embedded.failures] == [(3, "eeg")]
    assert "broken" in embedded.failures[0].message


def test_training_flags_come_back_as_they_were(fake: SimpleNamespace) -> None:
    model = fake.model.train()
    model.dropout.eval()
    embed_dataset(model, fake.processor, fake.rows(3), progress=False)
    assert model.training
    assert not model.dropout.training


def test_training_flags_come_back_after_an_error(fake: SimpleNamespace) -> None:
    model = fake.model.train()
    broken = [{"eeg": "broken"}]
    with pytest.raises(ValueError, match="broken"):
        embed_dataset(model, fake.processor, broken, progress=False)
    assert model.training
    assert model.dropout.training


def test_embedding_in_training_mode_uses_no_dropout(fake: SimpleNamespace) -> None:
    rows = fake.rows(6)
    calm = embed_dataset(fake.model.eval(), fake.processor, rows, progress=False).modalities["image"].embeds
    torch.testing.assert_close(
        embed_dataset(fake.model.train(), fake.processor, rows, progress=False).modalities["image"].embeds, calm
    )


def test_both_aligns_the_rows_that_have_two_modalities(fake: SimpleNamespace) -> None:
    rows = fake.rows(6)
    del rows[0]["image"], rows[3]["audio"]
    embedded = embed_dataset(fake.model, fake.processor, rows, progress=False)
    image, audio = embedded.both("image", "audio")
    assert image.positions.tolist() == audio.positions.tolist() == [1, 2, 4, 5]
    torch.testing.assert_close(audio.embeds, embedded.modalities["audio"].embeds[[1, 2, 3, 4]])


def test_only_keeps_the_named_rows(fake: SimpleNamespace) -> None:
    embedded = embed_dataset(fake.model, fake.processor, fake.rows(6), progress=False)
    part = embedded.only(torch.tensor([5, 0]))
    assert part.modalities["image"].positions.tolist() == [0, 5]
    assert part.labels[5] == embedded.labels[5]


def test_texts_keep_their_order(fake: SimpleNamespace) -> None:
    texts = ["a star", "a ball", "a star"]
    embeds = embed_texts(fake.model, fake.processor, texts, batch_size=2).embeds
    torch.testing.assert_close(embeds[0], embeds[2])
    assert not torch.allclose(embeds[0], embeds[1])


def test_class_prototypes_are_the_unit_mean_over_templates() -> None:
    # One text in two dimensions by hand: templates at 0 and 90 degrees have their mean at 45 degrees.
    corners = {"plain x": [1.0, 0.0], "tall x": [0.0, 1.0]}

    class Model(torch.nn.Module):
        device = torch.device("cpu")
        config = SimpleNamespace(
            modalities={"text": SimpleNamespace(name="text", argument="text", tensor="input_ids")}
        )

        def forward(self, input_ids: torch.Tensor) -> SimpleNamespace:
            embeds = {"text": input_ids}
            return SimpleNamespace(
                embeds=embeds, continuous_embeds=embeds, specific_embeds={}, continuous_specific_embeds={}, codes={}
            )

    def processor(text: list[str], return_tensors: str) -> dict[str, torch.Tensor]:
        return {"input_ids": torch.tensor([corners[entry] for entry in text])}

    classes = class_embeddings(Model(), processor, ["x"], ["plain {}", "tall {}"])
    np.testing.assert_allclose(classes.embeds, [[0.5**0.5, 0.5**0.5]], atol=1e-6)


BAD = {
    "no rows": lambda fake: embed_dataset(fake.model, fake.processor, []),
    "batch size": lambda fake: embed_dataset(fake.model, fake.processor, fake.rows(1), batch_size=0),
    "unknown modality": lambda fake: embed_dataset(fake.model, fake.processor, fake.rows(1), modalities=["radar"]),
    "on_error": lambda fake: embed_dataset(fake.model, fake.processor, fake.rows(1), on_error="ignore"),
    "template without a place": lambda fake: class_embeddings(fake.model, fake.processor, ["ball"], ["a photo"]),
    "no template": lambda fake: class_embeddings(fake.model, fake.processor, ["ball"], []),
    "no class": lambda fake: class_embeddings(fake.model, fake.processor, []),
}


@pytest.mark.parametrize("call", BAD.values(), ids=BAD.keys())
def test_bad_arguments_of_embedding_are_refused(call: Callable, fake: SimpleNamespace) -> None:
    with pytest.raises(ValueError, match=r"rows|batch_size|modalities|on_error|templates|class_names"):
        call(fake)
