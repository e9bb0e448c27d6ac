"""Embeddings back to the input: in training, and of a pair of parts that a caller chooses."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from .codebooks import SharedSpecificCodebook
from .decoders import Decoder, reconstruction_target
from .heads import Encoder
from .inputs import IDS, Checks, ModalityInput, check_floats, check_numbers, check_storage
from .objective import ModalityState
from .typed_modules import ModulesByName


class Decoding:
    """What `CodeBindModel` does with its decoders."""

    config: Any
    encoders: ModulesByName[Encoder]
    decoders: ModulesByName[Decoder]
    codebooks: SharedSpecificCodebook
    input_checks: Callable[[], Checks]

    def decode(self, shared: Tensor, specific: Tensor | None = None, *, modality: str) -> Tensor:
        """What a modality looks like whose shared and specific part are these; they may be of different items.

        The shared part may come from any modality. The decoder sees this one embedding and no other token, so the
        answer is as sharp as training with `hide_patches` made it.

        Args:
            shared (`Tensor` of shape `(batch, shared_dim)` or, of codes, `(batch, segments)` int64): one part each.
            specific (`Tensor` of shape `(batch, specific_dim)` or `(batch, segments)`): of this modality.
            modality: what to decode to, such as "image".

        Returns:
            `Tensor` in the shape of this modality's reconstructions: its values at half the size, as the processor
            normalizes them.

        Raises:
            ValueError: a modality without decoder, a part that is missing, has a wrong shape or another batch size, or
                a decoder that was trained with the tower's own tokens (`decoder_inputs="codes+tokens"`).
        """
        encoder = self.config.modality(modality).encoder
        if encoder not in self.decoders:
            raise ValueError(
                f"modality: {modality!r} has no decoder; encoders with one: {', '.join(self.decoders) or 'none'}."
            )
        if self.config.decoder_inputs != "codes":
            raise ValueError(
                f"decode: decoders with decoder_inputs={self.config.decoder_inputs!r} also need the tower's tokens. "
                "Fix: `forward(..., output_reconstructions=True)` on an input."
            )
        parts = [self._embedding_of("shared", shared, encoder)]
        own = self.config.specific_dim_of(encoder)
        if (specific is None) == bool(own):
            raise ValueError(f"specific: got {'none' if own else 'one'}; {modality} has {own} specific dimensions.")
        if specific is not None:
            parts.append(self._embedding_of("specific", specific, encoder))
        if len({len(part) for part in parts}) > 1:
            raise ValueError(f"shared, specific: got {' and '.join(str(len(part)) for part in parts)} items.")
        return self.decoders[encoder](torch.cat(parts, dim=-1).unsqueeze(1))

    def _embedding_of(self, part: str, values: Tensor, encoder: str) -> Tensor:
        """Embeddings as they are given, or those of codes."""
        if isinstance(values, Tensor):
            check_storage(part, values)
        dim, segments = self.config.dim_of(part, encoder), self.config.num_segments_of(part, encoder)
        is_codes = isinstance(values, Tensor) and values.dtype in IDS
        size = segments if is_codes else dim
        if not isinstance(values, Tensor) or values.ndim != 2 or values.shape[1] != size:
            got = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise ValueError(f"{part}: got {got}; expected embeddings (batch, {dim}) or codes (batch, {segments}).")
        if not is_codes:
            check_floats(part, values)
            check_numbers(part, values, self.input_checks())
        embeds = self.codebooks.embeds(part, encoder, values) if is_codes else values
        return normalize(embeds.float(), dim=-1)

    def _decode(self, state: ModalityState, value: ModalityInput, tokens: Tensor) -> None:
        encoder = value.modality.encoder
        tokens = tokens.unflatten(0, (-1, value.clips)).mean(1)
        values = value.values.unflatten(0, (-1, value.clips)).mean(1)
        position = self.encoders[encoder].tower.position
        state.reconstruction = self.decoders[encoder](self._decoder_input(state), tokens, position)
        # The released code never smooths the frames of a video when it makes them smaller.
        smooth = not (self.config.parity_losses and value.modality.name == "video")
        state.target = reconstruction_target(values, state.reconstruction, state.is_points, smooth)

    def _decoder_input(self, state: ModalityState) -> Tensor:
        """Embeddings of all tokens, `(batch, tokens, shared_dim + specific_dim)`, as the decoder was trained with."""
        parts = [part for part in (state.shared_tokens, state.specific_tokens) if part is not None]
        released = self.config.decoder_inputs == "codes+tokens"
        embeds = [part.as_stored() if released else part.embedding for part in parts]
        if self.config.reconstruction_gradient == "specific":
            embeds[0] = embeds[0].detach()
        if len(parts) > 1 and not self.config.quantize_specific:
            embeds[1] = parts[1].segments.flatten(-2) if released else parts[1].continuous
        joint = torch.cat(embeds, dim=-1)
        return normalize(joint, dim=-1) if released else joint
