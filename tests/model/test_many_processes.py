"""Several processes with a part of the batch each train as one process does with the whole batch."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from common import ALL_TERMS, free_port, tiny_config, tiny_inputs, tiny_model
from torch import Tensor, distributed, multiprocessing
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from codebind_hf.model.blocks import Block
from codebind_hf.model.configuration_codebind import CodeBindConfig


STEPS = 10
NAMES = ("text", "image", "audio", "depth", "eeg")
# Which rows of the whole batch have which modality; no row has all, and one modality is in a single row.
ROWS = {
    "text": [0, 1, 2, 3, 5],
    "image": [0, 1, 2, 4, 5],
    "audio": [1, 2, 3, 4],
    "depth": [0, 4, 5],
    "eeg": [5],
}
# Rows of each process. Of the last two, one process lacks depth or audio, and one has neither text nor EEG.
SPLITS = {
    "even": ([0, 1, 2], [3, 4, 5]),
    "one lacks modalities": ([1, 2, 3], [0, 4, 5]),
    "three": ([0, 1], [4], [2, 3, 5]),
    # Sharded models gather the weights of a tower when it runs, so every process must run the same ones.
    "same modalities": ([1], [2]),
}


def config() -> CodeBindConfig:
    # Correlations over three samples, of which there are no more here, blow up the last digits of what they are given.
    return tiny_config(
        specific_dim=24,
        specific_readout="token",
        specific_code_dim=6,
        eeg_config={"specific_readout": "network", "specific_code_dim": 8},
        align_on="codes",
        loss_weights={**dict.fromkeys((*ALL_TERMS, "views"), 0.3), "align": 1.0, "commit": 0.5, "decorr": 0.03},
    ).restricted_to(NAMES)


def batch(of: CodeBindConfig, step: int, chosen: list[int]) -> dict[str, Any]:
    """What the rows `chosen` have of the batch of `step`: arguments of `forward`."""
    whole = tiny_inputs(of, batch=6, seed=step)
    inputs: dict[str, Any] = {"rows": {}, "views": {}}
    for name, rows in ROWS.items():
        own = [row for row in rows if row in chosen]
        if own:
            tensor = of.modality(name).tensor
            inputs[tensor] = whole[tensor][own]
            inputs["rows"][name] = torch.tensor(own)
            if name == "text":
                inputs["attention_mask"] = whole["attention_mask"][own]
            elif name != "image":
                # Of images there is no second view, so that some of a batch have one.
                inputs["views"][tensor] = 0.7 * inputs[tensor] + 0.1
    return inputs


def train(chosen: list[int], parallel: str | None, frozen: tuple[str, ...], micro: int) -> dict[str, Any]:
    """Ten steps of SGD; losses of every step, gradients of the first, and everything that the model holds after."""
    of = config()
    model = tiny_model(of).train()
    for name in frozen:
        model.encoders[name].requires_grad_(False)
    model.train()
    wrapped: Any = model
    if parallel == "ddp":
        wrapped = DistributedDataParallel(model, find_unused_parameters=True)
    if parallel == "fsdp":
        mesh = init_device_mesh("cpu", (distributed.get_world_size(),))
        for block in [module for module in model.modules() if isinstance(module, Block)]:
            fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh)
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(learning, lr=0.05, momentum=0.9)
    losses, terms, gradients = [], [], {}
    for step in range(STEPS):
        optimizer.zero_grad()
        for part in range(micro):
            output = wrapped(**batch(of, STEPS * part + step, chosen), return_loss=True)
            (output.loss / micro).backward()
            losses.append(output.loss.detach())
            terms.append(torch.stack(list(output.loss_terms.values())).detach())
        if not step:
            gradients = {name: _whole(_gradient(x)) for name, x in model.named_parameters() if x.requires_grad}
        optimizer.step()
    state = {name: _whole(x) for name, x in model.state_dict().items()}
    return {"losses": losses, "terms": terms, "gradients": gradients, "state": state}


def _whole(x: Tensor) -> Tensor:
    """A tensor with the shards of all processes."""
    return x.full_tensor() if isinstance(x, DTensor) else x


def _gradient(parameter: torch.nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()


def work(rank: int, port: int, parallel: str, split: str, frozen: tuple[str, ...], micro: int, folder: str) -> None:
    torch.set_num_threads(1)
    parts = SPLITS[split]
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    distributed.init_process_group("gloo", rank=rank, world_size=len(parts))
    torch.save(train(parts[rank], parallel, frozen, micro), Path(folder) / f"{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("parallel", "split", "frozen", "micro"),
    [
        pytest.param("ddp", "even", (), 1, id="two", marks=pytest.mark.slow),
        pytest.param("ddp", "one lacks modalities", (), 2, id="two-accumulating", marks=pytest.mark.slow),
        pytest.param("ddp", "three", ("text", "vision"), 1, id="three-with-frozen-bridges", marks=pytest.mark.slow),
        pytest.param("fsdp", "same modalities", (), 1, id="two-sharded", marks=pytest.mark.slow),
    ],
)
def test_several_processes_train_as_one(
    parallel: str, split: str, frozen: tuple[str, ...], micro: int, tmp_path: Path
) -> None:
    parts = SPLITS[split]
    multiprocessing.spawn(work, args=(free_port(), parallel, split, frozen, micro, str(tmp_path)), nprocs=len(parts))
    results = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(len(parts))]
    expected = train(sorted(sum(parts, [])), None, frozen, micro)
    for result in results:
        torch.testing.assert_close(result["losses"], expected["losses"], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(result["terms"], expected["terms"], rtol=1e-5, atol=1e-5)
        for kind in ("gradients", "state"):
            assert result[kind].keys() == expected[kind].keys()
            for name, value in expected[kind].items():
                torch.testing.assert_close(
                    result[kind][name], value, rtol=1e-5, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
                )
    for name, value in results[0]["state"].items():
        assert all(torch.equal(other["state"][name], value) for other in results[1:]), name


def test_the_batch_of_the_test_trains_everything() -> None:
    """Else equal gradients would say little."""
    result = train(list(range(6)), None, (), 1)
    still = [name for name, value in result["gradients"].items() if not value.any()]
    assert still == []
    fresh = tiny_model(config()).state_dict()
    books = [name for name in fresh if name.startswith("codebooks.") and name.endswith(".codes")]
    assert [name for name in books if torch.equal(result["state"][name], fresh[name])] == []
