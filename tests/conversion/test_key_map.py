"""Rules rename tensors both ways, bit for bit, and name what they cannot place."""

import pytest
import torch

from codebind_hf.conversion.key_map import LAYOUTS, KeyMap, Rule


KEYS = KeyMap(
    rules=(
        Rule("trunk.{i}.in_proj", ("tower.{i}.q", "tower.{i}.k", "tower.{i}.v"), "thirds"),
        Rule("stem.{part}", ("tower.stem.{part}",)),
        Rule("cls", ("tower.cls",), "without_batch_and_token"),
    ),
    dropped={"mask": "a constant"},
    scales=("scale.{name}",),
)


def source() -> dict[str, torch.Tensor]:
    return {
        "trunk.0.in_proj": torch.randn(6, 2),
        "trunk.11.in_proj": torch.randn(6, 2),
        "stem.weight": torch.randn(4),
        "cls": torch.randn(1, 1, 3),
        "mask": torch.ones(2, 2),
        "scale.audio": torch.tensor(0.1),
    }


def wanted() -> dict[str, torch.Tensor]:
    layers = {f"tower.{i}.{name}": torch.empty(2, 2, device="meta") for i in (0, 11) for name in "qkv"}
    return {**layers, "tower.stem.weight": torch.empty(4), "tower.cls": torch.empty(3)}


def test_values_land_where_the_rules_say() -> None:
    original = source()
    converted, scales = KEYS.convert(dict(original), wanted())
    assert set(converted) == set(wanted())
    torch.testing.assert_close(converted["tower.11.k"], original["trunk.11.in_proj"][2:4], rtol=0, atol=0)
    torch.testing.assert_close(converted["tower.cls"], original["cls"][0, 0], rtol=0, atol=0)
    assert scales == {"scale.audio": pytest.approx(0.1)}


def test_there_and_back_is_the_same_bits() -> None:
    original = source()
    back = KEYS.revert(*KEYS.convert(dict(original), wanted()))
    assert set(original) - set(back) == {"mask"}
    for name, value in back.items():
        assert value.dtype == original[name].dtype
        assert torch.equal(value, original[name]), name


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_every_layout_has_an_exact_inverse(name: str) -> None:
    forward, backward = LAYOUTS[name]
    shapes = {
        "scalar": (),
        "counter": (1,),
        "without_batch": (1, 5, 4),
        "without_batch_and_token": (1, 1, 4),
        "pointwise": (5, 4, 1),
        "pointwise_of_groups": (5, 4, 1, 1),
    }
    value = torch.ones(1) if name == "counter" else torch.randn(shapes.get(name, (12, 6)))
    parts = forward(value)
    back = backward(*parts)
    assert torch.equal(back, value)
    assert (back.shape, back.dtype) == (value.shape, value.dtype)


def test_a_split_part_does_not_hold_the_fused_tensor() -> None:
    fused = torch.randn(6, 2)
    for part in LAYOUTS["thirds"][0](fused):
        assert part.untyped_storage().nbytes() == 2 * 2 * 4


def test_the_source_is_emptied() -> None:
    original = source()
    KEYS.convert(original, wanted())
    assert original == {}


def test_unknown_keys_are_named_before_anything_is_taken() -> None:
    original = source() | {"stem.other.weight": torch.ones(1)}
    with pytest.raises(ValueError, match=r"unknown keys stem\.other\.weight"):
        KEYS.convert(original, wanted())
    assert "cls" in original


def test_missing_keys_are_named_as_the_original_calls_them() -> None:
    original = source()
    del original["trunk.11.in_proj"], original["stem.weight"]
    with pytest.raises(ValueError, match=r"missing keys trunk\.11\.in_proj.*stem\.weight"):
        KEYS.convert(original, wanted())


def test_a_wrong_shape_is_named_with_both_shapes() -> None:
    original = source() | {"trunk.0.in_proj": torch.randn(9, 2)}
    with pytest.raises(ValueError, match=r"trunk\.0\.in_proj has shape \(9, 2\).*expects \(6, 2\).*architecture"):
        KEYS.convert(original, wanted())


def test_a_key_that_this_architecture_lacks_is_named() -> None:
    original = source() | {"trunk.12.in_proj": torch.randn(6, 2)}
    with pytest.raises(ValueError, match=r"trunk\.12\.in_proj would become tower\.12\.q.*lacks"):
        KEYS.convert(original, wanted())


def test_a_tensor_of_ours_without_a_place_is_named() -> None:
    with pytest.raises(ValueError, match=r"extra\.weight has no place"):
        KEYS.revert({"extra.weight": torch.ones(1)}, None)
