"""Names, meshes, trials and splits of `examples/real/`, against values by hand."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from furniture import read_furniture
from meshes import Mesh, cloud, draw, look, read_mesh, relief, shape_numbers, upright
from PIL import Image
from signals import read_imu, read_ts
from splits import held_out
from stamps import read_stamps
from things import Thing, groups_of, plain_name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Two Red Chairs (side view)", "chair"),
        ("A chair.", "chair"),
        ("The letter a.", "a letter"),
        ("The letter b.", "b letter"),
        ("Cherries", "cherry"),
        ("A glass.", "glass"),
        ("Small table 2", "table"),
        ("Red", "red"),
    ],
)
def test_plain_names_drop_what_tells_namesakes_apart(name: str, expected: str) -> None:
    assert plain_name(name) == expected


def test_groups_join_equal_names_and_by_noun_also_those_that_end_alike() -> None:
    names = ["A kitchen chair.", "Deck chair", "Two kitchen chairs", "A bowl of soup", "Bowl", "Chair"]
    assert groups_of(names) == [0, 1, 0, 2, 3, 4]
    assert groups_of(names, "noun") == [0, 0, 0, 1, 1, 0]
    assert groups_of(["A chair.", "A chair. ", "Chair"], "exact") == [0, 0, 1]
    with pytest.raises(ValueError, match="by: got 'kind'; allowed: name, noun, exact"):
        groups_of(names, "kind")


def named(collection: str, names: list[str]) -> list[Thing]:
    return [Thing(collection, f"{number}", name, name, "kind") for number, name in enumerate(names)]


def test_no_name_is_on_both_sides_of_a_split_of_any_collection() -> None:
    names = [f"thing{number % 40}" for number in range(100)]
    things = {"stamps": named("stamps", names), "furniture": named("furniture", names[::-1])}
    splits = [held_out(things, seed) for seed in range(3)]
    for split in splits:
        sides = [{thing.name: [] for thing in things["stamps"]} for _ in range(2)]
        for collection, mask in split.items():
            assert 0.18 <= mask.mean() <= 0.25
            for thing, is_test in zip(things[collection], mask, strict=True):
                sides[int(is_test)][thing.name].append(thing)
        assert not any(sides[0][name] and sides[1][name] for name in sides[0])
    assert not np.array_equal(splits[0]["stamps"], splits[1]["stamps"])
    again = held_out(things, 1)
    assert all(np.array_equal(splits[1][name], again[name]) for name in again)


def test_people_and_parts_are_held_out_as_they_are() -> None:
    imu = [Thing("imu", f"{n}", "row", "row", "row", {}, {"subject": n % 5}) for n in range(20)]
    eeg = [Thing("eeg", f"{n}", "b", "b", "b", {}, {"part": "test" if n > 3 else "train"}) for n in range(6)]
    split = held_out({"imu": imu, "eeg": eeg}, 0)
    assert len({thing.attributes["subject"] for thing, is_test in zip(imu, split["imu"], strict=True) if is_test}) == 2
    assert split["imu"].sum() == 8
    assert split["eeg"].tolist() == [False] * 4 + [True] * 2


OBJ = """mtllib box.mtl
v 0 0 0
v 2 0 0
v 2 1 0
v 0 1 0
vt 0 0
vt 1 0
vt 1 1
vt 0 1
usemtl painted
f 1/1 2/2 3/3 4/4
usemtl plain
f -4 -3 -2
"""


def box(folder: Path) -> Path:
    pixels = np.zeros((2, 2, 3), dtype=np.uint8)
    pixels[:, 1] = 255
    Image.fromarray(pixels).save(folder / "two.png")
    (folder / "box.mtl").write_text("newmtl painted\nKd 1 1 1\nmap_Kd two.png\nnewmtl plain\nKd 0.2 0.4 0.6\n")
    (folder / "box.obj").write_text(OBJ)
    return folder / "box.obj"


def test_a_mesh_has_fans_of_triangles_and_the_colours_of_its_materials(tmp_path: Path) -> None:
    mesh = read_mesh(box(tmp_path))
    assert mesh.faces_FX.tolist() == [[0, 1, 2], [0, 2, 3], [0, 1, 2]]
    assert mesh.texture_faces_FX.tolist() == [[0, 1, 2], [0, 2, 3], [-1, -1, -1]]
    surface = draw(mesh, 4000)
    assert np.abs(surface.normals) == pytest.approx(np.tile([0, 0, 1], (4000, 1)))
    # Two thirds of the area is painted: black on the left, white on the right.
    plain = np.isclose(surface.colors, [0.2, 0.4, 0.6]).all(1)
    assert plain.mean() == pytest.approx(1 / 3, abs=0.03)
    painted = surface.colors[~plain], surface.places[~plain]
    assert painted[0][painted[1][:, 0] > 1.99].min() >= 0
    assert painted[0][painted[1][:, 0] < 1].max() == 0
    assert np.array_equal(draw(mesh, 50).places, draw(mesh, 50).places)


def test_a_mesh_without_triangles_or_area_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "empty.obj"
    file.write_text("v 0 0 0\nv 1 1 1\n")
    with pytest.raises(OSError, match="holds no triangle"):
        read_mesh(file)
    flat = Mesh(np.zeros((3, 3)), np.zeros((1, 2)), *(np.array([[0, 1, 2]]),) * 2, np.array([0]), [(np.ones(3), None)])
    with pytest.raises(OSError, match="no area"):
        draw(flat, 10)


def test_a_mesh_gets_its_true_size_and_looks_its_size_only_in_depth(tmp_path: Path) -> None:
    mesh = read_mesh(box(tmp_path))
    small, large = (draw(upright(mesh, [20.0 * n, 10.0 * n, 0.0], []), 20_000) for n in (1, 3))
    assert np.ptp(small.places, axis=0) == pytest.approx([0.2, 0.1, 0], abs=1e-3)
    assert small.places.min(0) == pytest.approx([-0.1, -0.05, 0], abs=1e-3)
    (picture, depth), (other, deeper) = (look(each, 30.0) for each in (small, large))
    assert np.array_equal(picture, other)
    assert deeper == pytest.approx(3 * depth, nan_ok=True)
    assert (picture[0, 0] == 255).all()
    assert np.isnan(depth[0, 0])
    turned = upright(mesh, [20.0, 10.0, 0.0], [0, 0, 1, 0, 1, 0, -1, 0, 0])
    assert np.ptp(turned.vertices_VX, axis=0) == pytest.approx([0, 0.1, 0])


def test_nearer_points_hide_farther_ones() -> None:
    triangles = np.array([[-1, -1, 0], [1, -1, 0], [0, 1, 0]], dtype=float)
    vertices = np.concatenate([triangles, triangles + [0, 0, 0.5]])
    colors = [(np.array([1.0, 0, 0]), None), (np.array([0, 1.0, 0]), None)]
    faces = np.array([[0, 1, 2], [3, 4, 5]])
    surface = draw(Mesh(vertices, np.zeros((1, 2)), faces, faces * 0 - 1, np.array([0, 1]), colors), 60_000)
    front, back = (look(surface, degrees, tilt=0.0)[0][48, 48] for degrees in (0.0, 180.0))
    assert front[1] > 100 > front[0]
    assert back[0] > 100 > back[1]


def test_a_relief_is_as_long_as_asked_and_rises_towards_the_front(tmp_path: Path) -> None:
    surface = draw(upright(read_mesh(box(tmp_path)), [200.0, 100.0, 0.0], []), 20_000)
    surface.places[:, 2] = surface.places[:, 0]
    heights = relief(surface, (40, 60), 0.5, 20.0)
    inside = heights > heights.min() + 1e-6
    assert inside.any(0).sum() == pytest.approx(41, abs=1)
    assert inside.any(1).sum() == pytest.approx(21, abs=1)
    assert heights[20, 45] > heights[20, 15] + 5


def test_numbers_of_a_shape_follow_size_and_colour_apart(tmp_path: Path) -> None:
    small, large = (
        cloud(draw(upright(read_mesh(box(tmp_path)), [20.0 * n, 10.0 * n, 0.0], []), 500), 500) for n in (1, 4)
    )
    one, other = shape_numbers(small), shape_numbers(large)
    assert one.shape == (1291,)
    assert one[:-3] == pytest.approx(other[:-3], abs=1e-5)
    assert other[-3] - one[-3] == pytest.approx(np.log(4), abs=1e-3)
    grey = small.copy()
    grey[:, 3:] = 0.5
    assert np.array_equal(shape_numbers(grey)[:1000], one[:1000])
    assert not np.array_equal(shape_numbers(grey)[1000:1192], one[1000:1192])


def test_trials_of_a_text_file(tmp_path: Path) -> None:
    file = tmp_path / "x.ts"
    file.write_text("# words\n@problemName x\n@data\n1,2,3:4,5,6:left\n\n7,8,9:0,0,1:Right\n")
    (first, left), (second, right) = read_ts(file)
    assert (left, right) == ("left", "Right")
    assert first.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert second.shape == (2, 3)
    file.write_text("@data\n")
    with pytest.raises(OSError, match="holds no trial"):
        read_ts(file)


def test_a_pickled_array_is_read_and_nothing_else_runs(tmp_path: Path) -> None:
    folder = tmp_path / "seglearn" / "data"
    folder.mkdir(parents=True)
    series = np.empty(2, dtype=object)
    series[:] = [np.arange(2400.0).reshape(400, 6), np.ones((250, 6))]
    found = {"X": series, "y": np.array([0, 1]), "subject": np.array([3, 4]), "side": np.array([0, 1])}
    np.save(folder / "watch_dataset.npy", {**found, "y_labels": np.array(["ROW", "PEN"])}, allow_pickle=True)
    things = read_imu(tmp_path)
    assert [thing.attributes["subject"] for thing in things] == [3, 3, 4]
    assert things[1].files["imu"][:, 0].tolist() == [1200, 1201, 1202, 1203, 1204, 1205]
    assert things[0].sentence == "an exercise: rowing with an upright pull"

    class Runs:
        def __reduce__(self) -> tuple:
            return (print, ("ran",))

    with (folder / "watch_dataset.npy").open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, {"descr": "|O", "fortran_order": False, "shape": ()})
        pickle.dump(Runs(), stream)
    with pytest.raises(OSError, match=r"builtins.print is not part of an array"):
        read_imu(tmp_path)


def test_stamps_have_sentences_by_language_and_sounds_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "usr/share/tuxpaint/stamps/animals"
    folder.mkdir(parents=True)
    for name in ("cat", "dog"):
        (folder / f"{name}.png").touch()
    (folder / "cat.txt").write_text("A cat.\nes.utf8=Un gato.\nfr.utf8=Un chat.\n")
    (folder / "cat_desc_es.ogg").touch()
    (thing,) = read_stamps(tmp_path)
    assert (thing.key, thing.sentence, thing.kind) == ("animals/cat", "A cat.", "animals")
    assert set(thing.files) == {"image", "speech_es"}
    assert thing.attributes["translations"] == {"es": "Un gato.", "fr": "Un chat."}
    with pytest.raises(OSError, match="holds no stamp"):
        read_stamps(tmp_path / "nothing")


def test_furniture_without_catalogues_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="holds no catalogue"):
        read_furniture(tmp_path, tmp_path / "unpacked")
