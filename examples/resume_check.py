"""Is a run that was killed and resumed the same, bit for bit, as one that never stopped?

    python examples/resume_check.py --seed 1
    python examples/resume_check.py --seed 2 --gradient_accumulation_steps 2

One process trains the tiny model on a few made-up rows, with dropout and input noise, and is killed with SIGKILL at
a random step. Another resumes from the newest complete checkpoint, and a third never stops. Compared are weights,
buffers, optimizer, scheduler, balancer, random numbers and the order of the rows. CPU, about 20 seconds:

    killed after step 7 of 12, resumed from checkpoint-6
    ...
    max |difference| = 0
"""

import argparse
import math
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback

from codebind_hf.data import CodeBindCollator, NineSenses, PreparedDataset
from codebind_hf.training import CodeBindTrainer, CodeBindTrainingArguments, Recipe, build
from codebind_hf.training.checkpoints import newest_checkpoint


STEPS, SAVE_STEPS = 12, 3
NAMES = ("text", "image", "audio", "depth")


class TellSteps(TrainerCallback):
    """Prints every finished step, for the process that waits to kill this one."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        print(f"step {state.global_step}", flush=True)


class Collator(CodeBindCollator):
    """Keeps the names of the rows of every batch."""

    def __init__(self, processor: Any) -> None:
        super().__init__(processor)
        self.order: list[list[str]] = []

    def __call__(self, rows: Any) -> dict[str, Any]:
        self.order.append([row["id"] for row in rows])
        return super().__call__(rows)


def train(folder: Path, accumulation: int, resume: bool) -> None:
    """One run, and everything that it ends with in `final.pt`."""
    torch.set_num_threads(1)
    rows = NineSenses("train", num_bridge=18, num_target=6, modalities=NAMES)
    texts = [row["text"] for row in rows if row.get("text")]
    model, processor = build(Recipe(), NAMES, texts)
    collator = Collator(processor)
    arguments = CodeBindTrainingArguments(
        output_dir=str(folder),
        max_steps=STEPS,
        save_steps=SAVE_STEPS,
        save_total_limit=2,
        per_device_train_batch_size=8,
        gradient_accumulation_steps=accumulation,
        learning_rate=2e-3,
        lr_scheduler_type="cosine",
        input_noise=0.1,
        balance="adaptive",
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )
    trainer = CodeBindTrainer(
        model=model,
        args=arguments,
        train_dataset=PreparedDataset(rows, processor),
        data_collator=collator,
        callbacks=[TellSteps],
    )
    trainer.train(resume_from_checkpoint=resume)
    state = {
        "model": model.state_dict(),
        "optimizer": trainer.optimizer.state_dict(),
        "scheduler": trainer.lr_scheduler.state_dict(),
        "balancer": trainer.balancer.state_dict(),
        "random": [torch.get_rng_state(), list(random.getstate()[1]), np.random.get_state()[1].tolist()],
    }
    torch.save({"state": state, "order": collator.order}, folder / "final.pt")


def start(folder: Path, accumulation: int, *flags: str) -> subprocess.Popen:
    """A run in a process of its own."""
    command = [sys.executable, __file__, "--run", str(folder), "--gradient_accumulation_steps", str(accumulation)]
    # This very file, without a shell.
    return subprocess.Popen([*command, *flags], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)  # noqa: S603


def kill_after(process: subprocess.Popen, step: int, seconds: float) -> int:
    """Kill a run some time after it finished `step`; returns the last step that it finished."""
    done = 0
    for line in process.stdout or ():
        done = int(line.removeprefix("step ")) if line.startswith("step ") else done
        if line == f"step {step}\n":
            time.sleep(seconds)
            process.send_signal(signal.SIGKILL)
    if process.wait() != -signal.SIGKILL:
        raise SystemExit(f"error: the run ended with {process.returncode} before it could be killed.")
    return done


def numbers(value: Any, name: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Names and values of all tensors and numbers in nested dictionaries and lists."""
    if isinstance(value, dict | list | tuple):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from numbers(part, f"{name}.{key}")
    elif isinstance(value, torch.Tensor | int | float):
        yield name, torch.as_tensor(value).double()


def largest_difference(first: Any, second: Any) -> float:
    """Over all numbers of two states; infinite where they hold different things."""
    ones, others = dict(numbers(first)), dict(numbers(second))
    if ones.keys() != others.keys() or any(ones[name].shape != others[name].shape for name in ones):
        return math.inf
    gaps = torch.cat([(ones[name] - others[name]).abs().flatten() for name in ones])
    return math.inf if gaps.isnan().any() else float(gaps.max())


def check(seed: int, accumulation: int, folder: Path) -> bool:
    """Whether the killed and resumed run ends where the straight one does."""
    # When to kill has to be the same again, not hard to guess.
    chance = random.Random(seed)  # noqa: S311
    # The first checkpoint is written by then, and the last step is not done.
    step, delay = chance.randint(SAVE_STEPS + 1, STEPS - 2), chance.uniform(0, 0.05)
    killed = kill_after(start(folder / "killed", accumulation), step, delay)
    resumed_from = Path(newest_checkpoint(folder / "killed") or "nothing").name
    print(f"killed after step {killed} of {STEPS}, resumed from {resumed_from}")
    runs = start(folder / "killed", accumulation, "--resume"), start(folder / "straight", accumulation)
    if any(run.wait() for run in runs):
        raise SystemExit("error: the run that resumed, or the one that never stopped, failed.")
    resumed, straight = (torch.load(folder / name / "final.pt", weights_only=True) for name in ("killed", "straight"))
    for part, state in straight["state"].items():
        print(f"{part}: max |difference| = {largest_difference(resumed['state'][part], state):g}")
    difference = largest_difference(resumed["state"], straight["state"])
    batches = len(resumed["order"])
    same_order = 0 < batches < len(straight["order"]) and straight["order"][-batches:] == resumed["order"]
    print(f"order of the rows in the {batches} batches since: {'the same' if same_order else 'DIFFERENT'}")
    print(f"max |difference| = {difference:g}")
    return same_order and difference == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of the moment at which the run is killed")
    parser.add_argument("--gradient_accumulation_steps", type=int, default=1)
    parser.add_argument("--run", type=Path, help="only train, in this folder")
    parser.add_argument("--resume", action="store_true", help="with --run: from the newest complete checkpoint")
    arguments = parser.parse_args()
    if arguments.run:
        train(arguments.run, arguments.gradient_accumulation_steps, arguments.resume)
        return
    with tempfile.TemporaryDirectory() as folder:
        if not check(arguments.seed, arguments.gradient_accumulation_steps, Path(folder)):
            raise SystemExit("error: the resumed run differs.")


if __name__ == "__main__":
    main()
