"""What does a step of binding cost where the towers of the bridge run once a row and not at every step?

    python examples/bench/cached_bridge.py --folder build/cached --steps 40
    python examples/bench/cached_bridge.py --folder build/cached --steps 40 --bridge_heads shared --files

Trains the bind stage of `examples/recipes/demo.yaml` (tiny on NineSenses, nine modalities, batches of 64) by turns
without and with `cache_bridge`, in one process and `--rounds` times each, and prints the median step of either, the
median ratio of the two times of one step, and how far losses differ. Times are CPU seconds of the process, which other
work on the machine changes less. With `--files` rows are PNG, WAV and other files that are opened at every step; else
their tensors are in memory. `--bridge_heads shared` lets the shared heads of text and vision learn, as the demo does;
its noise is then turned off, as tokens under noise cannot be kept.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from codebind_hf.data import CodeBindCollator, Manifest, NineSenses, load_items
from codebind_hf.training import CodeBindTrainer, ModalityView, Recipe, Stage, build, plan_stages, train_only


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="for files and the cache")
    parser.add_argument("--steps", type=int, default=40, help="of either kind, over all rounds")
    parser.add_argument("--rounds", type=int, default=4, help="turns of either kind")
    parser.add_argument("--rows", type=int, default=64, help="rows of every modality that is bound")
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--bridge_heads", choices=("frozen", "shared"), default="frozen")
    parser.add_argument("--bridge_blocks", type=int, default=3, help="of the towers of text and vision, tiny has 3")
    parser.add_argument("--files", action="store_true", help="open files at every step")
    parser.add_argument("--modalities", default="", help="such as text,image,eeg; all nine without it")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


class Bench:
    """The bind stage, some steps at a time, by turns with and without a cache."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        modalities = arguments.modalities.split(",") if arguments.modalities else None
        rows: Any = NineSenses("train", num_bridge=0, num_target=arguments.rows, modalities=modalities)
        texts = [template.format(name) for name in rows.class_names for template in rows.templates]
        bind: dict[str, Any] = {}
        if arguments.bridge_heads == "shared":
            bind |= {"train_bridge_heads": "shared", "input_noise": 0.0}
        bind["max_steps"] = arguments.steps // arguments.rounds
        blocks = {"num_hidden_layers": arguments.bridge_blocks}
        model = {"text_config": blocks, "vision_config": blocks}
        self.recipe = Recipe(preset="tiny", model=model, stages={"bind": bind})
        modalities = list(rows.modalities)
        self.model, self.processor = build(self.recipe, modalities, texts)
        self.start = {name: value.clone() for name, value in self.model.state_dict().items()}
        if arguments.files:
            rows = Manifest(rows.export(arguments.folder / "files")).validate()
        self.items = load_items(rows, self.processor, "lazy" if arguments.files else "memory")
        self.stage: Stage = plan_stages(modalities)[-1]

    def run(self, is_cached: bool) -> tuple[list[float], list[float]]:
        """Seconds of every step but the first few, and the losses; from the same weights every time."""
        self.model.load_state_dict(self.start)
        args = self.recipe.arguments(self.stage, self.arguments.folder)
        args.per_device_train_batch_size, args.cache_bridge = self.arguments.batch_size, is_cached
        args.logging_steps, args.disable_tqdm, args.save_minutes = 1, True, None
        args.init_codebooks = False
        mode = "shared_heads" if args.train_bridge_heads == "shared" else "heads"
        bridges = ("text", "image") if args.train_bridge_heads else ()
        train_only(self.model, self.stage.trained, "full", bridges, mode)
        trainer = CodeBindTrainer(
            model=self.model,
            args=args,
            train_dataset=ModalityView(
                self.items, self.stage.modalities, self.model.config.modalities, required=self.stage.trained
            ),
            data_collator=CodeBindCollator(self.processor),
        )
        stamps: list[float] = []
        step = trainer.training_step

        def timed(*given: Any, **named: Any) -> Any:
            stamps.append(time.process_time())
            return step(*given, **named)

        trainer.training_step = timed  # type: ignore[method-assign]
        trainer.train()
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        return list(np.diff(stamps[2:])), losses


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    bench = Bench(arguments)
    bench.run(is_cached=True)
    times: dict[bool, list[float]] = {False: [], True: []}
    losses: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(arguments.rounds):
        for is_cached in (False, True):
            seconds, values = bench.run(is_cached)
            times[is_cached] += seconds
            losses[is_cached] += values
    plain, cached = (float(np.median(times[is_cached])) for is_cached in (False, True))
    apart = float(np.abs(np.array(losses[False]) - np.array(losses[True])).max())
    ratio = float(np.median(np.array(times[True]) / np.array(times[False])))
    print(f"a step without cache: {1000 * plain:.0f} ms; with: {1000 * cached:.0f} ms; with by without: {ratio:.2f}")
    print(f"largest difference of a loss: {apart:.1e} of {np.mean(losses[False]):.3g}")


if __name__ == "__main__":
    main()
