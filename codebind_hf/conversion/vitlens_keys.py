"""Where every tensor of ViT-Lens and OpenCLIP goes.

Source: TencentARC/ViT-Lens@2b4f2e0. Keys are those of the merged file vitlensL.pt, `vitlens.<modality>.<key in the
tower>`; `vitlens_files` writes the other files' keys this way.
"""

from codebind_hf.conversion.key_map import KeyMap, Rule


# Modality of ViT-Lens -> our encoder.
VITLENS_ENCODERS = {
    "text": "text",
    "image": "vision",
    "audio": "audio",
    "depth": "depth",
    "tactile": "tactile",
    "pc": "point",
    "eeg": "eeg",
}
# Of one stage of a lens; the released files have up to 4.
MOST_SELF_BLOCKS = 8

_BLOCK = (
    ("ln_1.{part}", "layer_norm1.{part}"),
    ("ln_2.{part}", "layer_norm2.{part}"),
    ("attn.out_proj.{part}", "self_attn.out_proj.{part}"),
    ("mlp.c_fc.{part}", "mlp.fc1.{part}"),
    ("mlp.c_proj.{part}", "mlp.fc2.{part}"),
)
_LENS_ATTENTION = (
    ("norm.{part}", "norm1.{part}"),
    ("norm_context.{part}", "context_norm.{part}"),
    ("fn.to_q.weight", "attention.q_proj.weight"),
    ("fn.to_out.{part}", "attention.out_proj.{part}"),
)
_LENS_MLP = (
    ("norm.{part}", "norm2.{part}"),
    ("fn.net.0.{part}", "mlp.fc1.{part}"),
    ("fn.net.2.{part}", "mlp.fc2.{part}"),
)
_PICTURE_STEM = (("conv1.weight", "projection.weight", "same"),)
_MAP_STEM = (
    ("visual_adapter.conv1.weight", "projection.weight", "same"),
    ("visual_adapter.pos_emb", "position", "same"),
)
_EEG_STEM = (
    ("visual_adapter.proj.{part}", "projection.{part}", "same"),
    ("visual_adapter.pos_emb", "position", "same"),
)
_NEAREST_STEM = tuple(
    rule
    for theirs, ours in (("first_conv", "local"), ("second_conv", "merged"))
    for rule in (
        # A convolution over single points is a linear layer.
        *((f"visual_adapter.encoder.{theirs}.{i}.weight", f"{ours}.{i}.weight", "pointwise") for i in (0, 3)),
        *((f"visual_adapter.encoder.{theirs}.{i}.bias", f"{ours}.{i}.bias", "same") for i in (0, 3)),
        (f"visual_adapter.encoder.{theirs}.1.{{part}}", f"{ours}.1.{{part}}", "same"),
    )
) + (
    ("visual_adapter.reduce_dim.{part}", "projection.{part}", "same"),
    ("visual_adapter.pos_embed.{i}.{part}", "position.{i}.{part}", "same"),
)
_BALL_STEM = (
    ("visual_adapter.sa.mlp_convs.{i}.weight", "layers.{i}.weight", "pointwise_of_groups"),
    ("visual_adapter.sa.mlp_convs.{i}.bias", "layers.{i}.bias", "same"),
    ("visual_adapter.sa.mlp_bns.{i}.{part}", "norms.{i}.{part}", "same"),
    ("visual_adapter.lift.0.weight", "lift.weight", "pointwise"),
    ("visual_adapter.lift.0.bias", "lift.bias", "same"),
    ("visual_adapter.lift.2.{part}", "norm.{part}", "same"),
)
_STEMS = {
    **dict.fromkeys(("image", "tactile"), _PICTURE_STEM),
    **dict.fromkeys(("audio", "depth"), _MAP_STEM),
    "eeg": _EEG_STEM,
    "pc": _NEAREST_STEM + _BALL_STEM,
}


def _transformer_rules(source: str, target: str) -> list[Rule]:
    blocks, layers = f"{source}.transformer.resblocks.{{i}}", f"{target}.layers.{{i}}"
    thirds = {part: tuple(f"{layers}.self_attn.{name}_proj.{part}" for name in "qkv") for part in ("weight", "bias")}
    return [
        *(Rule(f"{blocks}.attn.in_proj_{part}", targets, "thirds") for part, targets in thirds.items()),
        *(Rule(f"{blocks}.{theirs}", (f"{layers}.{ours}",)) for theirs, ours in _BLOCK),
    ]


def _lens_rules(source: str, target: str) -> list[Rule]:
    rules = [Rule(f"{source}.perceiver.latents", (f"{target}.lens.latents",))]
    stage = f"{source}.perceiver.layers.{{i}}"
    # Attention and MLP of a block have numbers of their own, and the self-attention blocks count from 0 again.
    blocks = [(f"{stage}.0", f"{stage}.1")]
    blocks += [(f"{stage}.2.{block}.0", f"{stage}.2.{block}.1") for block in range(MOST_SELF_BLOCKS)]
    for number, (attention, mlp) in enumerate(blocks):
        ours = f"{target}.lens.stages.{{i}}.{number}"
        key_and_value = tuple(f"{ours}.attention.{name}_proj.weight" for name in "kv")
        rules.append(Rule(f"{attention}.fn.to_kv.weight", key_and_value, "halves"))
        rules += [Rule(f"{attention}.{theirs}", (f"{ours}.{name}",)) for theirs, name in _LENS_ATTENTION]
        rules += [Rule(f"{mlp}.{theirs}", (f"{ours}.{name}",)) for theirs, name in _LENS_MLP]
    return rules


def _tower_rules(name: str, encoder: str) -> list[Rule]:
    source, target = f"vitlens.{name}", f"encoders.{encoder}.tower"
    head = f"encoders.{encoder}.shared_head"
    return [
        *(Rule(f"{source}.{theirs}", (f"{target}.stem.{ours}",), layout) for theirs, ours, layout in _STEMS[name]),
        *_lens_rules(source, target),
        Rule(f"{source}.class_embedding", (f"{target}.cls_token",)),
        Rule(f"{source}.positional_embedding", (f"{target}.position",)),
        Rule(f"{source}.ln_pre.{{part}}", (f"{target}.pre_norm.{{part}}",)),
        *_transformer_rules(source, target),
        Rule(f"{source}.ln_post.{{part}}", (f"{head}.norm.{{part}}",)),
        Rule(f"{source}.proj", (f"{head}.projection.weight",), "transposed"),
    ]


def _text_rules() -> list[Rule]:
    source, target, head = "vitlens.text", "encoders.text.tower", "encoders.text.shared_head"
    return [
        Rule(f"{source}.token_embedding.weight", (f"{target}.stem.embedding.weight",)),
        Rule(f"{source}.positional_embedding", (f"{target}.position",)),
        *_transformer_rules(source, target),
        Rule(f"{source}.ln_final.{{part}}", (f"{head}.norm.{{part}}",)),
        Rule(f"{source}.text_projection", (f"{head}.projection.weight",), "transposed"),
    ]


VITLENS_KEYS = KeyMap(
    rules=(
        *_text_rules(),
        *(rule for name, ours in VITLENS_ENCODERS.items() if name != "text" for rule in _tower_rules(name, ours)),
        Rule("logit_scale", ("logit_scale.log_scale",), "scalar"),
    ),
    dropped={"vitlens.text.attn_mask": "the causal mask, a constant that every attention makes itself"},
)
