"""Point clouds: selection against a naive farthest-point loop, and what does not change the result."""

import numpy as np
import pytest

from codebind_hf.model.point_processing_codebind import (
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
