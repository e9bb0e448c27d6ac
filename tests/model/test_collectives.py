"""Two processes with half a batch each must do what one process does with the whole batch."""

import os
from pathlib import Path

import pytest
import torch
from common import free_port, tiny_config
from torch import Tensor, distributed, multiprocessing

from codebind_hf.model.codebooks import SharedSpecificCodebook
from codebind_hf.model.collectives import gather_with_gradient, num_processes, sum_over_processes
from codebind_hf.model.configuration_codebind import SHARED_CODEBOOKS
from codebind_hf.model.losses import info_nce


DIM, SCALE = 8, 5.0
# How many of six rows the first of two processes has.
CUTS = {"uneven": 4, "none": 6}


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(6, DIM, generator=generator), torch.randn(6, DIM, generator=generator)


def codes_after_updates(segments_of_step: list[Tensor]) -> dict[str, Tensor]:
    """Buffers of fresh codebooks after quantizing, and learning from, the audio of every step, with either layout."""
    found = {}
    for layout in SHARED_CODEBOOKS:
        books = SharedSpecificCodebook(tiny_config(shared_codebook=layout))
        for embedding in segments_of_step:
            chosen = [(part, "audio", books.quantize(part, "audio", embedding)) for part in ("shared", "specific")]
            books.update(chosen if len(embedding) else [])
        found |= {f"{layout}.{name}": value for name, value in books.state_dict().items()}
    return found


def embeddings(steps: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(6, tiny_config().shared_dim, generator=generator) for _ in range(steps)]


def work(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    distributed.init_process_group("gloo", rank=rank, world_size=2)
    for name, cut in CUTS.items():
        torch.save(share_of(rank, cut), Path(folder) / f"{name}-{rank}.pt")
    distributed.destroy_process_group()


def share_of(rank: int, cut: int) -> tuple[Tensor, list[Tensor], dict[str, Tensor]]:
    """What one of two processes finds when the first has `cut` of six rows: loss, gradients and codes."""
    mine = slice(0, cut) if rank == 0 else slice(cut, 6)
    anchor, other = (x[mine].clone().requires_grad_(len(x[mine]) > 0) for x in batch())
    loss = info_nce(gather_with_gradient(anchor), gather_with_gradient(other), SCALE)
    if len(anchor):
        loss.backward()
    gradients = [torch.zeros(0, DIM) if x.grad is None else x.grad / num_processes() for x in (anchor, other)]
    codes = codes_after_updates([x[mine] for x in embeddings(3)])
    return loss.detach(), gradients, codes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes found, by cut."""
    found = tmp_path_factory.mktemp("two")
    multiprocessing.spawn(work, args=(free_port(), str(found)), nprocs=2)
    return found


@pytest.mark.timeout(90)
@pytest.mark.parametrize("cut", CUTS)
def test_two_processes_equal_one(cut: str, folder: Path) -> None:
    results = [torch.load(folder / f"{cut}-{rank}.pt", weights_only=True) for rank in range(2)]
    anchor, other = (x.requires_grad_() for x in batch())
    loss = info_nce(anchor, other, SCALE)
    loss.backward()
    for value, _, _ in results:
        torch.testing.assert_close(value, loss.detach())
    # What data parallelism averages: each process's gradient counts its own rows, times the number of processes.
    torch.testing.assert_close(torch.cat([r[1][0] for r in results]), anchor.grad)
    torch.testing.assert_close(torch.cat([r[1][1] for r in results]), other.grad)
    expected = codes_after_updates(embeddings(3))
    for name, value in expected.items():
        torch.testing.assert_close(results[0][2][name], value, rtol=1e-5, atol=1e-6)
        assert torch.equal(results[0][2][name], results[1][2][name]), name


def test_one_process_passes_everything_through() -> None:
    x = torch.randn(3, 2, requires_grad=True)
    assert gather_with_gradient(x) is x
    assert sum_over_processes(x) is x
    assert num_processes() == 1
