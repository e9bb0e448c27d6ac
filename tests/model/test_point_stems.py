"""Point stems: farthest points, neighbours, balls, repeated clouds, and tokens against naive transcriptions."""

from pathlib import Path
from typing import Any

import pytest
import reference
import torch
from common import small_config, tiny_config, tiny_model
from torch import Tensor, nn

from codebind_hf.model.configuration_modalities import CodeBindPointConfig
from codebind_hf.model.point_stems import (
    BallPointStem,
    NearestPointStem,
    farthest_points,
    gather_points,
    nearest_points,
    originals,
    points_in_ball,
)
from codebind_hf.model.stems import build_stem
from codebind_hf.training import CodeBindTrainer, CodeBindTrainingArguments
from codebind_hf.training.augmentation import augmented


BALL: dict[str, Any] = {
    "input_size": [40],
    "num_groups": 9,
    "group_size": 7,
    "num_channels": 6,
    "point_grouping": "ball",
    "ball_radius": 0.8,
    "point_widths": [5, 8, 11],
    "stem_dim": 10,
    "hidden_size": 10,
    "num_attention_heads": 2,
}


def point_stem() -> NearestPointStem:
    torch.manual_seed(0)
    stem = build_stem(tiny_config().point_config)
    assert isinstance(stem, NearestPointStem)
    return stem.eval()


def ball_stem(**fields: Any) -> BallPointStem:
    torch.manual_seed(0)
    stem = build_stem(CodeBindPointConfig(**{**BALL, **fields}))
    assert isinstance(stem, BallPointStem)
    for norm in stem.norms:
        nn.init.uniform_(norm.running_mean, -0.5, 0.5)
        nn.init.uniform_(norm.running_var, 0.5, 2)
    return stem.eval()


def cloud(batch: int = 2, points: int = 40, channels: int = 3) -> Tensor:
    return torch.randn(batch, points, channels, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("number", [1, 2, 9, 40])
def test_farthest_points_equal_the_naive_loop(number: int) -> None:
    points = cloud()
    expected = [reference.farthest_points(each, number) for each in points]
    assert farthest_points(points, number).tolist() == expected


def test_farthest_points_of_a_repeated_point_stay_in_range() -> None:
    assert farthest_points(torch.zeros(1, 4, 3), 4).shape == (1, 4)


def test_gathered_points_keep_the_shape_of_their_indices() -> None:
    points = cloud()
    ids = torch.tensor([[[0, 5], [7, 7]], [[3, 2], [1, 39]]])
    picked = gather_points(points, ids)
    assert picked.shape == (2, 2, 2, 3)
    assert torch.equal(picked[1, 0, 1], points[1, 2])
    assert torch.equal(picked[0, 1], points[0, 7].expand(2, -1))


def test_a_group_holds_the_nearest_points_relative_to_its_centre() -> None:
    points, stem = cloud(), point_stem()
    centres, local, _ = stem.groups(points)
    assert centres.shape == (2, 9, 3)
    assert local.shape == (2, 9, 7, 3)
    for b in range(2):
        for g, index in enumerate(reference.farthest_points(points[b], 9)):
            assert torch.equal(centres[b, g], points[b, index])
            distances = [
                (reference.squared_distance(p.tolist(), centres[b, g].tolist()), i) for i, p in enumerate(points[b])
            ]
            nearest = points[b, [i for _, i in sorted(distances)[:7]]] - centres[b, g]
            expected = sorted(nearest.tolist())
            torch.testing.assert_close(torch.tensor(sorted(local[b, g].tolist())), torch.tensor(expected))


def test_the_order_of_points_does_not_matter_but_for_the_first() -> None:
    """Farthest point sampling starts at point 0; everything after it is a set."""
    points, stem = cloud(), point_stem()
    order = torch.cat([torch.zeros(1, dtype=torch.long), 1 + torch.randperm(39)])
    torch.testing.assert_close(stem(points), stem(points[:, order]))
    assert (stem(points) - stem(points.flip(1))).abs().max() > 1e-3


def test_the_order_of_points_does_not_change_the_embedding_but_for_the_first() -> None:
    model = tiny_model(small_config("point_cloud"))
    points = cloud()
    order = torch.cat([torch.zeros(1, dtype=torch.long), 1 + torch.randperm(39)])
    first, second = (
        model.get_point_cloud_features(x, quantize=False).pooler_output for x in (points, points[:, order])
    )
    torch.testing.assert_close(first, second)


def test_a_group_is_seen_relative_to_its_centre() -> None:
    """Without the position of the centres, a shifted cloud has the same tokens."""
    points, stem = cloud(), point_stem()
    for layer in stem.position:
        if isinstance(layer, nn.Linear):
            layer.weight.data.zero_()
            layer.bias.data.zero_()
    torch.testing.assert_close(stem(points), stem(points + 5), atol=1e-4, rtol=1e-3)


def test_a_whole_cloud_may_be_one_group() -> None:
    config = CodeBindPointConfig(
        input_size=[6], num_groups=6, group_size=6, point_widths=[4, 4, 4, 4], num_attention_heads=1
    )
    assert build_stem(config)(cloud(points=6)).shape == (2, 6, 768)


# Farthest points from another start


def test_a_random_start_is_another_point_of_each_cloud_and_only_when_asked_for() -> None:
    points = cloud(batch=50)
    torch.manual_seed(1)
    chosen = farthest_points(points, 4, random_start=True)
    assert len(set(chosen[:, 0].tolist())) > 10
    assert set(farthest_points(points, 4)[:, 0].tolist()) == {0}
    for row, ids in zip(points, chosen.tolist(), strict=True):
        order = [ids[0], *(i for i in range(40) if i != ids[0])]
        assert ids == [order[i] for i in reference.farthest_points(row[order], 4)]


@pytest.mark.parametrize("stem", [point_stem, ball_stem])
def test_a_configuration_chooses_the_start(stem: Any) -> None:
    made = stem()
    points = cloud(channels=6)[..., : 3 if stem is point_stem else 6]
    assert torch.equal(made(points), made(points))
    made.random_start = True
    torch.manual_seed(2)
    assert not torch.equal(made(points), made(points))
    with pytest.raises(ValueError, match="fps_start: got 'somewhere'; allowed: 'first', 'random'"):
        CodeBindPointConfig(fps_start="somewhere")
    assert build_stem(CodeBindPointConfig(**{**BALL, "fps_start": "random"})).random_start


# Neighbours


def test_neighbours_of_many_centres_equal_the_naive_search() -> None:
    """More centres than are compared at once."""
    points = cloud(points=150)
    ids = nearest_points(points, points, 5)
    for b in range(2):
        for g in range(150):
            assert sorted(ids[b, g].tolist()) == sorted(reference.nearest_points(points[b], points[b, g], 5))


def test_a_ball_holds_its_first_points_and_repeats_the_first_when_there_are_too_few() -> None:
    points = cloud(points=150)
    ids = points_in_ball(points, points, 6, radius=0.7)
    naive = [[reference.points_in_ball(row, row[g], 6, 0.7) for g in range(150)] for row in points]
    assert ids.tolist() == naive
    counts = (torch.cdist(points, points) <= 0.7).sum(-1)
    assert counts.min() < 6 < counts.max()


def test_a_ball_takes_the_first_points_and_not_the_nearest() -> None:
    points = torch.tensor([[[0.0, 0, 0], [0.15, 0, 0], [0.01, 0, 0], [0.02, 0, 0], [5, 0, 0]]])
    assert points_in_ball(points[:, 3:4], points, 2, radius=0.2).tolist() == [[[0, 1]]]
    # 0.2 away is within: the comparison is not strict.
    assert points_in_ball(torch.zeros(1, 1, 3), torch.tensor([[[0.5, 0, 0]]]), 1, radius=0.5).tolist() == [[[0]]]


# Clouds that were repeated to fill their size


@pytest.mark.parametrize("size", [1, 13, 25, 40])
def test_repetitions_of_a_cloud_are_found(size: int) -> None:
    repeated = cloud(points=size)[:, torch.arange(40) % size]
    assert originals(repeated).tolist() == [[i % size for i in range(40)]] * 2
    assert originals(repeated.half()).tolist() == [[i % size for i in range(40)]] * 2


@pytest.mark.parametrize("places", [[(30, 0)], [(1, 0)], [(5, 0), (7, 0), (20, 0)], [(12, 0)], [(3, 2), (9, 2)]])
def test_points_that_coincide_are_no_repetitions_and_hide_none(places: list[tuple[int, int]]) -> None:
    points = cloud()
    for one, other in places:
        points[:, one] = points[:, other]
    assert originals(points).tolist() == [list(range(40))] * 2
    few = points[:, :13]
    assert originals(few[:, torch.arange(40) % 13]).tolist() == [[i % 13 for i in range(40)]] * 2


def test_clouds_of_a_batch_are_repeated_each_in_its_own_way() -> None:
    points = cloud(batch=3)
    sizes = [7, 40, 25]
    mixed = torch.stack([row[torch.arange(40) % size] for row, size in zip(points, sizes, strict=True)])
    assert originals(mixed).tolist() == [[i % size for i in range(40)] for size in sizes]
    assert originals(torch.zeros(1, 6, 3)).tolist() == [[0] * 6]


@pytest.mark.parametrize("size", [9, 13, 25])
@pytest.mark.parametrize("make", [point_stem, ball_stem])
def test_a_repeated_cloud_has_the_tokens_of_the_cloud_itself(make: Any, size: int) -> None:
    """Otherwise the groups of a small cloud would be few points, many times over."""
    stem = make()
    points = cloud(points=size, channels=6)[..., : 3 if make is point_stem else 6]
    repeated = points[:, torch.arange(40) % size]
    torch.testing.assert_close(stem(repeated), stem(points))


def test_a_cloud_smaller_than_a_group_is_repeated_nearest_first() -> None:
    points = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [3, 0, 0]]])[:, torch.arange(8) % 3]
    ids = nearest_points(points[:, :1], points, 5)[0, 0]
    assert sorted((ids % 3).tolist()) == [0, 0, 0, 1, 2]


def test_noise_leaves_repetitions_what_they_are_and_a_second_view_draws_points_again(tmp_path: Path) -> None:
    model = tiny_model(small_config("text", "point_cloud")).train()
    model.config.loss_weights = {"views": 1.0}
    fields = {"input_noise": 0.3, "view_noise": 0.5, "use_cpu": True, "report_to": "none"}
    trainer = CodeBindTrainer(model=model, args=CodeBindTrainingArguments(str(tmp_path), **fields))
    points = cloud(points=13)[:, torch.arange(40) % 13]
    noisy = augmented(trainer.model, {"point_values": points}, trainer.args)["point_values"]
    assert (noisy - points).abs().mean() > 0.1
    assert originals(noisy).tolist() == originals(points).tolist()
    distinct = cloud(points=40)
    views = augmented(trainer.model, {"point_values": distinct}, trainer.args)["views"]["point_values"]
    assert views.shape == distinct.shape
    for points_of_one, drawn in zip(distinct.tolist(), views.tolist(), strict=True):
        # About 1 / e of the points are in none of as many draws, and none is new.
        assert {tuple(point) for point in drawn} < {tuple(point) for point in points_of_one}


# The stem of balls


def test_tokens_of_balls_equal_the_naive_transcription() -> None:
    stem, points = ball_stem(), cloud(channels=6)
    points[..., 3:] = points[..., 3:].sigmoid()
    expected = torch.stack([reference.set_abstraction(stem.state_dict(), row, 9, 7, 0.8) for row in points])
    assert expected.shape == (2, 9, 10)
    torch.testing.assert_close(stem(points), expected, rtol=1e-4, atol=1e-5)


def test_balls_see_colours_and_farthest_points_do_not() -> None:
    stem, points = ball_stem(), cloud(channels=6)
    coloured = points.clone()
    coloured[..., 3:] += 1
    assert (stem(points) - stem(coloured)).abs().max() > 1e-2
    for one, other in zip(stem.groups(points), stem.groups(coloured), strict=True):
        assert torch.equal(one, other)


def test_every_layer_of_a_ball_stem_learns() -> None:
    stem = ball_stem().train()
    (stem(cloud(channels=6)) * torch.randn(2, 9, 10)).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in stem.norms.parameters())
    assert all(layer.weight.grad.abs().max() > 0 for layer in [*stem.layers, stem.lift])


def test_the_keys_of_a_ball_stem_are_those_of_checkpoints() -> None:
    """Published weights are found by them, as by those in `test_state_dict_keys`."""
    shapes = {name: tuple(value.shape) for name, value in ball_stem().state_dict().items()}
    norms = {f"norms.{i}.{part}" for i in range(3) for part in ("weight", "bias", "running_mean", "running_var")}
    norms |= {f"norms.{i}.num_batches_tracked" for i in range(3)}
    matrices = {"layers.0.weight": (5, 9), "layers.1.weight": (8, 5), "layers.2.weight": (11, 8)}
    matrices |= {"lift.weight": (10, 14), "lift.bias": (10,), "norm.weight": (10,), "norm.bias": (10,)}
    assert set(shapes) == norms | set(matrices) | {f"layers.{i}.bias" for i in range(3)}
    assert {name: shapes[name] for name in matrices} == matrices


@pytest.mark.slow
def test_the_stem_of_balls_compiles_and_exports_with_any_batch() -> None:
    stem = ball_stem()
    compiled = torch.compile(stem, fullgraph=True, backend="aot_eager")
    program = torch.export.export(stem, (cloud(3, channels=6),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    for batch in (3, 5):
        points = cloud(batch, channels=6)
        with torch.no_grad():
            assert torch.equal(program.module()(points), stem(points))
            if batch == 3:
                assert torch.equal(compiled(points), stem(points))
    torch.compiler.reset()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_channels": 6}, "num_channels: got 6; .*further channels only with point_grouping='ball'"),
        ({"num_channels": 2}, "num_channels: got 2"),
        ({"point_widths": [4, 4, 4]}, r"point_widths: got \[4, 4, 4\]; it needs 4 positive numbers"),
        ({"point_grouping": "ball", "point_widths": []}, r"point_widths: got \[\]; it needs 1 or more positive"),
        ({"point_grouping": "box"}, "point_grouping: got 'box'; allowed: 'nearest', 'ball'"),
        ({"ball_radius": 0.0}, "ball_radius: got 0.0; it must be greater than 0"),
    ],
)
def test_shapes_that_no_stem_has_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CodeBindPointConfig(**fields)
