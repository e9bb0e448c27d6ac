"""The measures of `examples/real/` by hand, a gel that is pressed, and a study in miniature on made-up vectors."""

import json
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from binding import ALONE, OURS, Standard, add_sense, bind, bridge, parts_of, vector_encoder
from features import Features, depth_picture
from filelock import FileLock, Timeout
from furniture import _unpack
from manifests import write_manifests
from page import write_page
from readings import object_recall, ridge
from splits import numbers_of
from study import Study
from summary import spread, summary, within_one_error
from things import Thing
from touch import GelSight

from codebind_hf.data import Manifest


def test_a_ridge_finds_a_linear_map_in_either_shape() -> None:
    generator = np.random.default_rng(0)
    for width in (5, 60):
        matrix = generator.standard_normal((width, 3))
        x = generator.standard_normal((200 if width == 5 else 40, width)) * 2 + 1
        y = (x - x.mean(0)) / x.std(0) @ matrix
        answer = ridge(x, y, x, np.arange(len(x)))
        assert np.corrcoef(answer.ravel(), y.ravel())[0, 1] > 0.97
    # Through the Gram matrix of rows or of columns it is the same answer.
    wide, target = generator.standard_normal((30, 31)), generator.standard_normal((30, 2))
    mean, deviation = wide.mean(0), wide.std(0)
    scaled = (wide - mean) / deviation
    found = ridge(wide, target, wide, np.arange(30))
    answers = [
        scaled @ np.linalg.solve(scaled.T @ scaled + s * np.eye(31), scaled.T @ target) for s in (3, 30, 300, 3000)
    ]
    assert min(np.abs(found - each).max() for each in answers) < 1e-8


def test_the_object_is_read_where_it_is_and_not_from_noise() -> None:
    generator = np.random.default_rng(0)
    sentences = generator.standard_normal((100, 12))
    things = np.repeat(np.arange(100), 2)
    rows = SimpleNamespace(things=things, test=things >= 70)
    knows = sentences[things] @ generator.standard_normal((12, 20)) + 0.1 * generator.standard_normal((200, 20))
    assert object_recall(knows, rows, sentences) > 0.95
    assert object_recall(generator.standard_normal((200, 20)), rows, sentences) == pytest.approx(10 / 30, abs=0.2)


def test_an_interval_is_wider_for_splits_that_share_rows() -> None:
    found = spread([0.4, 0.5, 0.6])
    assert found["mean"] == pytest.approx(0.5)
    assert found["se"] == pytest.approx(0.1 * np.sqrt(1 / 3 + 0.25))
    assert found["half"] == pytest.approx(4.30 * found["se"])
    assert np.isnan(spread([0.4])["half"])
    behind = {"ours - infonce": {"mean": -0.02, "se": 0.01}}
    assert not within_one_error(behind)
    assert within_one_error({"ours - infonce": {"mean": -0.009, "se": 0.01}})


def test_seeds_are_named_in_ranges() -> None:
    assert numbers_of("0-2,5") == [0, 1, 2, 5]
    assert numbers_of("") == []


def test_a_depth_picture_is_light_where_it_is_near() -> None:
    depth = np.array([[1.0, 2.0], [3.0, np.nan]])
    assert depth_picture(depth).tolist() == [[255, 147], [38, 0]]


@pytest.fixture
def gel(tmp_path: Path) -> GelSight:
    """A sensor whose red grows with the slope, on a blank of grey."""
    folder = tmp_path / "taxim/calib/gelsight_mini"
    folder.mkdir(parents=True)
    simulator = {"deform_pyramid_sigma_rel": [[0.05, 0.02]], "deform_final_sigma_rel": [0.003]}
    settings = {"simulator": simulator, "sensor": {"h": 80, "w": 120, "pixmm": 0.05, "num_bins": 9}}
    (folder / "params.json").write_text(json.dumps(settings))
    red = np.zeros((9, 9, 6))
    red[..., 5] = np.arange(9)[:, None] * 10
    np.savez(folder / "polycalib.npz", grad_b=red, grad_g=red * 0, grad_r=red * 0)
    np.savez(folder / "dataPack.npz", f0=np.full((80, 120, 3), 100, dtype=np.uint8))
    return GelSight(tmp_path)


def test_a_gel_changes_colour_where_something_touches_it_and_nowhere_else(gel: GelSight) -> None:
    assert gel.shape == (20, 30)
    nothing = gel.feel(np.zeros(gel.shape))
    assert (nothing == 100).all()
    bump = np.zeros(gel.shape)
    bump[8:12, 12:18] = 5.0
    felt = gel.feel(bump).astype(int)
    assert felt[10, 11, 0] > 120
    assert (felt[..., 1:] == 100).all()
    assert felt[0, 0].tolist() == [100, 100, 100]
    with pytest.raises(ValueError, match=r"relief_mm: got shape \(3, 3\); allowed: \(20, 30\)"):
        gel.feel(np.zeros((3, 3)))


def short(settings: Any, steps: int = 40) -> Any:
    sizes = {"hidden_size": 32, "batch": 32, "dim": 16, "noise": 0.1, "rate": 5e-3}
    return type(settings)(**{**vars(settings), **sizes, "epochs": 1, "least_steps": steps})


def test_binding_aligns_a_sense_and_moves_nothing_else() -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(96, 6, generator=generator)
    image, text, sense = (hidden @ torch.randn(6, width, generator=generator) for width in (20, 12, 15))
    model = bridge(image, text, short(OURS), seed=0)
    add_sense(model, "radar", {**vector_encoder(15, short(OURS)), "has_position": False})
    names = [name for name in model.state_dict() if ".radar." not in name]
    before = {name: model.state_dict()[name].clone() for name in names}
    untrained = (parts_of(model, "radar", sense)["shared"] * parts_of(model, "image", image)["shared"]).sum(1).mean()
    bind(model, "radar", sense, {"image": image, "text": text}, short(OURS), seed=0)
    after = model.state_dict()
    assert [name for name in names if not torch.equal(before[name], after[name])] == []
    parts = parts_of(model, "radar", sense)
    assert set(parts) == {"shared", "shared_codes", "specific", "specific_codes"}
    assert (parts["shared"] * parts_of(model, "image", image)["shared"]).sum(1).mean() > untrained + 0.3
    assert set(parts_of(bridge(image, text, short(ALONE), seed=0), "image", image)) == {"shared", "shared_codes"}


def test_values_are_standardised_by_the_training_rows() -> None:
    train = np.array([[0.0, 5.0], [2.0, 5.0]])
    standard = Standard.of(train)
    assert standard(np.array([[4.0, 5.0]])).tolist() == [[3.0, 0.0]]


class MadeUp(Features):
    """Vectors that follow from one hidden vector a thing, in place of packages."""

    def __init__(self) -> None:
        super().__init__(Path("nowhere"))
        generator = np.random.default_rng(0)
        self.gone = {"speech": "no speech here", "eeg": "none", "imu": "none", "touch": "none", "stamps": "none"}
        kinds = ("Kitchen", "Office")
        self.things = {
            "furniture": [
                Thing(
                    "furniture",
                    f"{n}",
                    f"name{n}",
                    f"name{n}.",
                    kinds[n % 2],
                    {"image": "", "mesh": ""},
                    {"size_cm": [float(n + 1), 1.0, 1.0]},
                )
                for n in range(90)
            ]
        }
        hidden = generator.standard_normal((90, 6))
        self.made = {
            sense: hidden @ generator.standard_normal((6, 24)) + 0.1 * generator.standard_normal((90, 24))
            for sense in ("text", "image", "points", "depth", "video")
        }

    def vectors(self, collection: str, sense: str) -> np.ndarray:
        return self.made[sense].astype(np.float32)


@pytest.mark.slow
def test_a_study_in_miniature_writes_its_page_and_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import study as module

    for name, settings in module.ROWS.items():
        monkeypatch.setitem(module.ROWS, name, short(settings, steps=25))
    study = Study(MadeUp(), tmp_path / "results")
    assert study.senses == ["points", "depth", "video"]
    found = summary(study, [0, 1])
    entry = found["retrieval"]["points"]["image"]
    differences = [by[other]["ours - infonce"]["mean"] for by in found["retrieval"].values() for other in by]
    assert len(differences) == 6
    assert found["retrieval over all"]["mean"] == pytest.approx(np.mean(differences))
    assert entry["ours"]["mean"] > 0.8
    assert entry["closed form"]["mean"] > 0.8
    assert (
        found["emergent"]["points to depth"]["infonce"]["mean"]
        > found["emergent"]["points to depth"]["chance"]["mean"]
    )
    assert set(found["readings"]["points"]) >= {"chance", "raw", "projection", "residual", "codebind: specific"}
    file = study.file("codebind", 0, "points")
    stamp = file.stat().st_mtime_ns
    study.compute("codebind", 0, "points")
    assert file.stat().st_mtime_ns == stamp
    write_page(tmp_path / "real.md", found, study.features)
    text = (tmp_path / "real.md").read_text()
    assert "| points | " in text
    assert "Left out in this run: speech, as no speech here." in text
    numbers = json.loads((tmp_path / "real.json").read_text())
    assert numbers["retrieval"]["points"]["image"]["ours"]["mean"] == entry["ours"]["mean"]


def test_shards_of_features_are_computed_once(tmp_path: Path) -> None:
    features = Features(tmp_path)
    things = [Thing("stamps", f"{n}", "x", "x", "x") for n in range(70)]
    asked: list[int] = []

    def compute(shard: Any) -> dict[str, np.ndarray]:
        asked.append(len(shard))
        if len(asked) == 2:
            raise KeyboardInterrupt
        return {"vectors": np.array([[float(thing.key)] for thing in shard])}

    with pytest.raises(KeyboardInterrupt):
        list(features._computed("some", things, compute))
    found = np.concatenate([each["vectors"] for each in features._computed("some", things, compute)])
    assert asked == [64, 6, 6]
    assert found[:, 0].tolist() == list(range(70))


def test_shards_that_another_process_computes_are_left_to_it(tmp_path: Path) -> None:
    features, asked = Features(tmp_path), []
    things = [Thing("stamps", f"{n}", "x", "x", "x") for n in range(130)]
    numbers = {"vectors": np.zeros((1, 1))}
    list(features._computed("some", things, lambda shard: numbers))
    (file, *_) = files = sorted((tmp_path / "features" / "some").glob("*.npz"))
    other = FileLock(file.with_suffix(".lock"))
    for each in files:
        each.unlink()

    def compute(shard: Any) -> dict[str, np.ndarray]:
        asked.append(len(shard))
        if len(asked) == 2:
            # The other process is done, and has written what it computed.
            file.write_bytes(next(file.parent.glob("*.npz")).read_bytes())
            other.release()
        return numbers

    other.acquire()
    with pytest.raises(Timeout):
        list(features._computed("some", things, lambda shard: numbers, waits=False))
    for each in file.parent.glob("*.npz"):
        each.unlink()
    assert len(list(features._computed("some", things, compute))) == 3
    assert len(asked) == 2


def test_what_a_stopped_run_left_of_an_archive_is_unpacked_anew(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "models.sh3f", "w") as archive:
        archive.writestr("chair/chair.obj", "v 0 0 0")
    folder = tmp_path / "unpacked" / "models"
    (folder / "chair").mkdir(parents=True)
    (folder / "chair" / "chair.obj").write_text("v 0")
    with zipfile.ZipFile(tmp_path / "models.sh3f") as archive:
        _unpack(archive, folder)
    assert (folder / "chair" / "chair.obj").read_text() == "v 0 0 0"
    assert (folder / ".whole").is_file()
    assert [path.name for path in (tmp_path / "unpacked").iterdir()] == ["models"]


def test_manifests_name_a_file_a_vector_and_part_the_rows(tmp_path: Path) -> None:
    features = MadeUp()
    files = write_manifests(features, tmp_path, seed=0)
    sides = {file.name: Manifest(file) for file in files}
    assert set(sides) == {"furniture-train.jsonl", "furniture-test.jsonl"}
    assert sum(map(len, sides.values())) == 90
    row = json.loads(files[1].read_text().splitlines()[0])
    number = int(row["id"].removeprefix("furniture-"))
    assert np.array_equal(np.load(tmp_path / row["points"]), features.vectors("furniture", "points")[number])
    assert row["attributes"] == {"points.size": f"about {2 ** round(np.log2(number + 1))} cm"}
    assert json.loads((tmp_path / "widths.json").read_text()) == {"image": 24, "points": 24, "depth": 24, "video": 24}
