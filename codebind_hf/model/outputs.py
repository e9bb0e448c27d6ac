"""What the model returns."""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor
from torch.utils import _pytree
from transformers.utils import ModelOutput


class CodeIds(NamedTuple):
    """Code ids of a batch of one modality, `(batch, segments)` int64 each; `None` where there is no codebook."""

    shared: Tensor | None
    specific: Tensor | None


# Without a name for the type, torch.export exports a model but cannot save it.
_pytree._register_namedtuple(CodeIds, serialized_type_name=f"{CodeIds.__module__}.{CodeIds.__name__}")


@dataclass(init=False, eq=False, repr=False)
class ByModality(ModelOutput):
    """A dictionary keyed by modality name.

    Not a plain dictionary, because the library's pipelines cut a batch into samples and know how to only for tensors
    and nested model outputs.
    """


@dataclass
class CodeBindOutput(ModelOutput):
    """Output of `CodeBindModel`; every dictionary is keyed by modality name.

    Args:
        loss (`torch.Tensor` of shape `()`, *optional*, with `return_loss=True`): weighted sum of `loss_terms`.
        loss_terms (`dict[str, torch.Tensor]`, *optional*): every active term, before its weight.
        last_hidden_state (`torch.Tensor`, when only one modality is among the inputs): of its tower,
            `(batch * clips, tokens, hidden_size)`, as `get_<modality>_features` gives it.
        pooler_output (`torch.Tensor`, likewise): its row of `embeds`.
        embeds (`dict[str, torch.Tensor]`): `(batch, shared_dim)` unit shared embeddings, quantized unless
            `quantize=False`.
        continuous_embeds (`dict[str, torch.Tensor]`): the same before quantization.
        specific_embeds (`dict[str, torch.Tensor]`): `(batch, specific_dim)` unit specific embeddings; none for text,
            and `None` where no input has any.
        continuous_specific_embeds (`dict[str, torch.Tensor]`): the same before quantization.
        codes (`dict[str, CodeIds]`): `.shared` and `.specific` code ids.
        logits (`dict[str, torch.Tensor]`, when text is among the inputs): `(batch, texts)` scale * cosine of every
            other modality, also as `logits_per_<modality>` for the built-in ones.
        reconstructions, reconstruction_targets (`dict[str, torch.Tensor]`, with `output_reconstructions=True`):
            what the decoders gave, and the input at the same size.
        hidden_states (`dict[str, tuple[torch.Tensor]]`, with `output_hidden_states=True`): of every tower.
        attentions (`dict[str, tuple[torch.Tensor]]`, with `output_attentions=True`): of every block of a tower
            `(batch * clips, heads, tokens, tokens)`, with a last column where attention has a bias as a further key.
    """

    loss: Tensor | None = None
    loss_terms: dict[str, Tensor] | None = None
    last_hidden_state: Tensor | None = None
    pooler_output: Tensor | None = None
    embeds: dict[str, Tensor] | None = None
    continuous_embeds: dict[str, Tensor] | None = None
    specific_embeds: dict[str, Tensor] | None = None
    continuous_specific_embeds: dict[str, Tensor] | None = None
    codes: dict[str, CodeIds] | None = None
    logits: dict[str, Tensor] | None = None
    logits_per_image: Tensor | None = None
    logits_per_video: Tensor | None = None
    logits_per_audio: Tensor | None = None
    logits_per_depth: Tensor | None = None
    logits_per_thermal: Tensor | None = None
    logits_per_tactile: Tensor | None = None
    logits_per_point_cloud: Tensor | None = None
    logits_per_eeg: Tensor | None = None
    logits_per_imu: Tensor | None = None
    reconstructions: dict[str, Tensor] | None = None
    reconstruction_targets: dict[str, Tensor] | None = None
    hidden_states: dict[str, tuple[Tensor, ...]] | None = None
    attentions: dict[str, tuple[Tensor, ...]] | None = None
