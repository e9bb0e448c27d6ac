"""Where are the weights of pretrained towers? Loaded from where they lie, checked, and left out of what is saved."""

import copy
import hashlib
import os
from collections.abc import Iterable, Mapping
from typing import Any, cast

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModel, PreTrainedModel
from transformers.utils import logging

from .backbone_files import found_file, weights_digest
from .bridges import is_foreign
from .configuration_base import check_choice
from .configuration_encoders import CodeBindEncoderConfig
from .heads import Encoder
from .pretrained_model import damage_named
from .pretrained_towers import PretrainedTower, attention_of, deferring_backbones, foreign_config, trimmed
from .typed_modules import ModulesByName


logger = logging.get_logger(__name__)

# What the library's loaders take to find files, and networks may need as their checkpoint does.
HUB_OPTIONS = ("cache_dir", "token", "local_files_only", "force_download", "revision")


class BackboneLoading:
    """What `CodeBindModel` does for towers that are networks of transformers."""

    config: Any
    encoders: ModulesByName[Encoder]
    device: torch.device
    dtype: torch.dtype

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: Any,
        *model_args: Any,
        modalities: Iterable[str] | None = None,
        packs: Iterable[Any] | None = None,
        backbones: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Load a checkpoint; `modalities=["text", "image"]` loads only the encoders that these need.

        Of a model that is not CodeBind's, such as a CLIP, it makes a bridge (`from_bridge`).

        Args:
            packs: folders or names on the Hub of packs, whose modalities are loaded beside those of the checkpoint.
            backbones: where networks of transformers lie that the checkpoint refers to, by modality or encoder.

        Raises:
            ValueError: a modality that the checkpoint lacks, a pack that does not fit it, or a network with other
                weights than it was made with.
            OSError: no checkpoint, damaged files, or a network that is not there.
        """
        made: Any = cls
        place = pretrained_model_name_or_path
        if packs is not None:
            kwargs |= {} if backbones is None else {"backbones": backbones}
            return made._packs().load_model(cls, place, packs, modalities, *model_args, **kwargs)
        hub = {key: kwargs[key] for key in HUB_OPTIONS if key in kwargs}
        with damage_named(place):
            if kwargs.get("config") is None and is_foreign(place, **hub):
                return cls.from_bridge(place, modalities=modalities, backbones=backbones, **kwargs)
            if modalities is not None:
                config = kwargs.pop("config", None)
                if config is None:
                    options = {key: kwargs[key] for key in (*HUB_OPTIONS, "subfolder") if key in kwargs}
                    options |= {key: kwargs.pop(key) for key in made.config_class.__annotations__ if key in kwargs}
                    config = made.config_class.from_pretrained(place, **options)
                kwargs["config"] = config.restricted_to(modalities)
        with deferring_backbones():
            loaded = cast(Any, super()).from_pretrained(place, *model_args, **kwargs)
        (loaded[0] if isinstance(loaded, tuple) else loaded)._load_backbones(backbones, hub)
        return loaded

    @classmethod
    def from_bridge(
        cls,
        bridge: Any,
        revision: str | None = None,
        modalities: Iterable[str] | None = None,
        backbones: Mapping[str, str | os.PathLike] | None = None,
        dtype: torch.dtype | str | None = None,
        attn_implementation: str | None = None,
        config: Any = None,
        has_own_scale: bool = False,
        **overrides: Any,
    ) -> Any:
        """A model whose text and image encoders are finished ones of others, in evaluation mode.

        Args:
            bridge, revision: as of `CodeBindConfig.from_bridge`.
            modalities, backbones: as of `from_pretrained`.
            dtype: of the weights; `None` is float32.
            attn_implementation: as of the library's models.
            config: the whole configuration, in place of the one that the bridge gives.
            has_own_scale: keep the scale of the cosine that the configuration starts from, not the network's.
            overrides: fields of `CodeBindConfig`, such as `num_shared_codes`, merged in, and the library's options.

        Raises:
            ValueError: models that make no bridge.
            OSError: nothing there.
        """
        made: Any = cls
        hub = {key: overrides.pop(key) for key in HUB_OPTIONS if key in overrides}
        config = made.config_class.from_bridge(bridge, revision, **overrides) if config is None else config
        config = config if modalities is None else config.restricted_to(modalities)
        options = {} if attn_implementation is None else {"attn_implementation": attn_implementation}
        with deferring_backbones():
            model = made._from_config(config, dtype=dtype or torch.float32, **options)
        for network in model._load_backbones(backbones, hub, with_dense=True).values():
            scale = getattr(network, "logit_scale", None)
            if isinstance(scale, Tensor) and scale.numel() == 1 and not has_own_scale:
                model.logit_scale.log_scale.data.fill_(float(scale.detach()))
        return model.eval()

    def load_backbones(self, backbones: Mapping[str, str | os.PathLike] | None = None, **options: Any) -> None:
        """Load the weights of pretrained towers from where their configurations say, or from where `backbones` do.

        `from_pretrained` and `add_modality` call it; a model that is made of a configuration has random ones.

        Args:
            backbones: names or folders by modality or encoder, for networks that lie somewhere else now.
            options: `cache_dir`, `token`, `local_files_only` or `force_download`, as of the library's loaders.

        Raises:
            ValueError: other weights than those that the model was made with, or a modality without such a tower.
            OSError: weights that are missing or cannot be read.
        """
        self._load_backbones(backbones, options, with_dense=True)

    def _load_backbones(
        self, backbones: Mapping[str, str | os.PathLike] | None, options: Mapping[str, Any], with_dense: bool = False
    ) -> dict[tuple[str, ...], PreTrainedModel]:
        """Networks as they were loaded, with all of their parts."""
        places = self._places(backbones or {})
        networks: dict[tuple[str, ...], PreTrainedModel] = {}
        used: set[int] = set()
        for name, encoder in self.encoders.items():
            config, tower = encoder.config, encoder.tower
            is_here = config.backbone_weights == "saved" and not with_dense and name not in places
            if not isinstance(tower, PretrainedTower) or is_here:
                continue
            source = places.get(name, str(config.backbone))
            key = (source, str(config.backbone_revision), str(config.backbone_config))
            if key not in networks:
                networks[key] = loaded_network(config, name, source, self.dtype, options)
            network = trimmed(networks[key], config)
            if used & set(map(id, network.parameters())):
                network = copy.deepcopy(network)
            used |= set(map(id, network.parameters()))
            self._attach(name, network, source if with_dense else None)
        return networks

    def _attach(self, name: str, network: PreTrainedModel, dense_from: str | None) -> None:
        """Give a tower its network and, from the place that is named, the layers behind the pooling."""
        tower = self.encoders[name].tower
        if dense_from is not None:
            _load_dense(tower, dense_from)
        moved: Any = network
        tower.backbone = moved.to(self.device).train(tower.training)
        tower.loaded = fingerprint(tower.backbone.state_dict())

    def _places(self, backbones: Mapping[str, str | os.PathLike]) -> dict[str, str]:
        """Names or folders by encoder."""
        places, known = {}, self.config.modalities
        for name, source in backbones.items():
            encoder = known[name].encoder if name in known else name
            if encoder not in self.encoders or not isinstance(self.encoders[encoder].tower, PretrainedTower):
                have = [each for each, one in self.encoders.items() if isinstance(one.tower, PretrainedTower)]
                raise ValueError(
                    f"backbones: got {name!r}; pretrained towers of this model: {', '.join(have) or 'none'}."
                )
            places[encoder] = os.fspath(source)
        return places

    def _state_to_save(
        self, state_dict: Mapping[str, Tensor] | None, backbone_weights: str | None
    ) -> Mapping[str, Tensor] | None:
        """The state without weights that lie somewhere else, unless they changed since they were loaded."""
        if backbone_weights is not None:
            check_choice("backbone_weights", backbone_weights, ("reference", "saved"))
        names = [name for name, encoder in self.encoders.items() if isinstance(encoder.tower, PretrainedTower)]
        if not names:
            return state_dict
        if backbone_weights == "saved":
            for name in names:
                self._keep_backbone(name)
        state = dict(self.state_dict() if state_dict is None else state_dict)  # type: ignore[attr-defined]
        for name, encoder in self.encoders.items():
            tower, prefix = encoder.tower, f"encoders.{name}.tower.backbone."
            if not isinstance(tower, PretrainedTower) or encoder.config.backbone_weights == "saved":
                continue
            own = {key: value for key, value in state.items() if key.startswith(prefix)}
            if tower.loaded == fingerprint({key.removeprefix(prefix): value for key, value in own.items()}):
                state = {key: value for key, value in state.items() if key not in own}
            else:
                logger.warning(
                    "%s: the weights of its backbone are not those of %s, so they are saved with the model.",
                    name,
                    encoder.config.backbone,
                )
                self._keep_backbone(name)
        return state

    def _keep_backbone(self, name: str) -> None:
        """Note that the weights of a pretrained tower belong to the model from now on."""
        self.encoders[name].config.backbone_weights = "saved"
        if name in (self.config.added_encoders or {}):
            self.config.added_encoders[name]["backbone_weights"] = "saved"


def loaded_network(
    config: CodeBindEncoderConfig, name: str, source: str, dtype: torch.dtype, options: Mapping[str, Any]
) -> PreTrainedModel:
    """The whole network of a tower with its weights.

    Args:
        name: of the encoder, for messages.
        source: name or folder.

    Raises:
        ValueError: other weights than those that the encoder was made with.
        OSError: no weights, or none that can be read.
    """
    revision = config.backbone_revision if source == config.backbone else None
    hub = {key: value for key, value in options.items() if key in HUB_OPTIONS and key != "revision"}
    where = f"Fix: say where it is, `from_pretrained(..., backbones={{{name!r}: folder}})`."
    try:
        digest = weights_digest(source, revision, **hub)
    except OSError as error:
        raise OSError(f"{name}: its backbone {source!r} is not there ({error}). {where}") from error
    if config.backbone_sha256 not in (None, digest):
        raise ValueError(
            f"{name}: the weights of its backbone {source!r} have the sha256 {digest}; the model was made with "
            f"{config.backbone_sha256}. {where}"
        )
    return AutoModel.from_pretrained(
        source, config=foreign_config(config), revision=revision, dtype=dtype, **attention_of(config), **hub
    )


def _load_dense(tower: PretrainedTower, source: str) -> None:
    for number, layer in enumerate(tower.config.backbone_dense or []):
        file = found_file(source, f"{layer['path']}/model.safetensors", tower.config.backbone_revision)
        if file is None:
            raise OSError(
                f"backbone: {source!r} has no {layer['path']}/model.safetensors. Fix: save it as safetensors."
            )
        state = {key.removeprefix("linear."): value for key, value in load_file(file).items()}
        tower.dense[2 * number].load_state_dict(state)


def fingerprint(state: Mapping[str, Tensor]) -> str:
    """A short text for the names, types and all numbers of the weights: what changed in one place only is not lost."""
    text = hashlib.sha256()
    for name in sorted(state):
        values = state[name].detach().cpu().contiguous()
        text.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        text.update(values.flatten().view(torch.uint8).numpy().data)
    return text.hexdigest()
