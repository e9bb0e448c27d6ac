"""What `accelerate launch` runs in the tests: a short training whose end every process writes down.

accelerate launch ... tests/scripts/train_on_processes.py FOLDER
"""

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from codebind_hf.data import CodeBindCollator, NineSenses, PreparedDataset
from codebind_hf.training import CodeBindTrainer, CodeBindTrainingArguments, Recipe, build, train_only
from codebind_hf.training.processes import launched_processes


NAMES = ["text", "image", "audio", "depth"]
SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
MODEL: dict[str, Any] = {
    **{f"{name}_config": {**SMALL, "stem_widths": []} for name in ("vision", "audio", "depth")},
    "text_config": {**SMALL, "vocab_size": 520},
    "decoder_config": SMALL,
    "num_shared_codes": 32,
    "num_specific_codes": 16,
    "loss_weights": {"recon": 1.0, "uni": 0.1, "orth": 0.1, "commit": 0.25, "cm": 0.1, "cctr": 0.1, "cuni": 0.1},
}


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    rows = NineSenses("train", num_bridge=8, num_target=8, modalities=NAMES)
    texts = [template.format(name) for name in rows.class_names for template in rows.templates]
    model, processor = build(Recipe(model=MODEL), rows.modalities, texts)
    train_only(model, NAMES)
    options = {"gradient_accumulation_steps": 2, "balance": "adaptive", "activation_checkpointing": True}
    trainer = trainer_of(model, processor, rows, folder, per_device_train_batch_size=4, **options)
    trainer.train()
    plain = trainer.accelerator.unwrap_model(trainer.model)
    state = {name: _whole(value) for name, value in plain.state_dict().items()}
    result = {"state": state, "balancer": trainer.balancer.state_dict(), "log": trainer.state.log_history}
    torch.save(result, folder / f"{trainer.args.process_index}.pt")


def trainer_of(model: Any, processor: Any, rows: Any, folder: Path, **options: Any) -> CodeBindTrainer:
    """A trainer of four steps on the CPU, with a noise that is drawn on every process."""
    arguments = CodeBindTrainingArguments(
        output_dir=str(folder / "run"),
        max_steps=4,
        learning_rate=1e-3,
        input_noise=0.05,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        remove_unused_columns=False,
        disable_tqdm=True,
        use_cpu=True,
        seed=1,
        **options,
    )
    data, collator = PreparedDataset(rows, processor), CodeBindCollator(processor)
    return CodeBindTrainer(model=model, args=arguments, train_dataset=data, data_collator=collator)


def _whole(value: Tensor) -> Tensor:
    """A tensor with all of its shards."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value


if __name__ == "__main__":
    with launched_processes():
        main(Path(sys.argv[1]))
