"""How are the weights of a model set before any training and saved after it, and what does the library ask of it?"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from json import JSONDecodeError
from pathlib import Path
from typing import Any

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
from .stems import FeatureStem, PatchStem
from .towers import Tower


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


class CodeBindPreTrainedModel(PreTrainedModel):
    """Initialization and the library's hooks."""

    config: CodeBindConfig
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

    def input_checks(self) -> Checks:
        """How closely `forward` looks at its inputs now."""
        return Checks(self.check_inputs and not torch.compiler.is_compiling(), not self.training)

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
        try:
            return super().from_pretrained(pretrained_model_name_or_path, *model_args, **kwargs)
        except Exception as error:
            # The library that reads weights is not imported by what lies beside a checkpoint.
            is_damage = isinstance(error, (UnicodeError, JSONDecodeError)) or type(error).__name__ == "SafetensorError"
            if not is_damage:
                raise
            raise OSError(
                f"{pretrained_model_name_or_path}: a file of the model is damaged ({error}). Fix: copy it again."
            ) from error

    def save_pretrained(self, save_directory: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """The library's; the code beside the weights also serves the library's zero-shot pipeline of images."""
        place = f"{type(self).__module__.split('.')[-1]}.{type(self).__name__}"
        known = getattr(self.config, "auto_map", None) or {}
        self.config.auto_map = {**known, "AutoModelForZeroShotImageClassification": place}
        # Other processes write nothing, and what the main one writes and removes meanwhile is not theirs to look at.
        with ordinary_permissions(save_directory) if kwargs.get("is_main_process", True) else nullcontext():
            return super().save_pretrained(save_directory, **kwargs)
