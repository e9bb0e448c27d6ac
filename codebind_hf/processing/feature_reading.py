"""How does what another network made of an item become tower input? Checked vectors, or sequences of them."""

import json
from typing import Any

import numpy as np
from transformers import BatchFeature

from .arguments import argument_of, tensor_of
from .array_processing_codebind import CodeBindArrayFeatureExtractor
from .arrays import as_float_array
from .foreign_processing import ForeignReader, foreign_parts, from_saved
from .media import FEATURES
from .modality_processing import ModalityProcessing
from .values import check_choice, check_number, check_types, refuse, refuse_unknown, shown


_MOMENTS = ("mean", "std")


class FeatureReader(ModalityProcessing):
    """Features of one network -> `(num_channels,)`, or `(tokens, num_channels)` with zeros after shorter sequences.

    Args:
        name: the modality.
        num_channels: numbers in a vector.
        input_size: `[tokens]`, the longest sequence; `[1]` for single vectors.
        normalize: "none"; `{"mean", "std"}`, `num_channels` numbers each, which are subtracted from vectors and divide
            them; or "rows", for those of the rows of a training, which finds them and puts them here.
    """

    name: str = "features"
    num_channels: int = 1
    input_size: list[int] = [1]
    normalize: str | dict[str, Any] = "none"
    later = ("normalize",)

    def check_parameters(self) -> None:
        """Refuse sizes that make no features."""
        check_number("num_channels", self.num_channels, 1, whole=True)
        if not isinstance(self.input_size, list) or len(self.input_size) != 1:
            refuse("input_size", f"got {shown(self.input_size)}", "[tokens], [1] for single vectors")
        check_number("input_size", self.input_size[0], 1, whole=True)
        self._check_normalize()
        self.modality, self.argument = self.name, argument_of(self.name)
        self.model_input_names = [tensor_of(self.name)]
        self.item_ndim = 1 if self.input_size[0] == 1 else 2

    def _check_normalize(self) -> None:
        if self.normalize in ("none", "rows"):
            return
        given = self.normalize if isinstance(self.normalize, dict) else {}
        numbers = {name: np.asarray(each, dtype=np.float64) for name, each in given.items()}
        if {name: each.shape for name, each in numbers.items()} != dict.fromkeys(_MOMENTS, (self.num_channels,)):
            allowed = f"'none', 'rows', or mean and std, each of {self.num_channels} numbers"
            refuse("normalize", f"got {shown(self.normalize)}", allowed)
        if not (np.isfinite(numbers["mean"]).all() and (numbers["std"] > 0).all()):
            refuse("normalize", "got a mean that is not finite, or a std of 0 or less", "others")

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
                would be taken for padding; or `normalize="rows"` before a training.
        """
        array, longest = as_float_array(value, label).astype(np.float32), self.input_size[0]
        if longest == 1:
            if array.shape not in ((self.num_channels,), (1, self.num_channels)):
                refuse(label, f"got shape {array.shape}", f"({self.num_channels},), one vector", self._fix(array))
            return self._normalized(array.reshape(self.num_channels))
        if array.ndim != 2 or array.shape[1] != self.num_channels:
            refuse(label, f"got shape {array.shape}", f"(tokens, {self.num_channels})", self._fix(array))
        if len(array) > longest:
            fix = "cut it, average neighbours, or make the encoder with a larger input_size."
            refuse(label, f"got {len(array)} tokens", f"up to {longest}", fix)
        if not (is_seen := array.any(1)).all():
            fix = "leave them out: vectors of zeros stand for padding."
            refuse(label, f"got a vector of zeros, token {int(is_seen.argmin())}", "other numbers", fix)
        return np.pad(self._normalized(array), ((0, longest - len(array)), (0, 0)))

    def _normalized(self, array: np.ndarray) -> np.ndarray:
        if isinstance(self.normalize, dict):
            mean, std = (np.array(self.normalize[name]) for name in _MOMENTS)
            return ((array - mean) / std).astype(np.float32)
        if self.normalize == "rows":
            fix = "train, which finds them, or take the processor of a run."
            refuse("normalize", "got 'rows' before mean and std of the rows are known", "'none', or both", fix)
        return array

    def _fix(self, array: np.ndarray) -> str:
        if array.ndim == 2 and array.shape[0] == self.num_channels:
            return "put the tokens first with `array.T`."
        if array.ndim == self.item_ndim:
            return "use the features that the encoder was made for."
        return "pool the tokens, such as by `array.mean(0)`." if self.input_size[0] == 1 else "one item, not a batch."


def reader_parameters(
    encoder: Any, name: str, overrides: dict[str, dict[str, Any]], stored: Any = None
) -> dict[str, Any] | None:
    """The entry of a built-in modality in `CodeBindProcessor.readers`; `None` where its encoder reads raw data.

    Args:
        overrides: parameters by argument; of features only `normalize` may be among them.
        stored: a processor whose entry is kept otherwise.

    Raises:
        ValueError: other parameters.
    """
    stem, own = getattr(encoder, "stem", None), overrides.get(argument_of(name), {})
    if stem not in ("pretrained", "features"):
        return None
    if set(own) - ({"normalize"} if stem == "features" else set()):
        fix = "leave them out: what another network gives or takes is not changed."
        allowed = "normalize" if stem == "features" else "none"
        refuse(f"overrides[{argument_of(name)!r}]", "got parameters for another network's", allowed, fix)
    if stem == "pretrained":
        return {"kind": "pretrained", "foreign": foreign_fields(encoder.backbone, encoder.backbone_revision)}
    # One encoder reads pictures and videos.
    own = own or (overrides.get(argument_of("image"), {}) if name == "video" else {})
    sizes = {"num_channels": encoder.num_channels, "input_size": [int(length) for length in encoder.input_size]}
    return {**(getattr(stored, "readers", None) or {}).get(name, {}), "kind": "features", **sizes, **own}


def foreign_fields(backbone: str, revision: str | None) -> dict[str, Any]:
    """Parameters of the image processor or feature extractor of a network.

    Raises:
        OSError: it has neither.
    """
    parts = foreign_parts(backbone, revision)
    found = parts.get("image", parts.get("audio"))
    if found is None:
        raise OSError(f"{backbone!r}: has neither an image processor nor a feature extractor. Fix: use its features.")
    return json.loads(found.to_json_string())


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


def reader_of(name: str, parameters: dict[str, Any]) -> FeatureReader | ForeignReader:
    """The reader of a modality with the parameters that `CodeBindProcessor.readers` holds of it."""
    check_choice(f"readers[{name!r}]['kind']", parameters.get("kind"), ("features", "pretrained"))
    if parameters["kind"] == "pretrained":
        return ForeignReader(name, from_saved(parameters.get("foreign") or {}))
    return FeatureReader(name=name, **{key: value for key, value in parameters.items() if key != "kind"})


def added_modality(
    name: str, num_channels: int | None = None, input_size: list[int] | None = None, **parameters: Any
) -> dict[str, Any]:
    """The entry of an added modality in `CodeBindProcessor.added_modalities`.

    Raises:
        ValueError: sizes that are missing, or parameters that make no sub-processor.
        OSError: a network that has no processor.
    """
    stem = parameters.get("stem")
    if stem == "pretrained" and "foreign" not in parameters:
        backbone, revision = parameters.get("backbone"), parameters.get("backbone_revision")
        refuse_unknown("add_modality", parameters, ("stem", "backbone", "backbone_revision"))
        if not isinstance(backbone, str):
            refuse("backbone", f"got {shown(backbone)}", "the name or folder of a network")
        parameters = {"stem": stem, "foreign": foreign_fields(backbone, revision)}
    if stem != "pretrained":
        for label, value in (("num_channels", num_channels), ("input_size", input_size)):
            if value is None:
                refuse(label, "got None", "the encoder's")
        parameters = {**parameters, "num_channels": num_channels, "input_size": input_size}
    part = added_part({"name": name, **parameters})
    kept: dict[str, Any] = {key: parameters[key] for key in ("stem", "foreign") if key in parameters}
    return {**({"name": name} if stem == "pretrained" else part.saved_parameters()), **kept}


def added_part(parameters: dict[str, Any]) -> FeatureReader | ForeignReader | CodeBindArrayFeatureExtractor:
    """The sub-processor of an added modality, by the stem of its encoder."""
    if "stem" not in parameters:
        return CodeBindArrayFeatureExtractor(**parameters)
    check_choice("stem", parameters["stem"], ("features", "pretrained"))
    if parameters["stem"] == "pretrained":
        return ForeignReader(parameters["name"], from_saved(parameters["foreign"]))
    return FeatureReader(**{key: value for key, value in parameters.items() if key != "stem"})
