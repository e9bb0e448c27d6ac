"""The half of the table of modalities that the processor owns, and that it agrees with the half of the network."""

from codebind_hf.model.modalities import MODALITIES, added_modality
from codebind_hf.processing.arguments import ARGUMENTS, CONFIG_FIELDS, TENSORS, argument_of, tensor_of


def test_both_halves_name_the_same_modalities_tensors_and_encoders() -> None:
    assert list(ARGUMENTS) == list(MODALITIES)
    assert {name: tensor_of(name) for name in ARGUMENTS} == {name: row.tensor for name, row in MODALITIES.items()}
    assert {name: f"{row.encoder}_config" for name, row in MODALITIES.items()} == CONFIG_FIELDS
    assert set(TENSORS) == set(ARGUMENTS)


def test_every_keyword_of_a_call_is_another() -> None:
    assert len(set(ARGUMENTS.values())) == len(ARGUMENTS)


def test_an_added_modality_is_called_by_its_name() -> None:
    assert argument_of("radar") == added_modality("radar").name == "radar"
    assert tensor_of("radar") == added_modality("radar").tensor == "radar_values"
