"""The recipes of CodeBind-VL: their numbers, their prompts, how much they train, and one of them run end to end."""

import logging
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest
import torch
import yaml
from recipe_files import FOLDER, read, recipe_of
from reference_checkpoints import SMALL_VITLENS

from codebind_hf.data import CodeBindCollator
from codebind_hf.model.configuration_codebind import CodeBindConfig
from codebind_hf.model.modeling_codebind import CodeBindModel
from codebind_hf.training import CodeBindTrainer, plan_stages, train_only
from codebind_hf.training.adapters import add_lora
from codebind_hf.training.building import check_fit, recipe_config, warn_of_idle_terms
from codebind_hf.training.freezing import trainable_parts


@dataclass(frozen=True)
class Row:
    """Rate, epochs (times how often ViT-Lens shows a row in one) and prompts of TencentARC/ViT-Lens@2b4f2e0; weights
    of the column of the paper's appendix table 1 for the same modality."""

    target: str
    rate: float
    epochs: int
    vq: float
    cm: float
    orth: float
    uni: float
    prompts: int

    @property
    def modalities(self) -> tuple[str, ...]:
        return ("text", "image", self.target)


ROWS = {
    "vl-shapenet": Row("point_cloud", 5e-4, 200, 1000, 0.1, 0.1, 1.0, 64),
    "vl-sun": Row("depth", 2e-4, 100 * 50, 1000, 0.1, 0.1, 1.0, 19),
    "vl-audioset": Row("audio", 2e-4, 80, 50, 1.0, 0.1, 1.0, 12),
    "vl-vggsound": Row("audio", 2e-4, 80, 50, 1.0, 0.1, 1.0, 12),
    "vl-touch_and_go": Row("tactile", 2e-4, 80 * 40, 1000, 0.1, 0.05, 0.1, 2),
    "vl-eeg": Row("eeg", 2e-4, 40 * 50, 10, 0.1, 0.05, 0.1, 3),
}
each_row = pytest.mark.parametrize("name", ROWS)


def test_every_row_of_the_paper_has_its_recipe() -> None:
    assert {path.stem for path in FOLDER.glob("vl-*.yaml")} == set(ROWS)


@each_row
def test_a_recipe_has_the_numbers_of_its_row(name: str, tmp_path: Path) -> None:
    row, recipe = ROWS[name], recipe_of(name)
    assert (recipe.preset, recipe.order, recipe.seed, recipe.temperature) == ("codebind-vl-large", "bind", 43, None)
    assert recipe.base
    (stage,) = plan_stages(row.modalities, recipe.order)
    assert (stage.modalities, stage.trained) == (row.modalities, (row.target,))
    arguments = recipe.arguments(stage, tmp_path)
    assert (arguments.train_mode, arguments.train_bridge_heads, arguments.lora_rank) == ("lora", True, 4)
    # The last six of 24.
    assert arguments.lora_layers == list(range(18, 24))
    # 512 rows on 8 GPUs.
    assert 8 * arguments.per_device_train_batch_size == 512
    assert (arguments.num_train_epochs, arguments.max_steps) == (row.epochs, -1)
    assert (arguments.learning_rate, arguments.new_module_learning_rate) == (row.rate, row.rate)
    assert (arguments.adam_beta1, arguments.adam_beta2, arguments.adam_epsilon) == (0.9, 0.98, 1e-6)
    assert (arguments.weight_decay, arguments.max_grad_norm) == (0.2, 0.0)
    assert (arguments.lr_scheduler_type, arguments.get_warmup_steps(70_000)) == ("cosine", 7000)
    assert (arguments.input_noise, arguments.freeze_shared_codes, arguments.balance) == (0.0, False, "fixed")


@each_row
def test_a_recipe_has_the_loss_weights_of_its_row(name: str) -> None:
    row, config = ROWS[name], recipe_config(recipe_of(name, base=None))
    assert config.loss_weights == {
        "align": 1.0,
        "recon": 1.0,
        "commit": row.vq / config.code_dim,
        "cm": row.cm,
        "cctr": 0.01,
        "cuni": 0.01,
        "orth": row.orth,
        "uni": row.uni,
    }
    assert (config.shared_dim // config.code_dim, config.num_shared_codes, config.num_specific_codes) == (
        96,
        1024,
        256,
    )
    assert (config.align_on, config.decoder_inputs) == ("codes", "codes")


BENCHMARKS = {
    **{"audioset": "audioset", "eeg": "in-eeg", "shapenet": "shapenet55", "sun": "sun-d", "touch_and_go": "tag-m"},
    "vggsound": "vggsound",
}


@each_row
def test_the_data_of_a_recipe_are_a_benchmark_of_the_registry(name: str) -> None:
    row, settings = ROWS[name], read(name)
    benchmark = BENCHMARKS[name.removeprefix("vl-")]
    assert set(settings) == {"data", "recipe", "templates"}
    assert settings["data"] == {"benchmark": benchmark, "root": f"data/{benchmark}", "backbone": "vl"}
    assert len(settings["templates"]) == row.prompts
    assert all(template.count("{}") == 1 for template in settings["templates"])
    assert f"--config examples/recipes/{name}.yaml" in (FOLDER / f"{name}.yaml").read_text()


def expanded(line: str) -> list[str]:
    """`a {good|bad} photo` as every sentence that it stands for; `{}` is the class."""
    pieces = [
        piece[1:-1].split("|") if "|" in piece else [piece]
        for piece in line.replace("{", "\0{").replace("}", "}\0").split("\0")
    ]
    return ["".join(choice) for choice in product(*pieces)]


def test_modelnet40_has_the_prompts_of_vitlens() -> None:
    article = "{a|the}"
    lines = [
        "a point cloud model of {}.",
        f"There is {article} {{}} in the scene.",
        "a photo of {a|the|one} {} in the scene.",
        "itap of {a|my|the} {}.",
        "a photo of {a|my|the|one|many} {}.",
        f"a {{good|bad}} photo of {article} {{}}.",
        f"a photo of {article} {{nice|cool|weird|small|large|clean|dirty}} {{}}.",
        f"a {{bright|dark}} photo of {article} {{}}.",
        f"a photo of {article} hard to see {{}}.",
        f"a {{low resolution|cropped|close-up|jpeg corrupted|blurry|pixelated}} photo of {article} {{}}.",
        "a black and white photo of the {}.",
        "a black and white photo of a {}",
        f"{article} {{plastic|toy|plushie|cartoon}} {{}}.",
        "an embroidered {}.",
        "the embroidered {}.",
        "a painting of the {}.",
        "a painting of a {}.",
    ]
    expected = [sentence for line in lines for sentence in expanded(line)]
    assert len(expected) == 64
    assert sorted(read("vl-shapenet")["templates"]) == sorted(expected)


def test_both_sets_of_sounds_have_the_same_prompts_three_of_them_the_bare_name() -> None:
    assert read("vl-audioset")["templates"] == read("vl-vggsound")["templates"]
    assert read("vl-audioset")["templates"].count("{}.") == 3


@each_row
def test_lora_of_a_recipe_is_a_small_part_of_its_tower(name: str) -> None:
    row = ROWS[name]
    with torch.device("meta"):
        model = CodeBindModel(recipe_config(recipe_of(name, base=None)).restricted_to(row.modalities))
    encoder = model.config.modality(row.target).encoder
    add_lora(model, [encoder], 4, list(range(18, 24)))
    train_only(model, [row.target], "lora", ["text", "image"])
    parts = trainable_parts(model)
    # Rank 4 on four square matrices of width 1024 and two of 1024 by 4096, in six blocks.
    assert parts["lora"] == 6 * 4 * (4 * 2 * 1024 + 2 * (1024 + 4096))
    assert (parts["towers"], parts["cls_tokens"]) == (0, 2 * 1024)


# What ViT-Lens itself trains, in millions


@pytest.mark.parametrize(
    ("modality", "millions"),
    [("point_cloud", "119.1"), ("depth", "50.8"), ("audio", "127.6"), ("tactile", "51.3"), ("eeg", "30.6")],
)
def test_lens_mode_trains_the_towers_as_vitlens_does(modality: str, millions: str) -> None:
    with torch.device("meta"):
        model = CodeBindModel(CodeBindConfig.from_preset("vl-large").restricted_to(["text", modality]))
    train_only(model, [modality], "lens")
    parts = trainable_parts(model)
    # ViT-Lens leaves the CLS token of depth and points alone.
    cls = parts["cls_tokens"] if modality in ("audio", "tactile", "eeg") else 0
    assert f"{(parts['towers'] + cls) / 1e6:.1f}" == millions
    tower = model.encoders[model.config.modality(modality).encoder].tower
    assert not any(p.requires_grad for block in tower.layers[4:] for p in block.parameters())
    assert all(p.requires_grad for p in tower.stem.parameters())


def test_a_base_of_other_sizes_takes_what_the_documentation_says(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    block = (
        (FOLDER.parents[1] / "docs" / "training.md").read_text().partition("```yaml\nmodel:")[2].partition("```")[0]
    )
    given = yaml.safe_load(f"model:{block}")
    CodeBindModel(CodeBindConfig(**{**SMALL_VITLENS, "shared_dim": 64})).save_pretrained(tmp_path)
    recipe = recipe_of("vl-shapenet", preset=None, base=str(tmp_path))
    recipe.model.update(given["model"])
    config = recipe_config(recipe).restricted_to(["text", "image", "point_cloud"])
    large = recipe_config(recipe_of("vl-shapenet", base=None))
    assert (config.align_on, config.loss_weights) == (large.align_on, large.loss_weights)
    assert (config.shared_dim, config.specific_dim) == (64, 64)
    with caplog.at_level(logging.WARNING, logger="codebind_hf"):
        check_fit(str(tmp_path), config)
        warn_of_idle_terms(config)
    assert not [record for record in caplog.records if "no effect" in record.getMessage()]
    for encoder in config.encoder_configs.values():
        assert given["training"]["lora_layers"] == [encoder.num_hidden_layers - 1]
    with pytest.raises(ValueError, match=r"point_config.num_attention_heads is 2 in the base and 16 in the recipe"):
        check_fit(str(tmp_path), recipe_config(recipe_of("vl-shapenet", base=str(tmp_path))))


# One of them, end to end

SHORT = {
    "max_steps": 3,
    "num_train_epochs": 1,
    "per_device_train_batch_size": 4,
    "use_cpu": True,
    "disable_tqdm": True,
}


@pytest.mark.parametrize("mode", ["lora", "lens"])
def test_a_recipe_trains_a_converted_vitlens_with_codebinds_additions(mode: str, tmp_path: Path) -> None:
    recipe = recipe_of("vl-shapenet", preset=None, base=None)
    large = recipe_config(recipe_of("vl-shapenet", base=None))
    additions = {"specific_dim": 24, "num_shared_codes": 12, "num_specific_codes": 6, "align_on": "codes"}
    decoder = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    fields = {**SMALL_VITLENS, **additions, "decoder_config": decoder, "loss_weights": large.loss_weights}
    torch.manual_seed(0)
    model = CodeBindModel(CodeBindConfig(**fields).restricted_to(["text", "image", "point_cloud"]))
    (stage,) = plan_stages(["text", "image", "point_cloud"], "bind")
    recipe.training.update(SHORT, train_mode=mode, lora_layers=[1])
    if mode == "lens":
        # Its batch norms learn from whole batches.
        recipe.training["gradient_cache_chunk"] = None
    else:
        recipe.training["gradient_cache_chunk"] = 2
        add_lora(model, ["point"], 4, [1])
    train_only(model, ["point_cloud"], mode, ["text", "image"])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    ids = torch.tensor([[49406, 7, 49407]] * 8)
    items = [
        {
            "tensors": {
                "input_ids": ids[i] + torch.tensor([0, i, 0]),
                "attention_mask": torch.ones(3, dtype=torch.long),
                "pixel_values": torch.randn(3, 28, 28),
                "point_values": torch.randn(40, 3),
            },
            "id": str(i),
            "label": None,
            "attributes": {},
        }
        for i in range(8)
    ]
    arguments = recipe.arguments(stage, tmp_path)
    trainer = CodeBindTrainer(model=model, args=arguments, train_dataset=items, data_collator=CodeBindCollator())
    trainer.train()
    log = trainer.state.log_history[-1]
    assert log["train_loss"] > 0
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    lens = {name for name in before if name.startswith(("encoders.point.tower.lens.", "encoders.point.tower.stem."))}
    assert {"encoders.point.specific_head.projection.weight", "codebooks.shared.codes"} <= moved
    assert {"decoders.point.head.projection.weight", "codebooks.specific.point.codes"} <= moved
    assert not any(name.startswith(("encoders.text.tower.", "encoders.vision.tower.layers.")) for name in moved)
    if mode == "lens":
        matrices = {name for name in lens if name.endswith("weight")}
        assert matrices <= moved
    else:
        assert lens.isdisjoint(moved)
        assert any(".lora_B." in name for name in moved)
