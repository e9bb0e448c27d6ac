"""Where every tensor of ImageBind and of the official CodeBind goes.

Sources: facebookresearch/ImageBind@53680b0 imagebind_model.py and Visual-AI/CodeBind@bba682e. Keys of CodeBind's many
files are written as `<module>.<modality>.<key in the file>`, with ImageBind's prefixes where ImageBind has the module.
"""

from codebind_hf.conversion.key_map import KeyMap, Rule


# Encoder -> stem projection, norm after it, position table, and the layout of the projection's weight.
_STEMS: dict[str, tuple[str, str | None, str, str]] = {
    "vision": ("rgbt_stem.proj.1", None, "pos_embedding_helper.pos_embed", "same"),
    "audio": ("rgbt_stem.proj", "rgbt_stem.norm_layer", "pos_embedding_helper.pos_embed", "same"),
    "depth": ("depth_stem.proj", "depth_stem.norm_layer", "pos_embedding_helper.pos_embed", "same"),
    "thermal": ("rgbt_stem.proj", "rgbt_stem.norm_layer", "pos_embedding_helper.pos_embed", "same"),
    "tactile": ("rgbt_stem.proj", "rgbt_stem.norm_layer", "pos_embedding_helper.pos_embed", "same"),
    "imu": ("imu_stem.proj", "imu_stem.norm_layer", "pos_embed", "six_channels"),
    "eeg": ("eeg_stem.proj", "eeg_stem.norm_layer", "pos_embed", "same"),
}
# Encoder -> norm and projection of the shared head, then of CodeBind's specific head; a list of layers with holes.
_HEADS: dict[str, tuple[str, str, str, str]] = {
    **dict.fromkeys(("vision", "audio", "depth", "thermal", "tactile", "eeg"), ("0", "2", "0", "1")),
    "imu": ("0", "3", "0", "2"),
    "text": ("proj.0", "proj.1", "proj.0", "proj.1"),
}
IMAGEBIND_ENCODERS = ("text", "vision", "audio", "depth", "thermal", "imu")
CODEBIND_ENCODERS = tuple(_HEADS)

_BLOCK = (
    ("norm_1.{part}", "layer_norm1.{part}"),
    ("norm_2.{part}", "layer_norm2.{part}"),
    ("attn.out_proj.{part}", "self_attn.out_proj.{part}"),
    ("attn.bias_k", "self_attn.bias_k"),
    ("attn.bias_v", "self_attn.bias_v"),
    ("mlp.{layer}.{part}", "mlp.{layer}.{part}"),
)
_DECODER_BLOCK = (
    ("norm1.{part}", "layer_norm1.{part}"),
    ("norm2.{part}", "layer_norm2.{part}"),
    ("attn.proj.{part}", "self_attn.out_proj.{part}"),
    ("mlp.{layer}.{part}", "mlp.{layer}.{part}"),
)
_DECODER = (
    ("decoder_trunk.{name}.decoder_input_proj.{part}", "input_projection.{part}"),
    ("decoder_trunk.{name}.input_proj_norm.{part}", "token_norm.{part}"),
    ("decoder_trunk.{name}.decoder_embed.{part}", "embed.{part}"),
    ("decoder_trunk.{name}.norm.{part}", "norm.{part}"),
    ("decoder_head.{name}.deconv.{part}", "head.deconv.{part}"),
)
_BOOK = (
    ("embedding.weight", "codes", "same"),
    ("embedding.cluster_size", "cluster_size", "same"),
    ("embedding.embed_avg", "code_sum", "same"),
    ("embed_prob", "usage", "same"),
    ("initted", "num_updates", "counter"),
)


def _qkv(target: str, part: str) -> tuple[str, ...]:
    return tuple(f"{target}.self_attn.{name}_proj.{part}" for name in "qkv")


def _stem_rules(name: str) -> list[Rule]:
    source, target = f"modality_preprocessors.{name}", f"encoders.{name}.tower"
    if name == "text":
        return [
            Rule(f"{source}.token_embedding.weight", (f"{target}.stem.embedding.weight",)),
            Rule(f"{source}.pos_embed", (f"{target}.position",), "without_batch"),
        ]
    projection, norm, position, layout = _STEMS[name]
    rules = [
        Rule(f"{source}.cls_token", (f"{target}.cls_token",), "without_batch_and_token"),
        Rule(f"{source}.{position}", (f"{target}.position",), "without_batch"),
        Rule(f"{source}.{projection}.weight", (f"{target}.stem.projection.weight",), layout),
        Rule(f"{source}.{projection}.bias", (f"{target}.stem.projection.bias",)),
    ]
    return rules + [Rule(f"{source}.{norm}.{{part}}", (f"{target}.stem.norm.{{part}}",))] * (norm is not None)


def _tower_rules(name: str) -> list[Rule]:
    source, target = f"modality_trunks.{name}.blocks.{{i}}", f"encoders.{name}.tower.layers.{{i}}"
    return [
        *_stem_rules(name),
        Rule(
            f"modality_trunks.{name}.pre_transformer_layer.0.{{part}}", (f"encoders.{name}.tower.pre_norm.{{part}}",)
        ),
        Rule(f"{source}.attn.in_proj_weight", _qkv(target, "weight"), "thirds"),
        Rule(f"{source}.attn.in_proj_bias", _qkv(target, "bias"), "thirds"),
        *(Rule(f"{source}.{theirs}", (f"{target}.{ours}",)) for theirs, ours in _BLOCK),
    ]


def _head_rules(name: str, module: str, norm: str, projection: str, head: str) -> list[Rule]:
    return [
        Rule(f"{module}.{name}.{norm}.{{part}}", (f"encoders.{name}.{head}.norm.{{part}}",)),
        Rule(f"{module}.{name}.{projection}.weight", (f"encoders.{name}.{head}.projection.weight",)),
    ]


def _shared_head_rules(name: str) -> list[Rule]:
    norm, projection, *_ = _HEADS[name]
    return _head_rules(name, "modality_heads", norm, projection, "shared_head")


def _addition_rules(name: str) -> list[Rule]:
    """What CodeBind adds to an encoder: specific head, specific codebook, decoder."""
    if name == "text":
        return []
    *_, norm, projection = _HEADS[name]
    source, target = f"decoder_trunk.{name}.decoder_blocks.{{i}}", f"decoders.{name}.layers.{{i}}"
    return [
        *_head_rules(name, "modality_heads_mvq", norm, projection, "specific_head"),
        *(Rule(theirs.replace("{name}", name), (f"decoders.{name}.{ours}",)) for theirs, ours in _DECODER),
        Rule(f"{source}.attn.qkv.weight", _qkv(target, "weight"), "thirds"),
        *(Rule(f"{source}.{theirs}", (f"{target}.{ours}",)) for theirs, ours in _DECODER_BLOCK),
        *_book_rules(name, f"specific.{name}"),
    ]


def _book_rules(theirs: str, ours: str) -> list[Rule]:
    return [
        Rule(f"vector_quantise.mvq_dict.{theirs}.{source}", (f"codebooks.{ours}.{target}",), layout)
        for source, target, layout in _BOOK
    ]


_MASK = {"modality_preprocessors.text.mask": "the causal mask, a constant that every attention makes itself"}

IMAGEBIND_KEYS = KeyMap(
    rules=(
        *(rule for name in IMAGEBIND_ENCODERS for rule in (*_tower_rules(name), *_shared_head_rules(name))),
        Rule("modality_postprocessors.text.1.log_logit_scale", ("logit_scale.log_scale",), "scalar"),
    ),
    dropped=_MASK,
    scales=("modality_postprocessors.{name}.1.log_logit_scale",),
)

_NEVER_USED = "the released forward pass never uses it"

CODEBIND_KEYS = KeyMap(
    rules=(
        *(
            rule
            for name in CODEBIND_ENCODERS
            for rule in (*_tower_rules(name), *_shared_head_rules(name), *_addition_rules(name))
        ),
        *_book_rules("common", "shared"),
    ),
    dropped={
        **_MASK,
        "modality_heads_mvq.text.proj.{i}.{part}": "text has no specific embedding; its projection has no rows",
        **{
            f"decoder_head.{{name}}.{layer}.{{part}}": _NEVER_USED
            for layer in ("hid_conv._layers.{i}._block.{j}", "out_conv")
        },
    },
    scales=(
        "modality_postprocessors.{name}.1.log_logit_scale",
        "modality_postprocessors_new.{name}.log_logit_scale",
    ),
)
