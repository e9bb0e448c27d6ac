"""The three terms without effect in the released code have one here: trained alone, each falls."""

import pytest
import torch
from common import small_config, tiny_inputs, tiny_model

from codebind_hf.model.losses import code_uniformity


STEPS = 25
NAMES = ("text", "image", "depth")


def values_while_training(term: str, **overrides: object) -> list[float]:
    """The term before every step of SGD on it alone; codebooks stay, so that only gradients can move it."""
    config = small_config(*NAMES, loss_weights={"align": 0.0, term: 1.0}, code_temperature=0.1, **overrides)
    model = tiny_model(config).train()
    for book in (model.codebooks.shared, *model.codebooks.specific.values()):
        book.frozen = True
    inputs = tiny_inputs(config, batch=6)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    values = []
    for _ in range(STEPS):
        loss = model(**inputs, return_loss=True).loss
        values.append(loss.item())
        if loss.requires_grad:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return values


@pytest.mark.parametrize("term", ["cm", "cctr"])
def test_training_on_the_term_alone_lowers_it(term: str) -> None:
    values = values_while_training(term)
    assert values[-1] < 0.8 * values[0]


@pytest.mark.parametrize("term", ["cm", "cctr"])
def test_the_released_term_alone_changes_nothing(term: str) -> None:
    assert len(set(values_while_training(term, parity_losses=True))) == 1


def spread_after_training(weight: float) -> float:
    """How close the shared codes lie after some steps in which data moves them too; lower is more even."""
    config = small_config(
        *NAMES, loss_weights={"align": 0.0, "cuni": weight}, codebook_spread_rate=0.05, restart_codes=False
    )
    model = tiny_model(config).train()
    for seed in range(STEPS):
        model(**tiny_inputs(config, batch=6, seed=seed), return_loss=True)
    return code_uniformity(model.codebooks.shared.codes).item()


def test_the_uniformity_of_codes_alone_spreads_them() -> None:
    assert spread_after_training(1.0) < spread_after_training(0.2) < spread_after_training(1e-6)
