"""What `accelerate launch` runs in the tests: frozen towers cached by all processes together, or not at all.

accelerate launch ... tests/scripts/cache_on_processes.py FOLDER plain|cached
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from train_on_processes import MODEL, trainer_of

from codebind_hf.data import NineSenses
from codebind_hf.training import Recipe, bridge_cache, build, train_only
from codebind_hf.training.processes import done_by_all, launched_processes


def main(folder: Path, asked: bool) -> None:
    torch.set_num_threads(1)
    bridge_cache.ROWS_A_FILE = 4
    rows = NineSenses("train", num_bridge=0, num_target=7, modalities=["text", "image", "audio", "depth"])
    texts = [template.format(name) for name in rows.class_names for template in rows.templates]
    model, processor = build(Recipe(model=MODEL), rows.modalities, texts)
    train_only(model, ["audio", "depth"])
    embedded: dict[str, list[int]] = {}
    made = model.get_pooled_tokens

    def counted(modality: str, values: torch.Tensor, mask: Any = None) -> torch.Tensor:
        embedded.setdefault(modality, []).append(len(values))
        return made(modality, values, mask)

    model.get_pooled_tokens = counted
    options = {"per_device_train_batch_size": 3, "optim": "sgd", "cache_bridge": asked}
    trainer = trainer_of(model, processor, rows, folder, **options)
    trainer.train()
    rank = PartialState().process_index

    def fail() -> None:
        if rank == 1:
            raise ValueError("process 1 cannot")

    refused = ""
    try:
        done_by_all(fail)
    except ValueError as error:
        refused = str(error)
    # Loss terms are the same on every process; the loss of the log is of the main one.
    losses = [entry["loss/align"] for entry in trainer.state.log_history if "loss/align" in entry]
    (folder / f"{rank}.json").write_text(json.dumps({"losses": losses, "embedded": embedded, "refused": refused}))


if __name__ == "__main__":
    with launched_processes():
        main(Path(sys.argv[1]), sys.argv[2] == "cached")
