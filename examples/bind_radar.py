"""Bind a sensor of your own: a made-up radar that sees an object's outline from the front and from the side.

    python examples/bind_radar.py --bridge runs/demo --output_dir runs/radar

Without `--bridge` it trains a small bridge first: three minutes, and 60 % zero-shot accuracy (chance 5 %).
"""

import argparse
from pathlib import Path

import numpy as np
from transformers import set_seed

from codebind_hf import CodeBindEncoderConfig, CodeBindModel, CodeBindProcessor
from codebind_hf.data import NineSenses, PreparedDataset
from codebind_hf.evaluation import class_embeddings, zero_shot_accuracy
from codebind_hf.evaluation.provenance import checkpoint_of
from codebind_hf.training import Recipe, build, save, train
from codebind_hf.training.binding import bind


def radar(picture: np.ndarray) -> np.ndarray:
    """Two profiles of 32 numbers: how much of every column and of every row is not background."""
    echo = np.abs(np.asarray(picture, dtype=np.float32) - np.median(picture, axis=(0, 1))).sum(-1)
    return np.stack([echo.mean(0), echo.mean(1)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bridge", help="a run of examples/train.py, or a checkpoint")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--max_steps", type=int, default=400)
    arguments = parser.parse_args()
    if (arguments.output_dir / "checkpoint").exists():
        parser.error("--output_dir: has a checkpoint already; name a new folder.")
    recipe = Recipe(training={"max_steps": arguments.max_steps, "warmup_steps": arguments.max_steps // 10})
    data = NineSenses("train", num_bridge=arguments.rows, num_target=0, modalities=["text", "image"])
    rows = [{**row, "radar": radar(row["image"])} for row in data]
    if arguments.bridge:
        start = checkpoint_of(arguments.bridge, "--bridge")
        model, processor = CodeBindModel.from_pretrained(start), CodeBindProcessor.from_pretrained(start)
    else:
        model, processor = build(recipe, ["text", "image"], [row["text"] for row in rows])
        train(recipe, model, processor, PreparedDataset(list(data), processor), arguments.output_dir)
    set_seed(0)
    tower = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 192}
    model.add_modality("radar", CodeBindEncoderConfig(num_channels=2, input_size=[32], patch_size=[4], **tower))
    processor.add_modality("radar", num_channels=2, input_size=[32], normalize="item")
    result = bind(model, processor, rows, "radar", recipe, arguments.output_dir)
    save(model, processor, arguments.output_dir / "checkpoint")
    test = NineSenses("test", num_rows=400, modalities=["text", "image"])
    embeds = model.encode({"radar": [radar(row["image"]) for row in test]}, processor)["radar"]
    classes = class_embeddings(model, processor, test.class_names, test.templates).embeds
    accuracy = zero_shot_accuracy(embeds, classes, [test.class_names.index(row["label"]) for row in test])
    print(f"Others: {result.summary()}. Zero-shot accuracy of radar: {accuracy:.1%} (chance {1 / len(classes):.1%}).")


if __name__ == "__main__":
    main()
