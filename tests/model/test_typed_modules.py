"""Quick walks give what the library's give, in the same order; and a mode that is there already is left alone."""

import pytest
import torch
from common import tiny_model
from torch import nn

from codebind_hf.model.modeling_codebind import CodeBindModel
from codebind_hf.model.typed_modules import any_learns, modules_of, parameters_of


def tied() -> nn.Module:
    """Modules and parameters that lie in several places, and places that hold nothing."""
    shared, weight = nn.Linear(2, 2, bias=False), nn.Parameter(torch.zeros(2, 2))
    whole = nn.Sequential(shared, nn.ModuleDict({"b": nn.Linear(2, 2), "a": shared}), nn.BatchNorm1d(2, affine=False))
    whole.register_module("nothing", None)
    whole.append(nn.Linear(2, 2))
    for name in ("again", "once_more"):
        whole.register_parameter(name, weight)
    return whole


@pytest.mark.parametrize("build", [tied, tiny_model])
def test_walks_are_those_of_the_library(build: type) -> None:
    module = build()
    assert list(map(id, modules_of(module))) == list(map(id, nn.Module.modules(module)))
    assert list(map(id, parameters_of(module))) == list(map(id, nn.Module.parameters(module)))


def test_parameters_of_a_model_are_an_iterator_and_may_be_its_own_alone() -> None:
    model = tiny_model()
    parameters = model.parameters()
    assert next(parameters) is next(nn.Module.parameters(model))
    assert list(model.parameters(recurse=False)) == []


def test_any_parameter_that_learns_is_found() -> None:
    module = tied().requires_grad_(False)
    assert not any_learns(module)
    module[1]["b"].bias.requires_grad_(True)
    assert any_learns(module)


def modes(model: CodeBindModel) -> list[bool]:
    return [module.training for module in nn.Module.modules(model)]


def test_training_mode_is_set_again_where_a_part_lost_it_or_began_to_learn() -> None:
    model = tiny_model()
    model.encoders["eeg"].requires_grad_(False)
    expected = modes(model.train())
    assert 0 < sum(expected) < len(expected)
    model.encoders["audio"].tower.layers[0].eval()
    model.encoders["eeg"].tower.train()
    assert modes(model) != expected
    assert modes(model.train()) == expected
    model.encoders["eeg"].shared_head.requires_grad_(True)
    assert all(module.training for module in model.train().encoders["eeg"].modules())


def test_a_mode_that_is_there_already_is_not_told_to_every_module(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model().train()
    told: list[bool] = []
    monkeypatch.setattr(nn.Module, "train", lambda module, mode=True: told.append(mode) or module)
    model.train()
    assert told == []
    model.train(False)
    assert told
