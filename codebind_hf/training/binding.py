"""Binding one modality to a finished model: what it starts from, and how far everything else moved meanwhile."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import extract_model_from_parallel
from torch import Tensor
from tqdm.auto import tqdm

from codebind_hf.data import PreparedDataset
from codebind_hf.data.choices import BAR_DELAY
from codebind_hf.data.collator import modality_for
from codebind_hf.data.feature_statistics import fit_normalization
from codebind_hf.data.items import row_modalities
from codebind_hf.data.loading import RowView, load_items, only
from codebind_hf.evaluation import EmbeddedModality, EmbeddedSet, embed_dataset
from codebind_hf.model.configuration_codebind import CodeBindConfig
from codebind_hf.model.modalities import BRIDGE_ENCODERS, MODALITIES, Modality
from codebind_hf.model.modeling_codebind import CodeBindModel
from codebind_hf.model.presets import PRESETS, merge_fields, preset_fields
from codebind_hf.processing.arguments import argument_of
from codebind_hf.processing.processing_codebind import CodeBindProcessor
from codebind_hf.processing.values import nearest
from codebind_hf.renamed import renamed_attribute, renamed_keywords
from codebind_hf.training.building import recipe_config
from codebind_hf.training.choices import SHARED_CODES
from codebind_hf.training.recipe import Recipe, modalities_of
from codebind_hf.training.running import check_plan, train
from codebind_hf.training.stages import TEXT_FIX, Stage


# Rows of every other modality whose embeddings are compared.
SAMPLE = 64
# Fields of the configuration that no embedding of a finished encoder depends on.
_FREE_FIELDS = (
    *("loss_weights", "pair_weights", "segment_temperature", "code_temperature", "view_temperature"),
    *("codebook_decay", "codebook_spread_rate", "restart_codes", "align_on"),
)


@dataclass
class Binding:
    """What binding a modality did.

    Args:
        modality: the one that was bound.
        shared_codes: "frozen" or "learning".
        tolerance: how far the embedding of another modality may move.
        movement: how far it moved, by modality, as `movement` measures it.
        unmeasured: other modalities that no row has; their tensors are compared with all others in `changed`.
        changed: tensors that should have stayed and did not; shared codes that may learn are none of them.
        logs: of the training.
    """

    modality: str
    shared_codes: str
    tolerance: float
    movement: dict[str, float]
    unmeasured: list[str]
    changed: list[str]
    logs: list[dict[str, Any]]

    sense = renamed_attribute("sense", "modality")

    @property
    def is_within_tolerance(self) -> bool:
        """Whether nothing moved farther than it may."""
        return not self.changed and all(distance <= self.tolerance for distance in self.movement.values())

    def report(self) -> dict[str, Any]:
        """Everything but the logs, as JSON values."""
        kept = {name: value for name, value in asdict(self).items() if name != "logs"}
        return {**kept, "is_within_tolerance": self.is_within_tolerance}

    def summary(self) -> str:
        """The movement in one sentence."""
        moved = ", ".join(f"{name} {distance:.3g}" for name, distance in self.movement.items()) or "not measured"
        changed = f"; changed: {', '.join(self.changed[:3])} ({len(self.changed)} tensors)" if self.changed else ""
        return f"largest movement (tolerance {self.tolerance:g}): {moved}{changed}"


@renamed_keywords(sense="modality")
def binding_recipe(recipe: Recipe, modality: str, encoder: Mapping[str, Any] | None = None) -> Recipe:
    """`recipe` as one that binds `modality` to the finished model `recipe.base`, for `build` and `bind`.

    A built-in modality that the base lacks gets the encoder of `recipe.preset`, by default of the preset with the
    base's embedding sizes; `encoder` overrides its fields. A modality that the base has is trained further.

    Args:
        recipe: with a base; its `model` and `processor` may hold only what leaves the other modalities alone.
        encoder: fields of `CodeBindEncoderConfig`; `processor` among them are parameters of its preprocessing.

    Raises:
        ValueError: no base, a bridge modality, an added modality without `encoder`, an encoder for a modality that
            the base has, or a recipe that would change other modalities.
        OSError: no checkpoint at `recipe.base`.
    """
    if recipe.base is None:
        raise ValueError("recipe: got no base; a modality is bound to a finished model. Fix: name its checkpoint.")
    config = recipe_config(Recipe(base=recipe.base))
    name = modality_for(modality).encoder
    _check_target(modality, name)
    own = _config_field(modality)
    _check_recipe(recipe, modality, own)
    shape = dict(encoder or {})
    options = shape.pop("processor", {})
    if modality in config.modalities:
        if shape:
            raise ValueError(f"encoder: got one for {modality!r}, which the checkpoint has; its shape is settled.")
        added: dict[str, Any] = {}
    elif modality in MODALITIES:
        added = {own: merge_fields(_preset_encoder(recipe.preset, config, name, bool(shape)), shape)}
    elif shape:
        added = {own: {modality: shape}}
    else:
        known = ", ".join(config.modalities)
        meant = f"{hint} Else " if (hint := nearest(modality, MODALITIES)) else ""
        raise ValueError(
            f"modality: {modality!r} is none of {known} (--bind). Fix: {meant}describe its encoder (`encoder`, "
            "--encoder)."
        )
    processor = merge_fields(recipe.processor, {argument_of(modality): options} if options else {})
    model = merge_fields(added, recipe.model)
    return replace(recipe, preset=None, order="bind", model=model, processor=processor)


def _config_field(modality: str) -> str:
    """The field of `CodeBindConfig` that describes the encoder of a modality."""
    return f"{modality_for(modality).encoder}_config" if modality in MODALITIES else "added_encoders"


def _check_target(modality: str, encoder: str) -> None:
    if encoder in BRIDGE_ENCODERS:
        raise ValueError(
            f"modality: got {modality!r}, which is the bridge that others are bound to; it stays as it is."
        )


def _check_recipe(recipe: Recipe, modality: str, own: str) -> None:
    """Refuse what would change the other modalities before anything is measured."""
    allowed = (*_FREE_FIELDS, own)
    added = recipe.model.get("added_encoders") or {}
    if wrong := [name for name in recipe.model if name not in allowed] + [name for name in added if name != modality]:
        raise ValueError(f"model: {wrong[0]!r} may change other modalities; allowed: {', '.join(allowed)}.")
    argument = argument_of(modality)
    depth = recipe.processor.get("depth", {})
    if argument != "depth" and set(depth) == {"depth_unit"}:
        raise ValueError(
            f"depth_unit: got {depth['depth_unit']!r} while {modality!r} is bound, where it has no effect. Fix: leave "
            "it out (--depth_unit)."
        )
    if wrong := [name for name in recipe.processor if name != argument]:
        raise ValueError(f"processor: {wrong[0]!r} belongs to another modality; allowed: {argument!r}.")
    if recipe.temperature is not None:
        raise ValueError(f"temperature: got {recipe.temperature}; a finished model keeps its own. Fix: leave it out.")
    if any(options.get("train_bridge_heads") for options in (recipe.training, recipe.stages.get("bind", {}))):
        raise ValueError("train_bridge_heads: got true, which moves the bridge. Fix: false.")


def _preset_encoder(preset: str | None, config: CodeBindConfig, encoder: str, is_described: bool) -> dict[str, Any]:
    """The fields of an encoder that a preset has, of the named one or of one with the same embedding sizes."""
    name = f"{encoder}_config"
    if preset is not None:
        found = preset_fields(preset).get(name)
    else:
        every = [preset_fields(each) for each in PRESETS]
        same = [each for each in every if each["shared_dim"] == config.shared_dim and name in each]
        found = same[0][name] if same else None
    if found is None and not is_described:
        sizes = f"shared_dim={config.shared_dim}"
        raise ValueError(
            f"preset: got {preset!r}, and no preset with {sizes} has an encoder for {encoder!r}. Fix: describe it "
            "(`encoder`, --encoder), or name one of " + ", ".join(PRESETS) + "."
        )
    return found or {}


@renamed_keywords(sense="modality")
def bind(
    model: CodeBindModel,
    processor: CodeBindProcessor,
    rows: Sequence[Mapping[str, Any]],
    modality: str,
    recipe: Recipe,
    output_dir: Path,
    shared_codes: str = "frozen",
    tolerance: float = 0.0,
    check_rows: Sequence[Mapping[str, Any]] | None = None,
    on_error: str = "raise",
    resume: bool = False,
    loading: str = "auto",
    folder: Path | None = None,
    num_workers: int = 0,
) -> Binding:
    """Train `modality` against the frozen bridge, in place, and measure how far all other modalities moved.

    Bridges and all other encoders, decoders and specific codebooks are frozen. The temperature learns meanwhile and is
    then put back: no embedding depends on it, and the logits of the other modalities stay what they were.

    Args:
        rows: raw rows; those with `modality` and a bridge are trained on, with their other modalities left out.
        recipe: training arguments and seed, for example of `binding_recipe`.
        output_dir: for what the trainer writes; the model is not saved.
        shared_codes: "frozen", or "learning": codes follow the new modality, and the quantized others follow the
            codes.
        tolerance: largest movement that is allowed, see `movement`; 0 is not a bit.
        check_rows: rows of the other modalities to measure, by default `rows`.
        on_error: "raise" or "skip", as in `PreparedDataset`.
        resume: go on with a binding that stopped, as in `train`; `model` is the finished one that it started from.
        loading, folder, num_workers: of the rows to train on, as in `load_items`.

    Raises:
        ValueError: a modality that the model lacks or that is a bridge, no row to train on, a wrong `shared_codes` or
            `tolerance`, learning codes with an encoder that no row could measure, or a recipe that moves the bridge.
    """
    if shared_codes not in SHARED_CODES:
        raise ValueError(f"shared_codes: got {shared_codes!r}; allowed: {', '.join(map(repr, SHARED_CODES))}.")
    if not tolerance >= 0:
        raise ValueError(f"tolerance: got {tolerance}; it must be 0 or more.")
    encoder = model.config.modality(modality).encoder
    _check_target(modality, encoder)
    _check_recipe(recipe, modality, _config_field(modality))
    others = [name for name in model.config.modalities if name != modality]
    sample, missing = _sample(rows if check_rows is None else check_rows, others)
    measured = {modality_for(name).encoder for name in others if name not in missing}
    # Whoever has pictures alone cannot show videos; both are read by one encoder.
    unknown = [name for name in missing if modality_for(name).encoder not in measured]
    if unknown and shared_codes == "learning":
        raise ValueError(
            f"check_rows: no row has {', '.join(unknown)}, whose movement with learning codes is then unknown. Fix: "
            "give rows that have them (--check_manifest), or freeze the shared codes."
        )
    usable = rows_to_bind(rows, modality, model.config.modalities)
    fit_normalization(processor, usable, on_error)
    items = load_items(usable, processor, loading, on_error, recipe.seed, folder, True, num_workers)
    checked = PreparedDataset(sample, processor, on_error=on_error, num_workers=num_workers)
    own_stage = {**recipe.stages.get("bind", {}), "freeze_shared_codes": shared_codes == "frozen"}
    recipe = replace(recipe, order="bind", stages={**recipe.stages, "bind": own_stage})
    stage = Stage("bind", (modality,), (*others, modality))
    model.to(recipe.arguments(stage, output_dir).device)  # type: ignore[arg-type]

    learning = [f"{room}.{encoder}." for room in ("encoders", "decoders", "codebooks.specific")]
    learning += ["codebooks.shared."] if shared_codes == "learning" else []
    scale = model.logit_scale.log_scale.detach().clone()
    kept, before = _fingerprints(model, learning), _embedded(model, checked)
    logs = train(recipe, model, processor, items, output_dir, resume)
    # Under mixed precision, accelerate has wrapped the forward pass; the comparison needs the one from before.
    extract_model_from_parallel(model, keep_fp32_wrapper=False)
    with torch.no_grad():
        model.logit_scale.log_scale.copy_(scale)
    after = _fingerprints(model, learning)
    changed = [name for name, fingerprint in kept.items() if after.get(name) != fingerprint]
    return Binding(modality, shared_codes, tolerance, movement(model, before, checked), missing, changed, logs)


def rows_to_bind(rows: Sequence[Mapping[str, Any]], modality: str, modalities: dict[str, Modality]) -> RowView:
    """The rows with `modality`, of whose other modalities only the bridge is left.

    Args:
        modalities: of the model.

    Raises:
        ValueError: there is none, or none that a bridge is beside.
    """
    bridges = [name for name in modalities if name != modality and modality_for(name).encoder in BRIDGE_ENCODERS]
    usable = RowView(rows, modality, (*bridges, modality))
    if not len(usable):
        raise ValueError(
            f"rows: none has {modality!r}, they have {', '.join(modalities_of(rows)) or 'none'} (--bind). Fix: give "
            f"rows with a column {modality!r}, or rename one (--columns old={modality}); and text or an image, or "
            f"{TEXT_FIX}."
        )
    check_plan(usable, modalities, "bind")
    return usable


def movement(model: CodeBindModel, before: EmbeddedSet, items: PreparedDataset) -> dict[str, float]:
    """How far the embeddings of `items` moved, by modality: the largest Euclidean distance over all rows.

    Shared and specific embeddings count, before and after quantization. All have unit norm, so that 2 is the most; 0
    is bit for bit.

    Args:
        before: of the same items, from `embed_dataset`.
    """
    after = _embedded(model, items, before.modalities)
    return {name: _distance(modality, after.modalities[name]) for name, modality in before.modalities.items()}


def _distance(one: EmbeddedModality, other: EmbeddedModality) -> float:
    names = [entry.name for entry in fields(one) if entry.name.endswith("embeds")]
    pairs = [(getattr(one, name), getattr(other, name)) for name in names]
    # In float32 the square of a tiny difference would be 0.
    distances = [float((x.double() - y.double()).norm(dim=-1).max()) for x, y in pairs if x is not None]
    return max(distances)


def _embedded(model: CodeBindModel, items: PreparedDataset, modalities: Iterable[str] | None = None) -> EmbeddedSet:
    if not len(items):
        return EmbeddedSet({}, [], [], [])
    return embed_dataset(model, None, items, modalities=modalities, progress=False)


def _sample(rows: Sequence[Mapping[str, Any]], modalities: Sequence[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """The first `SAMPLE` rows of every modality, with nothing but these; and the modalities that no row has."""
    left = dict.fromkeys(modalities, SAMPLE)
    sample = []
    for position, present in enumerate(row_modalities(rows)):
        wanted = [name for name, count in left.items() if count and name in present]
        if wanted:
            sample.append(only(rows[position], wanted))
            left |= {name: left[name] - 1 for name in wanted}
        if not any(left.values()):
            break
    return sample, [name for name, count in left.items() if count == SAMPLE]


def _fingerprints(model: CodeBindModel, learning: Sequence[str]) -> dict[str, str]:
    """A hash of every tensor outside the rooms that learn; a copy of a large model would double its memory."""
    kept = {name: value for name, value in model.state_dict().items() if not name.startswith(tuple(learning))}
    is_main = PartialState().is_main_process
    bar = tqdm(kept.items(), desc="Fingerprints", unit="tensor", disable=not is_main, delay=BAR_DELAY)
    return {name: _fingerprint(value) for name, value in bar}


def _fingerprint(value: Tensor) -> str:
    flat = value.detach().cpu().contiguous().flatten().view(torch.uint8)
    return hashlib.blake2b(flat.numpy().data, digest_size=16).hexdigest()
