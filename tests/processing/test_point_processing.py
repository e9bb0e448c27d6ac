"""Point clouds: selection against a naive farthest-point loop, and what does not change the result."""

from pathlib import Path

import numpy as np
import pytest

from codebind_hf.processing.point_processing_codebind import (
    CodeBindPointFeatureExtractor,
    farthest_points,
    stride_indices,
)


def cloud(points: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(points, 3)).astype(np.float32)


def values(array: np.ndarray, **parameters: object) -> np.ndarray:
    return CodeBindPointFeatureExtractor(**parameters)(array, return_tensors="np")["point_values"][0]


def test_farthest_points_equal_the_naive_search() -> None:
    points = cloud(60).astype(np.float64)
    chosen = [0]
    while len(chosen) < 20:
        distances = [min(np.linalg.norm(point - points[index]) for index in chosen) for point in points]
        chosen.append(int(np.argmax(distances)))
    assert farthest_points(points, 20).tolist() == chosen


@pytest.mark.parametrize("count", [1, 2, 31, 255, 256, 257, 5000, 40_000])
@pytest.mark.parametrize("selection", ["farthest", "stride"])
def test_any_number_of_points_fills_the_unit_sphere(count: int, selection: str) -> None:
    result = values(cloud(count) * 37 + 5, num_points=256, selection=selection)
    assert result.shape == (256, 3)
    assert result.dtype == np.float32
    assert np.isfinite(result).all()
    radii = np.linalg.norm(result, axis=1)
    assert radii.max() == pytest.approx(1.0 if count > 1 else 0.0, abs=1e-5)
    np.testing.assert_allclose(result[: min(count, 256)].mean(axis=0), 0, atol=1e-4)


def test_fewer_points_are_repeated_in_order() -> None:
    result = values(cloud(5), num_points=12)
    np.testing.assert_array_equal(result[5:10], result[:5])
    np.testing.assert_array_equal(result[10:], result[:2])


def test_scale_and_place_of_a_cloud_do_not_matter() -> None:
    points = cloud(400)
    np.testing.assert_allclose(values(points * 1000 + 3), values(points), atol=1e-4)


def test_raw_coordinates_can_be_kept() -> None:
    points = cloud(10)
    np.testing.assert_array_equal(values(points, num_points=10, center=False, unit_sphere=False), points)


def test_stride_spreads_over_the_whole_cloud() -> None:
    assert stride_indices(10, 5).tolist() == [0, 2, 4, 6, 8]
    assert stride_indices(7, 3).tolist() == [0, 2, 4]
    indices = stride_indices(1_000_000, 256)
    assert len(set(indices.tolist())) == 256


def test_identical_points_stay_at_the_centre() -> None:
    assert not values(np.ones((300, 3), dtype=np.float32)).any()


def coloured(points: int, scale: float = 1.0) -> np.ndarray:
    colours = np.random.default_rng(1).random((points, 3)) * scale
    return np.concatenate([cloud(points), colours.astype(np.float32)], axis=1)


def test_colours_follow_their_points() -> None:
    given = coloured(50)
    result = values(given, num_points=20, num_channels=6)
    assert result.shape == (20, 6)
    np.testing.assert_array_equal(result[:, 3:], given[farthest_points(given[:, :3], 20), 3:])
    np.testing.assert_allclose(result[:, :3], values(given[:, :3], num_points=20), atol=1e-6)
    repeated = values(given[:7], num_points=20, num_channels=6)
    np.testing.assert_array_equal(repeated[7:14], repeated[:7])


def test_full_colours_are_one_whatever_their_scale() -> None:
    eight_bit = values(coloured(30, 255), num_channels=6, color_scale=255.0)
    np.testing.assert_allclose(eight_bit, values(coloured(30), num_channels=6), atol=1e-6)


@pytest.mark.parametrize("prefix", ["", "diffuse_"])
@pytest.mark.parametrize("scale", [1.0, 255.0])
def test_colours_of_a_ply_file_are_full_at_their_largest_value(tmp_path: Path, prefix: str, scale: float) -> None:
    head = "ply\nformat ascii 1.0\nelement vertex 2\n" + "".join(f"property float {axis}\n" for axis in "xyz")
    head += "".join(f"property uchar {prefix}{name}\n" for name in ("red", "green", "blue")) + "end_header\n"
    (tmp_path / "a.ply").write_text(f"{head}0 0 0 255 0 51\n1 0 0 0 255 0\n")
    extractor = CodeBindPointFeatureExtractor(num_points=2, num_channels=6, color_scale=scale)
    found = extractor(tmp_path / "a.ply", return_tensors="np")["point_values"][0]
    np.testing.assert_allclose(found[:, 3:], [[1, 0, 0.2], [0, 1, 0]], atol=1e-6)


def test_a_cloud_without_colours_gets_one_or_is_refused() -> None:
    assert (values(cloud(30), num_channels=6, missing_color=0.25)[:, 3:] == 0.25).all()
    with pytest.raises(ValueError, match="got a cloud without colours; allowed: x, y, z, red, green, blue"):
        values(cloud(30), num_channels=6, missing_color=None)
    with pytest.raises(ValueError, match=r"missing_color: got 102; allowed: a number in \[0, 1\]"):
        values(cloud(30), num_channels=6, missing_color=102)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (coloured(9, 255), r"got colours from \S+ to \S+; allowed: colours in \[0, 1\].*color_scale=255"),
        (coloured(9)[:, :5], r"got shape \(9, 5\); allowed: \(points, 6\).*keep x, y, z and colours only"),
        (coloured(9).T, r"got shape \(6, 9\).*put the points first with `array\.T`"),
    ],
)
def test_colours_that_are_none_are_refused(given: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        values(given, num_channels=6)


def test_points_in_columns_are_told_apart_from_colours() -> None:
    with pytest.raises(ValueError, match=r"got shape \(6, 1000\).*put the points first"):
        values(np.zeros((6, 1000), np.float32))


def test_a_random_choice_is_the_same_every_time_and_shuffles_small_clouds() -> None:
    points = cloud(400)
    raw = {"selection": "random", "center": False, "unit_sphere": False}
    chosen = values(points, num_points=100, **raw)
    np.testing.assert_array_equal(chosen, values(points, num_points=100, **raw))
    rows = [int(np.abs(points - point).sum(1).argmin()) for point in chosen]
    assert len(set(rows)) == 100
    assert rows != sorted(rows)
    small = values(points[:50], num_points=50, **raw)
    assert not np.array_equal(small, points[:50])
    np.testing.assert_array_equal(np.sort(small, axis=0), np.sort(points[:50], axis=0))


def test_y_and_z_can_be_exchanged() -> None:
    swapped = values(cloud(10), num_points=10, swap_yz=True)
    np.testing.assert_allclose(swapped, values(cloud(10), num_points=10)[:, [0, 2, 1]], atol=1e-6)


def test_coloured_files_are_read_with_their_colours(tmp_path: Path) -> None:
    given = coloured(12)
    np.save(tmp_path / "a.npy", given)
    result = CodeBindPointFeatureExtractor(num_points=12, num_channels=6)(tmp_path / "a.npy")["point_values"][0]
    np.testing.assert_array_equal(result[:, 3:], given[:, 3:])
    with pytest.raises(ValueError, match="keep xyz only"):
        CodeBindPointFeatureExtractor()(tmp_path / "a.npy")
