"""Files of points: the places and colours that were written come back, whoever wrote them."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset

from codebind_hf.data import rows_from_dataset
from codebind_hf.processing.foreign_files import FILE_LIMITS
from codebind_hf.processing.media import COLORED_POINTS, read_media
from codebind_hf.processing.point_files import unpack_lzf
from codebind_hf.processing.point_processing_codebind import CodeBindPointFeatureExtractor


POINTS = [[0.5, 1.0, -2.0], [1.5, 0.25, 3.0], [-1.0, 0.0, 4.0]]
PLY = "ply\nformat {form} 1.0\n{elements}end_header\n"
VERTEX = "element vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
FACES = "element face 2\nproperty list uchar int vertex_indices\n"
TWO_FACES = struct.pack("<B3iB4i", 3, 0, 1, 2, 4, 0, 1, 2, 0)


def points_of(file: Path, data: bytes | str, modality: str = "point_cloud", **options: Any) -> list[list[float]]:
    file.write_bytes(data.encode() if isinstance(data, str) else data)
    points = read_media(modality, file, **options)
    assert points.dtype == np.float32
    return points.tolist()


# PLY


def test_a_vertex_may_be_broken_over_lines(tmp_path: Path) -> None:
    """As RealSense Viewer writes it: by lines, this is another cloud."""
    head = PLY.format(form="ascii", elements=VERTEX)
    assert points_of(tmp_path / "a.ply", head + "0.5 1\n-2\n1.5 .25\n3\n-1 0\n4\n") == POINTS
    assert points_of(tmp_path / "b.ply", head + "0.5 1 -2 1.5 .25 3 -1 0 4") == POINTS


def test_values_that_the_header_does_not_name_are_refused(tmp_path: Path) -> None:
    """By numbers alone, the fourth one of a line would be the x of the next vertex."""
    head = PLY.format(form="ascii", elements=VERTEX)
    with pytest.raises(OSError, match=r"a\.ply': damaged.*4 values in the first line, 3 in the header"):
        points_of(tmp_path / "a.ply", head + "0.5 1 -2 7\n1.5 .25 3 7\n-1 0 4 7\n")


@pytest.mark.parametrize("newline", ["\r", "\r\n"])
def test_ply_of_old_programs_is_read(tmp_path: Path, newline: str) -> None:
    text = PLY.format(form="ascii", elements=VERTEX) + "0.5 1 -2\n1.5 .25 3\n-1 0 4\n"
    assert points_of(tmp_path / "a.ply", b"\xef\xbb\xbf" + text.replace("\n", newline).encode()) == POINTS


@pytest.mark.parametrize("form", ["ascii", "binary_little_endian"])
def test_lists_before_and_at_the_vertices_are_passed_over(tmp_path: Path, form: str) -> None:
    listed = VERTEX + "property list uchar float weights\n"
    if form == "ascii":
        faces = b"3 0 1 2\n4 0 1 2 0\n"
        plain = b"".join(b"%g %g %g\n" % tuple(point) for point in POINTS)
        rows = b"".join(b"%g %g %g 2 8 9\n" % tuple(point) for point in POINTS[:2]) + b"-1 0 4 0\n"
    else:
        faces = TWO_FACES
        plain = b"".join(struct.pack("<3f", *point) for point in POINTS)
        rows = b"".join(struct.pack("<3fB2f", *point, 2, 8, 9) for point in POINTS[:2])
        rows += struct.pack("<3fB", *POINTS[2], 0)
    before = PLY.format(form=form, elements=FACES + VERTEX).encode()
    assert points_of(tmp_path / "a.ply", before + faces + plain) == POINTS
    at = PLY.format(form=form, elements=listed + FACES).encode()
    assert points_of(tmp_path / "b.ply", at + rows + faces) == POINTS
    both = PLY.format(form=form, elements=FACES + listed).encode()
    assert points_of(tmp_path / "c.ply", both + faces + rows) == POINTS
    with pytest.raises(OSError, match=r"2 of 3 vertices are there: it is cut short"):
        points_of(tmp_path / "d.ply", both + faces + rows[:-2])


@pytest.mark.parametrize("form", ["ascii", "binary_little_endian"])
def test_of_a_ply_that_is_cut_the_rest_may_be_asked_for(tmp_path: Path, form: str) -> None:
    body = b"0.5 1 -2\n1.5 .25 3\n-1 0" if form == "ascii" else struct.pack("<8f", *POINTS[0], *POINTS[1], -1, 0)
    data = PLY.format(form=form, elements=VERTEX).encode() + body
    with pytest.raises(OSError, match="2 of 3 vertices are there: it is cut short.*allow_truncated=True"):
        points_of(tmp_path / "a.ply", data)
    assert points_of(tmp_path / "a.ply", data, allow_truncated=True) == POINTS[:2]


def test_places_far_from_the_origin_keep_their_shape(tmp_path: Path) -> None:
    """Metres of UTM as float32 are whole half metres."""
    head = PLY.format(form="ascii", elements=VERTEX.replace("float", "double"))
    text = head + "500000.01 5400000.02 100\n500000.03 5400000.01 100.5\n500000.02 5400000.00 100\n"
    expected = [[500000.01, 5400000.02, 100], [500000.03, 5400000.01, 100.5], [500000.02, 5400000.00, 100]]
    (tmp_path / "a.ply").write_text(text)
    np.testing.assert_array_equal(read_media("point_cloud", tmp_path / "a.ply"), expected)
    near = [[0.1, 0.2, 10.3], [10.7, 0.4, 10.1], [5.3, 7.1, 10.9]]
    body = "".join("{} {} {}\n".format(*point) for point in near)
    assert points_of(tmp_path / "b.ply", head + body) == np.array(near, np.float32).tolist()


SCAN = np.round(np.random.default_rng(0).normal(size=(300, 3)) * [40, 25, 3], 3)
FAR = SCAN + [448_262.125, 5_411_932.5, 112.25]


def write_far(file: Path, kind: str) -> Any:
    """The scan in coordinates of UTM, as a file or a value of a kind."""
    lines = "".join(f"{x:.3f} {y:.3f} {z:.3f}\n" for x, y, z in FAR)
    elements = VERTEX.replace("float", "double").replace("vertex 3", "vertex 300")
    if kind in ("array", "tensor", "list"):
        return {"array": FAR, "tensor": torch.from_numpy(FAR), "list": FAR.tolist()}[kind]
    if kind == "a.npy":
        np.save(file, FAR)
    elif kind.endswith(".ply"):
        form = {"ascii.ply": "ascii", "little.ply": "binary_little_endian", "big.ply": "binary_big_endian"}[kind]
        order = ">f8" if kind == "big.ply" else "<f8"
        body = lines.encode() if form == "ascii" else FAR.astype(order).tobytes()
        file.write_bytes(PLY.format(form=form, elements=elements).encode() + body)
    elif kind == "a.pcd":
        head = "FIELDS x y z\nSIZE 8 8 8\nTYPE F F F\nCOUNT 1 1 1\nWIDTH 300\nHEIGHT 1\nPOINTS 300\nDATA binary\n"
        file.write_bytes(head.encode() + FAR.tobytes())
    elif kind.endswith(("las", "laz")):
        laspy = pytest.importorskip("laspy")
        header = laspy.LasHeader(point_format=0, version="1.2")
        header.scales, header.offsets = [0.0005] * 3, [448_262.125, 5_411_932.5, 112.25]
        written = laspy.LasData(header)
        written.xyz = FAR
        written.write(file)
    else:
        file.write_text(lines.replace(" ", ",") if kind == "a.csv" else lines)
    return file


@pytest.mark.parametrize(
    "kind",
    [
        "array",
        "tensor",
        "list",
        "a.npy",
        "ascii.ply",
        "little.ply",
        "big.ply",
        "a.pcd",
        "a.xyz",
        "a.csv",
        "a.las",
        "a.laz",
    ],
)
def test_a_scan_in_utm_is_the_scan_at_the_origin(tmp_path: Path, kind: str) -> None:
    part = CodeBindPointFeatureExtractor(num_points=64, max_candidates=300)
    right = part(SCAN, return_tensors="np")["point_values"][0]
    cloud = write_far(tmp_path / kind, kind)
    cloud = [cloud] if kind == "list" else cloud
    np.testing.assert_allclose(part(cloud, return_tensors="np")["point_values"][0], right, atol=1e-6)
    if kind == "list":
        row = rows_from_dataset(Dataset.from_dict({"point_cloud": cloud}))[0]
        assert row["point_cloud"].dtype == np.float64
        np.testing.assert_allclose(part(row["point_cloud"], return_tensors="np")["point_values"][0], right, atol=1e-6)


def test_a_point_that_strayed_does_not_take_the_digits_of_a_scan(tmp_path: Path) -> None:
    """A place at 0 0 0 among metres of UTM, which whoever drops it should find the scan behind."""
    np.savetxt(tmp_path / "a.xyz", np.vstack([[0.0, 0.0, 0.0], FAR]), fmt="%.3f")
    points = read_media("point_cloud", tmp_path / "a.xyz")
    assert points.dtype == np.float64
    np.testing.assert_allclose(points[1:], FAR, atol=1e-9)
    np.savetxt(tmp_path / "b.xyz", SCAN, fmt="%.3f")
    assert read_media("point_cloud", tmp_path / "b.xyz").dtype == np.float32


# PCD


def pcd(form: str, body: bytes, fields: str = "x y z rgb", kinds: str = "F F F U", points: int = 3) -> bytes:
    count = len(fields.split())
    return (
        f"# .PCD v0.7\nVERSION 0.7\nFIELDS {fields}\nSIZE {' '.join('4' * count)}\nTYPE {kinds}\n"
        f"COUNT {' '.join('1' * count)}\nWIDTH {points}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\n"
        f"POINTS {points}\nDATA {form}\n"
    ).encode() + body


SHADES = [0xFF0000, 0x00FF33, 0x6600FF]
COLORS = [[1, 0, 0], [0, 1, 0.2], [0.4, 0, 1]]


def packed(data: bytes) -> bytes:
    """Compressed without any repetition: runs of 32 bytes."""
    runs = [data[at : at + 32] for at in range(0, len(data), 32)]
    body = b"".join(bytes([len(run) - 1]) + run for run in runs)
    return struct.pack("<2I", len(body), len(data)) + body


@pytest.mark.parametrize("form", ["ascii", "binary", "binary_compressed"])
@pytest.mark.parametrize("kind", ["U", "F"])
def test_pcd_of_every_form_gives_places_and_packed_colours(tmp_path: Path, form: str, kind: str) -> None:
    number = struct.Struct(f"<{'I' if kind == 'U' else 'f'}")
    shades = [number.unpack(struct.pack("<I", shade))[0] for shade in SHADES]
    rows = [struct.pack("<3f", *point) + number.pack(shade) for point, shade in zip(POINTS, shades, strict=True)]
    bodies = {
        "ascii": "".join(
            "{} {} {} {!r}\n".format(*point, shade) for point, shade in zip(POINTS, shades, strict=True)
        ).encode(),
        "binary": b"".join(rows),
        "binary_compressed": packed(b"".join(row[at : at + 4] for at in range(0, 16, 4) for row in rows)),
    }
    data = pcd(form, bodies[form], kinds=f"F F F {kind}")
    assert points_of(tmp_path / "a.pcd", data) == POINTS
    expected = np.concatenate([POINTS, COLORS], axis=1)
    np.testing.assert_allclose(points_of(tmp_path / "a.pcd", data, COLORED_POINTS), expected, rtol=1e-6)
    with pytest.raises(OSError, match="cut short"):
        points_of(tmp_path / "b.pcd", data[: -len(bodies[form]) // 3])


def test_pcd_leaves_out_points_without_a_return(tmp_path: Path) -> None:
    assert points_of(tmp_path / "a.pcd", pcd("ascii", b"0.5 1 -2\nnan nan nan\n-1 0 4\n", "x y z", "F F F")) == [
        POINTS[0],
        POINTS[2],
    ]
    with pytest.raises(OSError, match="holds no point"):
        points_of(tmp_path / "b.pcd", pcd("ascii", b"nan nan nan\n", "x y z", "F F F", points=1))


def test_lzf_repeats_what_was_written_even_while_it_is_written() -> None:
    # "ab", then 9 bytes from 2 back, which are partly those just written, then 3 bytes from 11 back.
    assert unpack_lzf(bytes([1]) + b"ab" + bytes([7 << 5, 0, 1, 1 << 5, 10]), 14) == b"abababababaaba"[:14]
    with pytest.raises(ValueError, match="before the beginning"):
        unpack_lzf(bytes([1 << 5, 10]), 3)
    with pytest.raises(ValueError, match="2 bytes instead of 3"):
        unpack_lzf(bytes([1]) + b"ab", 3)


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.pcd", pcd("lzma", b""), "DATA lzma; supported: ascii, binary, binary_compressed"),
        ("a.pcd", pcd("ascii", b"1 2 3\n", "x y q", "F F F"), "fields x, y, q; needed are x, y, z"),
        ("a.pcd", pcd("binary", b"", points=10**9), "declares 1,000,000,000 points; allowed: up to 100,000,000"),
        ("a.pcd", pcd("binary_compressed", packed(bytes(47))), "damaged.*47 bytes for 3 points of 16"),
        (
            "a.ply",
            PLY.format(form="ascii", elements=VERTEX.replace("3", str(10**12))),
            "declares 1,000,000,000,000 poi",
        ),
        ("a.xyz", "1 2\n3 4\n", "lines of 2 numbers; needed are x y z"),
        ("a.csv", "x,y,z\n1,2,three\n4,5,6\n", "damaged.*'three'"),
        ("a.txt", "\n", "no line of numbers"),
        ("a.off", "OFF\nnonsense", "damaged"),
        ("a.las", "LASF nonsense", "damaged"),
    ],
)
def test_what_is_no_cloud_is_refused_with_the_reason(tmp_path: Path, name: str, data: Any, reason: str) -> None:
    with pytest.raises(OSError, match=rf"{name}.*{reason}"):
        points_of(tmp_path / name, data)


def test_a_limit_is_raised_where_the_message_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = pcd("ascii", b"1 2 3\n4 5 6\n7 8 9\n", "x y z", "F F F")
    monkeypatch.setattr(CodeBindPointFeatureExtractor().file_limits, "points", 2)
    with pytest.raises(
        OSError, match=r"declares 3 points; allowed: up to 2.*`file_limits.points` of the sub-processor"
    ):
        points_of(tmp_path / "a.pcd", data)
    FILE_LIMITS.points = 3
    assert len(points_of(tmp_path / "a.pcd", data)) == 3


# Tables


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.xyz", "0.5 1 -2\n1.5 0.25 3\n-1 0 4\n"),
        ("a.txt", "0.5,1,-2,0,0,-1\n1.5,0.25,3,0,1,0\n-1,0,4,1,0,0\n"),
        ("a.csv", "x;y;z\n0.5;1;-2\n1.5;0.25;3\n-1;0;4\n"),
        ("a.csv", "intensity,z,y,x\n9,-2,1,0.5\n9,3,0.25,1.5\n9,4,0,-1\n"),
        ("a.asc", "//X Y Z\n0.5\t1\t-2\n1.5\t0.25\t3\n\n-1\t0\t4\n"),
        ("a.pts", "3\r\n0.5 1 -2\r\n1.5 0.25 3\r\n-1 0 4\r\n"),
        ("a.xyz", "# made by a test\n# x y z\n0.5 1 -2 77\n1.5 0.25 3 77\n-1 0 4 77\n"),
    ],
)
def test_tables_of_numbers_are_read_by_name_or_position(tmp_path: Path, name: str, text: str) -> None:
    assert points_of(tmp_path / name, text, COLORED_POINTS) == POINTS


@pytest.mark.parametrize(
    "text",
    [
        "0.5 1 -2 255 0 0\n1.5 0.25 3 0 255 51\n-1 0 4 102 0 255\n",
        "3\n0.5 1 -2 -99 255 0 0\n1.5 0.25 3 -99 0 255 51\n-1 0 4 -99 102 0 255\n",
        "0.5 1 -2 1 0 0\n1.5 0.25 3 0 1 0.2\n-1 0 4 0.4 0 1\n",
        "R G B x y z\n255 0 0 0.5 1 -2\n0 255 51 1.5 0.25 3\n102 0 255 -1 0 4\n",
    ],
)
def test_tables_of_numbers_may_have_colours(tmp_path: Path, text: str) -> None:
    expected = np.concatenate([POINTS, COLORS], axis=1)
    np.testing.assert_allclose(points_of(tmp_path / "a.txt", text, COLORED_POINTS), expected, rtol=1e-6)
    assert points_of(tmp_path / "a.txt", text) == POINTS


# Laser scans


@pytest.mark.parametrize("suffix", [".las", ".laz"])
def test_laser_scans_keep_centimetres_far_from_the_origin(tmp_path: Path, suffix: str) -> None:
    laspy = pytest.importorskip("laspy")
    header = laspy.LasHeader(point_format=2, version="1.2")
    header.scales, header.offsets = [0.01] * 3, [500_000, 5_400_000, 0]
    written = laspy.LasData(header)
    written.xyz = np.array([[500_000.01, 5_400_000.0, 1.0], [500_000.03, 5_400_000.02, 1.5]])
    written.red, written.green, written.blue = np.array([[65535, 0], [0, 65535], [13107, 0]], np.uint16)
    written.write(tmp_path / f"a{suffix}")
    expected = np.c_[written.xyz, [[1, 0, 0.2], [0, 1, 0]]]
    np.testing.assert_allclose(read_media(COLORED_POINTS, tmp_path / f"a{suffix}"), expected, atol=1e-6)
    (tmp_path / f"b{suffix}").write_bytes((tmp_path / f"a{suffix}").read_bytes()[:-10])
    with pytest.raises(OSError, match="1 of 2 points are there: it is cut short" if suffix == ".las" else "damaged"):
        read_media("point_cloud", tmp_path / f"b{suffix}")
    if suffix == ".las":
        assert len(read_media("point_cloud", tmp_path / "b.las", allow_truncated=True)) == 1


# Meshes

# A rectangle of 3 x 1 at z = 2, in two triangles, and a vertex that no face has.
CORNERS = [[0, 0, 2], [3, 0, 2], [3, 1, 2], [0, 1, 2], [9, 9, 9]]
MESHES = {
    ".off": "OFF\n5 2 0\n" + "".join("{} {} {}\n".format(*c) for c in CORNERS) + "3 0 1 2\n3 0 2 3\n",
    ".obj": "mtllib missing.mtl\n" + "".join("v {} {} {}\n".format(*c) for c in CORNERS) + "f 1 2 3\nf 1 3 4\n",
    ".stl": bytes(80)
    + struct.pack("<I", 2)
    + b"".join(struct.pack("<12fH", 0, 0, 1, *CORNERS[0], *CORNERS[a], *CORNERS[b], 0) for a, b in ((1, 2), (2, 3))),
}


@pytest.mark.parametrize("suffix", MESHES)
def test_a_mesh_is_sampled_on_its_surface_always_alike(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("trimesh")
    points = np.array(points_of(tmp_path / f"a{suffix}", MESHES[suffix]))
    assert points.shape == (10_000, 3)
    assert (points[:, 2] == 2).all()
    assert points.min(axis=0).tolist() == pytest.approx([0, 0, 2], abs=0.01)
    assert points.max(axis=0).tolist() == pytest.approx([3, 1, 2], abs=0.01)
    # Uniform: a third of the rectangle has a third of the points; the deviation of such a count is 47.
    assert abs((points[:, 0] < 1).sum() - 3333) < 200
    assert points_of(tmp_path / f"a{suffix}", MESHES[suffix]) == points.tolist()
    assert len(points_of(tmp_path / f"a{suffix}", MESHES[suffix], mesh_samples=7)) == 7
    vertices = points_of(tmp_path / f"a{suffix}", MESHES[suffix], mesh_samples=0)
    assert [corner in vertices for corner in CORNERS] == [True] * 4 + [suffix == ".off"]


def test_the_processor_takes_as_many_samples_of_a_mesh_as_it_is_told(tmp_path: Path) -> None:
    pytest.importorskip("trimesh")
    (tmp_path / "a.off").write_text(MESHES[".off"])
    found = [
        CodeBindPointFeatureExtractor(num_points=50, mesh_samples=count)(tmp_path / "a.off", return_tensors="np")
        for count in (0, 50)
    ]
    assert [len({tuple(point) for point in each["point_values"][0]}) for each in found] == [5, 50]
    with pytest.raises(ValueError, match="mesh_samples: got -1"):
        CodeBindPointFeatureExtractor(mesh_samples=-1)
