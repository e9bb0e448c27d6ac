"""How does what another network made of an item become tower input? Checked vectors, or sequences of them."""

from typing import Any, ClassVar

import numpy as np
from transformers import BatchFeature

from .arguments import argument_of, tensor_of
from .array_processing_codebind import CodeBindArrayFeatureExtractor
from .arrays import as_float_array
from .media import FEATURES
from .modality_processing import ModalityProcessing
from .values import check_choice, check_number, check_types, refuse, shown


class FeatureReader(ModalityProcessing):
    """Features of one network -> `(num_channels,)`, or `(tokens, num_channels)` with zeros after shorter sequences.

    Parameters:
        name: the modality.
        num_channels: numbers in a vector.
        input_size: `[tokens]`, the longest sequence; `[1]` for single vectors.
    """

    defaults: ClassVar[dict[str, Any]] = {"name": "features", "num_channels": 1, "input_size": [1]}
    name: str
    num_channels: int
    input_size: list[int]

    def check_parameters(self) -> None:
        """Refuse sizes that make no features."""
        check_number("num_channels", self.num_channels, 1, whole=True)
        if not isinstance(self.input_size, list) or len(self.input_size) != 1:
            refuse("input_size", f"got {shown(self.input_size)}", "[tokens], [1] for single vectors")
        check_number("input_size", self.input_size[0], 1, whole=True)
        self.modality, self.argument = self.name, argument_of(self.name)
        self.model_input_names = [tensor_of(self.name)]
        self.item_ndim = 1 if self.input_size[0] == 1 else 2

    def sizes(self) -> dict[str, float]:
        """Numbers in one item."""
        return {"values in an item": self.num_channels * self.input_size[0]}

    @property
    def media(self) -> str:
        """Files of features are the same whatever they are features of."""
        return FEATURES

    def __call__(self, values: Any, return_tensors: str | None = None, **overrides: Any) -> BatchFeature:
        """Process one item or a list of items; `overrides` change parameters for this call only."""
        reader = self.with_parameters(**overrides)
        return reader.batch(values, reader.process_item, return_tensors)

    def process_item(self, value: Any, label: str) -> np.ndarray:
        """One vector, or one sequence with zeros after its end.

        Raises:
            ValueError: another width, NaN, more tokens than `input_size`, or a vector of zeros in a sequence, which
                would be taken for padding.
        """
        array, longest = as_float_array(value, label).astype(np.float32), self.input_size[0]
        if longest == 1:
            if array.shape not in ((self.num_channels,), (1, self.num_channels)):
                refuse(label, f"got shape {array.shape}", f"({self.num_channels},), one vector", self._fix(array))
            return array.reshape(self.num_channels)
        if array.ndim != 2 or array.shape[1] != self.num_channels:
            refuse(label, f"got shape {array.shape}", f"(tokens, {self.num_channels})", self._fix(array))
        if len(array) > longest:
            fix = "cut it, average neighbours, or make the encoder with a larger input_size."
            refuse(label, f"got {len(array)} tokens", f"up to {longest}", fix)
        if not (is_seen := array.any(1)).all():
            fix = "leave them out: vectors of zeros stand for padding."
            refuse(label, f"got a vector of zeros, token {int(is_seen.argmin())}", "other numbers", fix)
        return np.pad(array, ((0, longest - len(array)), (0, 0)))

    def _fix(self, array: np.ndarray) -> str:
        if array.ndim == 2 and array.shape[0] == self.num_channels:
            return "put the tokens first with `array.T`."
        if array.ndim == self.item_ndim:
            return "use the features that the encoder was made for."
        return "pool the tokens, such as by `array.mean(0)`." if self.input_size[0] == 1 else "one item, not a batch."


def reader_parameters(encoder: Any) -> dict[str, Any] | None:
    """The entry of a built-in modality in `CodeBindProcessor.readers`; `None` where its encoder reads raw data."""
    if getattr(encoder, "stem", None) != "features":
        return None
    sizes = {"num_channels": encoder.num_channels, "input_size": [int(length) for length in encoder.input_size]}
    return {"kind": "features", **sizes}


def checked_readers(readers: Any, modalities: list[str]) -> dict[str, dict[str, Any]]:
    """Entries of `CodeBindProcessor.readers`, of which each makes a reader.

    Raises:
        ValueError: no such modality, or parameters that make no reader.
    """
    check_types({"readers": readers}, {"readers": dict[str, dict[str, Any]]})
    for name, parameters in readers.items():
        check_choice("readers", name, tuple(each for each in modalities if each != "text"))
        reader_of(name, parameters)
    return {name: dict(parameters) for name, parameters in readers.items()}


def reader_of(name: str, parameters: dict[str, Any]) -> FeatureReader:
    """The reader of a modality with the parameters that `CodeBindProcessor.readers` holds of it."""
    check_choice(f"readers[{name!r}]['kind']", parameters.get("kind"), ("features",))
    return FeatureReader(name=name, **{key: value for key, value in parameters.items() if key != "kind"})


def added_part(parameters: dict[str, Any]) -> FeatureReader | CodeBindArrayFeatureExtractor:
    """The sub-processor of an added modality: with `stem="features"` a reader of features."""
    if "stem" not in parameters:
        return CodeBindArrayFeatureExtractor(**parameters)
    check_choice("stem", parameters["stem"], ("features",))
    return FeatureReader(**{key: value for key, value in parameters.items() if key != "stem"})
