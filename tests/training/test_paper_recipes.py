"""The recipes of the paper's rows: their numbers, how much they train, and one of them run end to end."""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from recipe_files import FOLDER, read, recipe_of
from torch import Tensor

from codebind_hf.benchmarks import names
from codebind_hf.conversion.lora import has_lora
from codebind_hf.data import NineSenses, PreparedDataset
from codebind_hf.model.codebooks import Codebook
from codebind_hf.model.modalities import MODALITIES
from codebind_hf.model.modeling_codebind import CodeBindModel
from codebind_hf.training import Recipe, build, modalities_of, plan_stages, save, train, train_only
from codebind_hf.training.adapters import add_lora, load_adapter, merge_lora
from codebind_hf.training.building import recipe_config
from codebind_hf.training.freezing import trainable_parts


@dataclass(frozen=True)
class Row:
    """A column of the paper's appendix table 1 and the line of config/*.yaml and scripts/train of
    Visual-AI/CodeBind@bba682e that belongs to it: batch, weights and mode from the table, the rest from the code."""

    bridge: str
    target: str | None
    batch: int
    rate: float
    temperature: float
    epochs: int
    vq: float
    cm: float
    regularizers: float
    orth: float
    uni: float

    @property
    def modalities(self) -> tuple[str, ...]:
        return ("text", self.bridge, *([self.target] if self.target else []))


ROWS = {
    "in1k": Row("image", None, 16, 1e-5, 0.07, 40, 10, 0.05, 0.01, 0.1, 1.0),
    "p365": Row("image", None, 10, 1e-5, 0.07, 40, 10, 0.05, 0.01, 0.1, 1.0),
    "k400": Row("video", None, 6, 1e-5, 0.07, 40, 10, 0.05, 0.01, 0.1, 1.0),
    # 40 epochs of a data set that shows every row ten times.
    "sun": Row("image", "depth", 8, 5e-4, 0.07, 40 * 10, 1000, 0.1, 0.01, 0.1, 1.0),
    "audioset": Row("video", "audio", 6, 5e-5, 0.05, 40, 50, 1.0, 0.01, 0.1, 1.0),
    "vggsound": Row("video", "audio", 6, 5e-5, 0.05, 40, 50, 1.0, 0.01, 0.1, 1.0),
    "audiocaps": Row("video", "audio", 6, 5e-5, 0.05, 40, 50, 1.0, 0.01, 0.1, 1.0),
    "audio": Row("video", "audio", 6, 5e-5, 0.05, 40, 50, 1.0, 0.01, 0.1, 1.0),
    "flir": Row("image", "thermal", 8, 5e-5, 0.1, 30 * 10, 1000, 1.0, 0.05, 1.0, 1.0),
    "llvip": Row("image", "thermal", 8, 5e-5, 0.1, 40, 1000, 1.0, 0.05, 1.0, 1.0),
    "touch_and_go": Row("image", "tactile", 6, 5e-4, 0.07, 40, 1000, 0.1, 0.01, 0.05, 0.1),
    "eeg": Row("image", "eeg", 6, 5e-4, 0.07, 30 * 2, 10, 0.1, 0.01, 0.05, 0.1),
}
each_row = pytest.mark.parametrize("name", ROWS)


def test_every_recipe_but_the_demos_and_real_ones_is_a_row_of_the_paper() -> None:
    stems = {path.stem for path in FOLDER.glob("*.yaml")}
    assert {stem for stem in stems if not stem.startswith("vl-")} == {
        "demo",
        "demo-vl",
        "real-bind",
        "real-bridge",
        *ROWS,
    }


@each_row
def test_a_recipe_has_the_numbers_of_its_row(name: str, tmp_path: Path) -> None:
    row, recipe = ROWS[name], recipe_of(name)
    assert (recipe.preset, recipe.order, recipe.seed) == ("codebind-ib-huge", "bind", 43)
    assert recipe.base
    assert recipe.temperature == row.temperature
    (stage,) = plan_stages(row.modalities, recipe.order)
    assert stage.modalities == row.modalities
    assert stage.trained == ((row.target,) if row.target else ("text", row.bridge))
    arguments = recipe.arguments(stage, tmp_path)
    assert arguments.train_mode == ("lora" if row.target else "heads")
    assert arguments.train_bridge_heads == bool(row.target)
    assert (arguments.lora_rank, arguments.lora_layers, arguments.lora_modules) == (4, None, "all")
    assert arguments.per_device_train_batch_size == row.batch
    assert (arguments.num_train_epochs, arguments.max_steps, arguments.warmup_steps) == (row.epochs, -1, 0)
    assert (arguments.learning_rate, arguments.new_module_learning_rate) == (row.rate, 5e-4)
    assert (arguments.adam_beta1, arguments.adam_beta2) == (0.9, 0.95)
    assert (arguments.weight_decay, arguments.max_grad_norm) == (1e-4, 1.0)
    assert arguments.lr_scheduler_type == "cosine_with_min_lr"
    assert arguments.lr_scheduler_kwargs == {"min_lr_rate": 1 / 50}
    assert (arguments.input_noise, arguments.freeze_shared_codes) == (0.0, False)
    assert (arguments.balance, arguments.seed) == ("fixed", 43)


@each_row
def test_a_recipe_has_the_loss_weights_of_its_row(name: str) -> None:
    row, config = ROWS[name], recipe_config(recipe_of(name, base=None))
    assert config.loss_weights == {
        "align": 1.0,
        "recon": 1.0,
        "commit": row.vq / config.code_dim,
        "cm": row.cm,
        "cctr": row.regularizers,
        "cuni": row.regularizers,
        "orth": row.orth,
        "uni": row.uni,
    }
    assert [config.pair_weight(pair) for pair in ("image", "text", "bridge")] == [1.0, 1.0, 1.0]
    assert math.exp(-config.logit_scale_init_value) == pytest.approx(row.temperature)
    assert config.align_on == "codes"


BENCHMARKS = {
    **{"in1k": "in1k", "p365": "places365", "k400": "k400", "sun": "sun-d", "audioset": "audioset", "flir": "flir-v2"},
    **{"vggsound": "vggsound", "audiocaps": "audiocaps", "llvip": "llvip", "touch_and_go": "tag-m", "eeg": "in-eeg"},
}


@each_row
def test_the_data_of_a_recipe_are_benchmarks_of_the_registry(name: str) -> None:
    settings = read(name)
    assert set(settings) <= {"data", "recipe", "templates"}
    wanted: Any = ["audioset", "vggsound", "audiocaps"] if name == "audio" else BENCHMARKS[name]
    assert settings["data"] == {"benchmark": wanted, "root": f"data/{name if name == 'audio' else wanted}"}
    assert set([wanted] if isinstance(wanted, str) else wanted) <= set(names())
    assert all("{}" in template for template in settings.get("templates", []))
    assert f"--config examples/recipes/{name}.yaml" in (FOLDER / f"{name}.yaml").read_text()


# How much they train: the closed form of the reference's modules (Visual-AI/CodeBind@bba682e, imagebind_huge)

SHARED = SPECIFIC = 1024
WIDTHS = {"text": 1024, "vision": 1280, "audio": 768, "depth": 384, "thermal": 768, "tactile": 768, "eeg": 768}
CHANNELS = {"vision": 3, "audio": 1, "depth": 1, "thermal": 1, "tactile": 3}
KERNELS = {"vision": 2 * 7 * 7, "audio": 8 * 8, "depth": 8 * 8, "thermal": 8 * 8, "tactile": 8 * 8}
ADAPTED_BLOCKS = {"audio": 6, "depth": 6, "thermal": 6, "tactile": 6, "eeg": 3}
RANK, DECODER_WIDTH, DECODER_BLOCKS, HIDDEN_CHANNELS = 4, 512, 8, 128


def linear(inputs: int, outputs: int, bias: bool = True) -> int:
    return inputs * outputs + bias * outputs


def head(width: int, outputs: int) -> int:
    return 2 * width + linear(width, outputs, bias=False)


def lora(inputs: int, outputs: int) -> int:
    return RANK * (inputs + outputs)


def reference_lora(width: int) -> int:
    """One block: the fused query-key-value projection, the output projection and both layers of the MLP."""
    return lora(width, 3 * width) + lora(width, width) + lora(width, 4 * width) + lora(4 * width, width)


def reference_decoder(encoder: str) -> int:
    width, inner = WIDTHS[encoder], DECODER_WIDTH
    attention = linear(inner, 3 * inner, bias=False) + linear(inner, inner)
    block = 2 * 2 * inner + attention + linear(inner, 4 * inner) + linear(4 * inner, inner)
    inputs = linear(SHARED + SPECIFIC, width) + 2 * width + linear(width, inner)
    return inputs + DECODER_BLOCKS * block + 2 * inner + linear(inner * KERNELS[encoder], CHANNELS[encoder])


def unused_by_the_reference(encoders: list[str], decoded: list[str]) -> dict[str, int]:
    """Trained tensors of the reference that its forward pass does not use, or uses to no effect; we have none."""
    unused = {"heads_mvq.text.proj.0.weight": WIDTHS["text"], "heads_mvq.text.proj.0.bias": WIDTHS["text"]}
    for name in decoded:
        unused[f"decoder_head.{name}.hid_conv._layers.0._block.1.weight"] = 64 * HIDDEN_CHANNELS * 3 * 3
        unused[f"decoder_head.{name}.hid_conv._layers.0._block.1.bias"] = 64
        unused[f"decoder_head.{name}.hid_conv._layers.0._block.3.weight"] = HIDDEN_CHANNELS * 64
        unused[f"decoder_head.{name}.hid_conv._layers.0._block.3.bias"] = HIDDEN_CHANNELS
        unused[f"decoder_head.{name}.out_conv.weight"] = CHANNELS[name] * HIDDEN_CHANNELS
        unused[f"decoder_head.{name}.out_conv.bias"] = CHANNELS[name]
    # Its cosine similarity removes them; the postprocessor of vision has none.
    return unused | {f"postprocessors_new.{name}.log_logit_scale": 1 for name in encoders if name != "vision"}


def reference_count(encoders: list[str], decoded: list[str], target: str | None) -> int:
    seen = [name for name in encoders if name != "text"]
    count = sum(head(WIDTHS[name], SHARED) for name in encoders)
    count += sum(head(WIDTHS[name], SPECIFIC) + WIDTHS[name] for name in seen)
    count += sum(reference_decoder(name) for name in decoded)
    if target is not None:
        count += ADAPTED_BLOCKS[target] * reference_lora(WIDTHS[target])
    return count + sum(unused_by_the_reference(encoders, decoded).values())


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("in1k", "32.40"),
        ("k400", "32.40"),
        ("sun", "59.65"),
        ("audio", "61.57"),
        ("flir", "61.57"),
        ("touch_and_go", "61.63"),
        ("eeg", "34.13"),
    ],
)
def test_a_recipe_trains_what_the_reference_trains(name: str, millions: str, tmp_path: Path) -> None:
    row, recipe = ROWS[name], recipe_of(name, base=None)
    config = recipe_config(recipe).restricted_to(row.modalities)
    with torch.device("meta"):
        model = CodeBindModel(config)
    (stage,) = plan_stages(row.modalities, recipe.order)
    arguments = recipe.arguments(stage, tmp_path)
    if arguments.train_mode == "lora":
        add_lora(model, [row.target], arguments.lora_rank, arguments.lora_layers, arguments.lora_modules)  # type: ignore[list-item]
    bridges = set(stage.modalities) - set(stage.trained)
    train_only(model, stage.trained, arguments.train_mode, bridges if arguments.train_bridge_heads else ())
    ours = trainable_parts(model)
    encoders = [MODALITIES[modality].encoder for modality in row.modalities]
    decoded = [encoder for encoder in encoders if encoder in CHANNELS]
    reference = reference_count(encoders, decoded, row.target)
    assert f"{reference / 1e6:.2f}" == millions
    # A down matrix for each of query, key and value, where the reference has one for the fused projection.
    more_lora = 0 if row.target is None else ADAPTED_BLOCKS[row.target] * 2 * RANK * WIDTHS[row.target]
    unused = unused_by_the_reference(encoders, decoded)
    temperature = 1
    assert sum(ours.values()) == reference - sum(unused.values()) + more_lora + temperature
    blocks = 0 if row.target is None else ADAPTED_BLOCKS[row.target]
    assert ours["lora"] == blocks * reference_lora(WIDTHS[encoders[-1]]) + more_lora
    assert ours["cls_tokens"] == sum(WIDTHS[encoder] for encoder in encoders if encoder != "text")
    assert (ours["towers"], ours["temperature"]) == (0, 1)
    assert ours["decoders"] == sum(reference_decoder(encoder) for encoder in decoded)


# One of them, end to end

NAMES = ["text", "image", "depth"]
_SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
SHORT = {
    "num_train_epochs": 1,
    "max_steps": 5,
    "per_device_train_batch_size": 4,
    "use_cpu": True,
    "disable_tqdm": True,
}


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return list(NineSenses("train", num_bridge=2, num_target=24, modalities=NAMES))


@pytest.fixture(scope="module")
def base(rows: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint that has text, vision and depth."""
    folder = tmp_path_factory.mktemp("base")
    small = {f"{name}_config": _SMALL for name in ("text", "vision", "depth", "decoder")}
    texts = [row["text"] for row in rows if row.get("text")]
    save(*build(Recipe(model={**small, "align_on": "codes"}), NAMES, texts), folder)
    return folder


def small_recipe(name: str, base: Path, **training: Any) -> Recipe:
    """A recipe of the paper in the architecture of `base`."""
    recipe = recipe_of(name, preset=None, base=str(base))
    return replace(recipe, training={**recipe.training, **SHORT, **training})


def state_of(model: CodeBindModel) -> dict[str, Tensor]:
    """All tensors under the names that they have without an adapter."""
    return {name.replace(".base_layer.", "."): value.clone() for name, value in model.state_dict().items()}


def test_a_recipe_binds_its_target_and_leaves_the_towers(
    rows: list[dict[str, Any]], base: Path, tmp_path: Path
) -> None:
    recipe = small_recipe("sun", base)
    model, processor = build(recipe, modalities_of(rows), [])
    assert model.logit_scale().item() == pytest.approx(1 / 0.07, rel=1e-5)
    before = state_of(CodeBindModel.from_pretrained(base))
    items = PreparedDataset(rows, processor)
    logs = train(recipe, model, processor, items, tmp_path)
    after = state_of(model)
    assert [(entry["stage"], entry["encoders"]) for entry in logs] == [("bind", ["depth"])]
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    kept = {name for name in before if ".tower." in name and not name.endswith(".cls_token")}
    assert kept
    assert moved.isdisjoint(kept)
    for encoder in ("vision", "depth"):
        assert f"encoders.{encoder}.tower.cls_token" in moved
        assert f"encoders.{encoder}.specific_head.projection.weight" in moved
        assert f"decoders.{encoder}.embed.weight" in moved
        assert f"codebooks.specific.{encoder}.codes" in moved
    for encoder in ("text", "vision", "depth"):
        assert f"encoders.{encoder}.shared_head.projection.weight" in moved
    assert {"codebooks.shared.codes", "logit_scale.log_scale"} <= moved
    ups = {name: value for name, value in after.items() if ".lora_B." in name}
    assert {name.split(".")[4] for name in ups} == {"1"}
    assert all(value.abs().max() > 0 for value in ups.values())
    assert not any(module.frozen for module in model.modules() if isinstance(module, Codebook))
    trained = sum(logs[0]["trainable"].values())
    assert trained == sum(value.numel() for value in model.parameters()) - sum(before[name].numel() for name in kept)
    assert json.loads(json.dumps(logs))[0]["trainable"]["lora"] == sum(v.numel() for v in ups.values()) + sum(
        value.numel() for name, value in after.items() if ".lora_A." in name
    )


def test_what_a_recipe_saves_is_the_trained_model(rows: list[dict[str, Any]], base: Path, tmp_path: Path) -> None:
    recipe = small_recipe("sun", base)
    model, processor = build(recipe, modalities_of(rows), [])
    train(recipe, model, processor, PreparedDataset(rows, processor), tmp_path)
    save(model, processor, tmp_path / "adapter")
    loaded = CodeBindModel.from_pretrained(base)
    load_adapter(loaded, tmp_path / "adapter")
    expected = embeds_of(model, processor, rows)
    found = embeds_of(loaded, processor, rows)
    assert all(torch.equal(value, found[name]) for name, value in expected.items())
    save(merge_lora(model), processor, tmp_path / "merged")
    plain = CodeBindModel.from_pretrained(tmp_path / "merged")
    assert not has_lora(plain)
    for name, value in embeds_of(plain, processor, rows).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-5)


def embeds_of(model: CodeBindModel, processor: Any, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
    model.eval()
    values = {modality: [row[modality] for row in rows if row.get(modality) is not None][:6] for modality in NAMES}
    return model.encode(values, processor=processor, output="torch")


def test_heads_of_the_bridge_are_trained_without_an_adapter(
    rows: list[dict[str, Any]], base: Path, tmp_path: Path
) -> None:
    some = [{key: value for key, value in row.items() if key != "depth"} for row in rows]
    recipe = small_recipe("in1k", base)
    model, processor = build(recipe, modalities_of(some), [])
    before = state_of(model)
    logs = train(recipe, model, processor, PreparedDataset(some, processor), tmp_path)
    assert [(entry["stage"], entry["encoders"]) for entry in logs] == [("bridge", ["text", "vision"])]
    assert (logs[0]["trainable"]["lora"], logs[0]["trainable"]["towers"]) == (0, 0)
    moved = {name for name, value in state_of(model).items() if not torch.equal(value, before[name])}
    assert not has_lora(model)
    assert {name for name in moved if ".tower." in name} == {"encoders.vision.tower.cls_token"}
    assert {"encoders.text.shared_head.projection.weight", "decoders.vision.embed.weight"} <= moved


def test_the_rates_fall_to_a_fiftieth(rows: list[dict[str, Any]], base: Path, tmp_path: Path) -> None:
    recipe = small_recipe("sun", base, logging_steps=1)
    model, processor = build(recipe, modalities_of(rows), [])
    logs = train(recipe, model, processor, PreparedDataset(rows, processor), tmp_path)
    rates = [line["learning_rate"] for line in logs[0]["log"] if "learning_rate" in line]
    # Step n of 5 runs at the rate after n steps: (1 + cos(pi n / 5)) / 2 of 98 % above the last 2 %.
    expected = [5e-4 * (0.02 + 0.98 * (1 + math.cos(math.pi * step / 5)) / 2) for step in range(5)]
    assert rates == pytest.approx(expected, rel=1e-6)
