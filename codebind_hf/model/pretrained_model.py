"""How are the weights of a model set before any training and saved after it, and what does the library ask of it?"""

import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from json import JSONDecodeError
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init

from .blocks import Attention
from .codebooks import Codebook
from .configuration_codebind import CodeBindConfig
from .decoders import Decoder
from .heads import TokenReadout
from .inputs import Checks
from .lenses import Lens
from .pretrained_towers import PretrainedTower
from .stems import FeatureStem, PatchStem
from .towers import Tower
from .typed_modules import any_learns, parameters_of


class LogitScale(nn.Module):
    """The learned scale of the cosine: `exp(log_scale)`, at most `max_logit_scale`."""

    def __init__(self, config: CodeBindConfig) -> None:
        super().__init__()
        self.maximum = float(config.max_logit_scale)
        self.initial = float(config.logit_scale_init_value)
        # Shape (1,): FSDP2 cannot shard a scalar.
        self.log_scale = nn.Parameter(torch.full((1,), self.initial))

    def forward(self) -> Tensor:
        return self.log_scale.float().exp().clamp(max=self.maximum)


@contextmanager
def ordinary_permissions(folder: Any) -> Iterator[None]:
    """Files of weights that the block writes into `folder` get the permissions of any other new file there.

    safetensors writes to a temporary file, which only its owner may read, and renames it: nobody else could load it.
    Files that the block leaves alone keep what they have.
    """
    before = _weight_files(folder)
    yield
    written = [file for file, mark in _weight_files(folder).items() if before.get(file) != mark]
    if written:
        # The mask of the process can only be read by setting it, which other threads would notice.
        probe = Path(folder) / f".permissions-{uuid.uuid4().hex}"
        probe.touch(exist_ok=False)
        mode = probe.stat().st_mode
        probe.unlink()
        for file in written:
            file.chmod(mode & 0o777)


def _weight_files(folder: Any) -> dict[Path, tuple[int, int]]:
    """Files of weights in a folder, and what changes with every writing."""
    found = {file: file.stat() for file in Path(folder).glob("*.safetensors")}
    return {file: (state.st_ino, state.st_mtime_ns) for file, state in found.items()}


@contextmanager
def damage_named(checkpoint: Any) -> Iterator[None]:
    """Meanwhile, damaged files of a checkpoint are an `OSError` that says where they are."""
    try:
        yield
    except Exception as error:
        # The library that reads weights is not imported by what lies beside a checkpoint.
        is_damage = isinstance(error, (UnicodeError, JSONDecodeError)) or type(error).__name__ == "SafetensorError"
        if not is_damage:
            raise
        raise OSError(f"{checkpoint}: a file of the model is damaged ({error}). Fix: copy it again.") from error


class CodeBindPreTrainedModel(PreTrainedModel):
    """Initialization and the library's hooks."""

    config: CodeBindConfig
    encoders: Any
    base_model_prefix = "codebind"
    main_input_name = "input_ids"
    input_modalities = ["text", "image", "video", "audio"]
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False
    _no_split_modules = ["Block", "LensBlock"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    # Whether inputs are looked at for NaN, infinities and token ids that there are not: on the CPU always, on an
    # accelerator outside of training, where every step would wait for it. Never when compiling or exporting. Set it
    # to `False` on a model for the last bit of speed, and for `torch.vmap`, in which no number can be looked at.
    check_inputs: bool = True

    # Give what reads and writes packs and adapters, no parts of the network: the package sets them where it is there.
    pack_room: ClassVar[Callable[[], Any] | None] = None
    adapter_room: ClassVar[Callable[[], Any] | None] = None

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """As of any module, in less time: a step of training looks through all of them several times."""
        return iter(parameters_of(self)) if recurse else super().parameters(recurse)

    def _state_to_save(self, state_dict: Any, backbone_weights: str | None) -> Any:
        """The tensors that are written; `None` is all of the model's."""
        return state_dict

    def input_checks(self) -> Checks:
        """How closely `forward` looks at its inputs now."""
        return Checks(self.check_inputs and not torch.compiler.is_compiling(), not self.training)

    def enable_input_require_grads(self) -> None:
        """Nothing: layers that learn see to it themselves, of every encoder, and no frozen one gets gradients."""

    def _set_gradient_checkpointing(  # type: ignore[override]
        self, enable: bool = True, gradient_checkpointing_func: Callable | None = None, **kwargs: Any
    ) -> None:
        run: Any = gradient_checkpointing_func
        if getattr(run, "keywords", {}).get("use_reentrant"):
            run = partial(_with_gradient, run)
        super()._set_gradient_checkpointing(enable, *() if run is None else (run,), **kwargs)

    def get_input_embeddings(self) -> nn.Module:
        """The token embedding of the text encoder.

        Raises:
            NotImplementedError: this checkpoint has no text encoder; what the library's callers expect.
        """
        if "text" not in self.encoders:
            return super().get_input_embeddings()
        tower = self.encoders["text"].tower
        return tower.network.get_input_embeddings() if isinstance(tower, PretrainedTower) else tower.stem.embedding

    def set_input_embeddings(self, value: nn.Module) -> None:
        tower = self.encoders["text"].tower
        if isinstance(tower, PretrainedTower):
            tower.network.set_input_embeddings(value)
        else:
            tower.stem.embedding = value

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Set every parameter and every buffer that `module` owns itself."""
        std = float(self.config.initializer_range)
        if isinstance(module, Codebook):
            for name, value in module.initial_state().items():
                init.copy_(getattr(module, name), value)
        elif isinstance(module, nn.BatchNorm1d):
            for name, start in (("running_mean", 0.0), ("running_var", 1.0), ("num_batches_tracked", 0)):
                init.constant_(module.get_buffer(name), start)
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, (nn.LayerNorm, nn.GroupNorm)):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, LogitScale):
            init.constant_(module.log_scale, module.initial)
        elif isinstance(module, Lens):
            init.normal_(module.latents)
        elif isinstance(module, (Tower, PatchStem, FeatureStem, Decoder, Attention, TokenReadout)):
            for parameter in module.parameters(recurse=False):
                init.normal_(parameter, std=std)
        elif getattr(module, "weight", None) is not None:
            init.normal_(module.get_parameter("weight"), std=getattr(module, "init_std", std))
            if getattr(module, "bias", None) is not None:
                init.zeros_(module.get_parameter("bias"))

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *model_args: Any, **kwargs: Any) -> Any:
        """The library's; damaged files of weights or of the configuration are an `OSError` that says where."""
        with damage_named(pretrained_model_name_or_path):
            return super().from_pretrained(pretrained_model_name_or_path, *model_args, **kwargs)

    @classmethod
    def _packs(cls) -> Any:
        """What reads and writes packs.

        Raises:
            ValueError: this is the code beside a checkpoint, which has nothing of the kind.
        """
        if cls.pack_room is None:
            raise ValueError(
                "packs: the code beside a checkpoint knows none. Fix: `pip install codebind-hf`, and load with "
                "`codebind_hf.CodeBindModel`."
            )
        return cls.pack_room()

    def save_pack(self, folder: Any, modalities: Iterable[str], processor: Any, **options: Any) -> Any:
        """Write the encoders of `modalities` as a pack, see `codebind_hf.packs.save_pack`."""
        return self._packs().save_pack(self, folder, modalities, processor, **options)

    def save_pretrained(  # type: ignore[override]
        self, save_directory: Any, backbone_weights: str | None = None, **kwargs: Any
    ) -> Any:
        """The library's; the code beside the weights also serves the library's zero-shot pipeline of images.

        Args:
            backbone_weights: "saved" also writes the weights of pretrained networks, which otherwise stay where they
                are and are referred to; those that were trained are always written.

        Raises:
            ValueError: the model carries an adapter, which is written as `save_adapter` does, and that refuses it.
        """
        if any(".base_layer." in name for name, _ in self.named_parameters()):
            self._save_adapter(save_directory, **kwargs)
            return None
        place = f"{type(self).__module__.split('.')[-1]}.{type(self).__name__}"
        kwargs["state_dict"] = self._state_to_save(kwargs.get("state_dict"), backbone_weights)
        # Networks inside of ours keep the names that they have here.
        kwargs.setdefault("save_original_format", False)
        known = getattr(self.config, "auto_map", None) or {}
        self.config.auto_map = {**known, "AutoModelForZeroShotImageClassification": place}
        # Other processes write nothing, and what the main one writes and removes meanwhile is not theirs to look at.
        with ordinary_permissions(save_directory) if kwargs.get("is_main_process", True) else nullcontext():
            return super().save_pretrained(save_directory, **kwargs)

    def _save_adapter(
        self, folder: Any, state_dict: Any = None, is_main_process: bool = True, push_to_hub: bool = False, **_: Any
    ) -> None:
        """Whole, with what lies beside LoRA, without which the same inputs would embed differently."""
        room = type(self).adapter_room
        if room is None or push_to_hub:
            fix = "`pip install codebind-hf`" if room is None else "`model.push_to_hub(name)`"
            raise ValueError(f"save_pretrained: this cannot write an adapter with what it needs. Fix: {fix}.")
        if is_main_process:
            room().save_adapter(self, folder, state_dict)

    def load_adapter(self, peft_model_id: Any = None, *args: Any, **kwargs: Any) -> Any:
        """The library's; a `ValueError` refuses an adapter that was trained on other towers than this model's."""
        room = type(self).adapter_room
        if room is not None and isinstance(peft_model_id, (str, os.PathLike)):
            with damage_named(peft_model_id):
                room().check_base(self, peft_model_id)
        return super().load_adapter(peft_model_id, *args, **kwargs)


def _with_gradient(run: Callable, function: Any, *args: Any) -> Any:
    """Run a layer with reentrant checkpointing, which gives its weights no gradient unless an input asks for one."""
    layer = function.args[0] if function.args else function.func.__self__
    tensors = [each for each in args if isinstance(each, Tensor)]
    if tensors and torch.is_grad_enabled() and any_learns(layer) and not any(each.requires_grad for each in tensors):
        args = (args[0].detach().requires_grad_(), *args[1:])
    return run(function, *args)
