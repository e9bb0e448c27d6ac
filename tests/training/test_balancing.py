"""The adaptive loss weights: against the released code's trajectory, by hand, and through a save."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from codebind_hf.model.configuration_codebind import LOSS_TERMS
from codebind_hf.training import LossBalancer


GOLDEN = json.loads((Path(__file__).parents[1] / "fixtures" / "balancer_trajectory.json").read_text())


def golden_balancer() -> LossBalancer:
    options = GOLDEN["options"]
    return LossBalancer(
        target_ratios=options["scale_factors"],
        base=options["base_loss_name"],
        fixed=tuple(options["fixed_weight_keys"]),
        momentum=options["momentum"],
        min_interval=options["min_interval"],
        max_interval=options["max_interval"],
        max_steps=options["max_steps"],
        max_weights={"loss_vq": options["max_weight_vq"]},
    )


def doubles(raw: dict[str, float]) -> dict[str, Tensor]:
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in raw.items()}


def known(raw: dict[str, float]) -> dict[str, float]:
    """The released code ignores a term that nobody listed; ours refuses it, so it is taken out here."""
    return {name: value for name, value in raw.items() if name in GOLDEN["options"]["loss_names"]}


def follow(balancer: LossBalancer, steps: list[dict[str, Any]]) -> list[float]:
    return [float(balancer.weighted(doubles(known(step["raw"])), step["training"])) for step in steps]


def test_the_weights_follow_the_released_code_over_200_steps() -> None:
    balancer = golden_balancer()
    updates = 0
    for step in GOLDEN["steps"]:
        total = float(balancer.weighted(doubles(known(step["raw"])), step["training"]))
        assert total == pytest.approx(step["total"], rel=1e-12)
        if "after_update" in step:
            expected = step["after_update"]
            assert balancer.weights == pytest.approx(expected["weights"], rel=1e-12)
            assert balancer.magnitudes == pytest.approx(expected["magnitudes"], rel=1e-12)
            assert balancer.interval == expected["interval"]
            assert balancer.num_batches == balancer.last_update == expected["num_batches"]
            updates += 1
    assert updates == 6


@pytest.mark.parametrize("stop", [1, 20, 26, 100])
def test_a_balancer_loaded_from_json_continues_bit_for_bit(stop: int) -> None:
    straight, first, second = golden_balancer(), golden_balancer(), golden_balancer()
    expected = follow(straight, GOLDEN["steps"])
    before = follow(first, GOLDEN["steps"][:stop])
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert before + follow(second, GOLDEN["steps"][stop:]) == expected
    assert second.state_dict() == straight.state_dict()


def test_a_saved_state_does_not_change_when_training_goes_on() -> None:
    balancer = golden_balancer()
    follow(balancer, GOLDEN["steps"][:1])
    state = balancer.state_dict()
    kept = json.dumps(state)
    follow(balancer, GOLDEN["steps"][1:40])
    assert json.dumps(state) == kept


def test_one_update_by_hand() -> None:
    balancer = LossBalancer({"orth": 0.1}, momentum=0.5, min_interval=1, max_interval=1)
    balancer.weighted({"align": torch.tensor(4.0), "orth": torch.tensor(0.5)})
    # The first batch is taken as it is: 4 * 0.1 / 0.5.
    assert balancer.weights["orth"] == pytest.approx(0.8, rel=1e-6)
    total = balancer.weighted({"align": torch.tensor(2.0), "orth": torch.tensor(-1.5)})
    # Means of magnitudes: align (4 + 2) / 2 = 3, orth (0.5 + 1.5) / 2 = 1; weight 3 * 0.1 / 1.
    assert balancer.weights["orth"] == pytest.approx(0.3, rel=1e-6)
    # Base and signed term: 2 + 0.3 * (-1.5).
    assert float(total) == pytest.approx(1.55, rel=1e-6)
    assert balancer.weights["align"] == balancer.weights["recon"] == 1.0


def test_a_weight_is_capped() -> None:
    balancer = LossBalancer({"commit": 0.01, "orth": 1.0}, max_weights={"commit": 5.0})
    balancer.weighted({"align": torch.tensor(10.0), "commit": torch.tensor(1e-6), "orth": torch.tensor(1e-6)})
    assert balancer.weights["commit"] == 5.0
    assert balancer.weights["orth"] > 1e6


def test_a_term_that_a_batch_lacks_keeps_its_weight() -> None:
    balancer = LossBalancer({"orth": 0.1, "uni": 1.0}, min_interval=1, max_interval=1)
    balancer.weighted({"align": torch.tensor(4.0), "orth": torch.tensor(2.0), "uni": torch.tensor(-2.0)})
    before = balancer.weights["uni"]
    total = balancer.weighted({"align": torch.tensor(1.0), "orth": torch.tensor(2.0)})
    assert balancer.weights["uni"] == before
    assert float(total) == pytest.approx(1.0 + 2.0 * balancer.weights["orth"])


def test_validation_counts_nothing() -> None:
    balancer = golden_balancer()
    follow(balancer, GOLDEN["steps"][:5])
    before = balancer.state_dict()
    for _ in range(30):
        balancer.weighted(doubles(GOLDEN["steps"][0]["raw"]), training=False)
    assert balancer.state_dict() == before


def test_weights_change_at_update_steps_only_and_the_interval_grows() -> None:
    balancer = LossBalancer({"orth": 0.1}, min_interval=3, max_interval=9, max_steps=20)
    changes = []
    for step in range(1, 60):
        before = dict(balancer.weights)
        balancer.weighted({"align": torch.tensor(1.0), "orth": torch.tensor(float(step))})
        if balancer.weights != before:
            changes.append(step)
    gaps = [later - earlier for earlier, later in zip(changes, changes[1:], strict=False)]
    assert changes[0] == 1
    assert gaps[0] == 3
    assert gaps == sorted(gaps)
    assert gaps[-1] == 9


def test_weights_carry_no_gradient_of_their_own() -> None:
    balancer = LossBalancer({"orth": 0.1})
    align, orth = torch.tensor(4.0, requires_grad=True), torch.tensor(0.5, requires_grad=True)
    balancer.weighted({"align": align, "orth": orth}).backward()
    assert float(align.grad) == 1.0
    assert float(orth.grad) == pytest.approx(balancer.weights["orth"])


def test_an_unknown_term_is_named() -> None:
    with pytest.raises(ValueError, match="no target ratio for 'radar'.*align, recon, commit.*target_ratios"):
        LossBalancer().weighted({"align": torch.tensor(1.0), "radar": torch.tensor(1.0)})


def test_an_unknown_term_leaves_the_state_alone() -> None:
    balancer = LossBalancer()
    before = balancer.state_dict()
    with pytest.raises(ValueError, match="radar"):
        balancer.weighted({"align": torch.tensor(1.0), "radar": torch.tensor(1.0)})
    assert balancer.state_dict() == before


@pytest.mark.parametrize(
    ("options", "named"),
    [
        pytest.param({"momentum": 1.0}, r"momentum: got 1.0", id="momentum-one"),
        pytest.param({"momentum": -0.1}, r"momentum: got -0.1", id="momentum-negative"),
        pytest.param({"min_interval": 0}, r"min_interval.*got 0", id="no-interval"),
        pytest.param({"min_interval": 20, "max_interval": 10}, r"max_interval.*got 20, 10", id="interval-shrinks"),
        pytest.param({"max_steps": 0}, r"max_steps: got 10, 100, 0", id="no-steps"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        LossBalancer(**options)


def test_a_state_of_other_terms_is_refused() -> None:
    with pytest.raises(ValueError, match=r"state: it weighs.*orth.*this balancer.*uni"):
        LossBalancer({"uni": 1.0}).load_state_dict(LossBalancer({"orth": 1.0}).state_dict())


def test_every_term_of_the_objective_has_a_weight() -> None:
    assert set(LossBalancer().weights) == set(LOSS_TERMS)
