"""What the rows hold: units, crops, splits, captions and names, each against its own definition."""

import shutil
from collections.abc import Callable
from pathlib import Path

import miniatures
import numpy as np
import pytest
import torch
from PIL import Image

from codebind_hf import benchmarks
from codebind_hf.benchmarks.depth import NYU_CLASSES, NYU_KEPT, sun_metres
from codebind_hf.benchmarks.pictures import imagenet_names
from codebind_hf.benchmarks.rows import Rows
from codebind_hf.benchmarks.splitting import held_out
from codebind_hf.benchmarks.touch import MATERIAL_NAMES


CopyOf = Callable[[str], Path]


def test_rows_are_made_when_they_are_asked_for(copy_of: CopyOf, tmp_path: Path) -> None:
    shutil.copytree(copy_of("sun-d"), tmp_path / "copy")
    rows = benchmarks.get("sun-d").rows(tmp_path / "copy")
    (tmp_path / "copy" / rows.entry(0)["depth"]).unlink()
    assert rows.column("label")[0] == "office"
    assert rows[1]["label"] == "bedroom"
    with pytest.raises(OSError, match="No such file"):
        rows[0]


def test_rows_can_be_taken_apart() -> None:
    rows = Rows(Path("."), ({"id": str(n), "label": "a"} for n in range(10)), templates=("the {}.",))
    assert len(rows) == 10
    assert rows[-1] == {"id": "9", "label": "a", "text": ["the a."]}
    assert [row["id"] for row in rows[2:5]] == ["2", "3", "4"]
    assert rows.some(4).column("id") == ["0", "3", "6", "9"]
    assert rows.some(99) is rows
    assert rows.some(None) is rows
    assert rows.take([7, 1])[0]["id"] == "7"
    with pytest.raises(IndexError, match="row 10 of 10"):
        rows[10]


def test_entries_of_several_kinds_fit_into_one_table() -> None:
    rows = Rows(Path("."), [{"id": "a", "audio": "a.wav"}, {"id": "b", "audio": "b.wav", "video": "b.mp4"}])
    assert "video" not in rows[0]
    assert rows[1] == {"id": "b", "audio": "b.wav", "video": "b.mp4"}
    assert rows.files() == ["a.wav", "b.mp4", "b.wav"]
    assert rows.existing(["b.mp4"]).column("id") == ["a"]


def test_groups_are_held_out_as_wholes() -> None:
    groups = [f"video {n % 30}" for n in range(300)]
    is_out = held_out(groups, 0.2)
    assert 0.2 <= is_out.mean() < 0.24
    assert not {group for group, out in zip(groups, is_out, strict=True) if out} & {
        group for group, out in zip(groups, is_out, strict=True) if not out
    }
    np.testing.assert_array_equal(is_out, held_out(groups, 0.2))
    assert held_out(["one"] * 5, 0.2).sum() == 0
    # However small a share: something, as there is something to choose by.
    assert held_out(["one", "two"], 0.01).sum() == 1


def test_depth_of_sun_is_in_metres_after_the_bits_are_turned_back(copy_of: CopyOf) -> None:
    # 1500 mm, rotated by three bits to the left: 12000; 9000 mm need the highest bits: 72000 - 65536 + 1 = 6465.
    np.testing.assert_allclose(sun_metres(np.array([12000, 6465])), [1.5, 9.0], rtol=1e-6)
    levels = miniatures.sun_levels(10).astype(np.int64)
    millimetres = (levels >> 3) + ((levels & 7) << 13)
    rows = benchmarks.get("sun-d").rows(copy_of("sun-d"), protocol="sound")
    np.testing.assert_allclose(rows[0]["depth"], millimetres / 1000, rtol=1e-5)


def test_depth_of_sun_is_scaled_so_that_each_camera_has_its_own_disparity(copy_of: CopyOf) -> None:
    one = benchmarks.get("sun-d")
    true, scaled = (one.rows(copy_of("sun-d"), protocol=protocol) for protocol in ("sound", "paper"))
    baselines = {"kv1": 0.075, "kv2": 0.075, "realsense": 0.095, "xtion": 0.095}
    for place in range(len(true)):
        metres, sensor = true[place]["depth"], true[place]["attributes"]["sensor"]
        focal = next(f for scene, (_, f) in miniatures.SUN_SCENES.items() if scene in true[place]["id"])
        disparity = baselines[sensor] * focal / metres
        np.testing.assert_allclose(0.075 * 518.857901 / scaled[place]["depth"], disparity, rtol=1e-5)


def test_rooms_beyond_the_nineteen_are_only_for_vitlenss_training(copy_of: CopyOf) -> None:
    one = benchmarks.get("sun-d")
    assert "idk" not in one.rows(copy_of("sun-d"), "train").column("label")
    assert "idk" in one.rows(copy_of("sun-d"), "train", backbone="vl").column("label")
    assert "idk" not in one.rows(copy_of("sun-d"), backbone="vl").column("label")


def test_rooms_of_nyu_are_turned_the_right_way(copy_of: CopyOf) -> None:
    rng = np.random.default_rng(3)
    depths = rng.uniform(0.5, 8.0, (16, 48, 40)).astype(np.float32)
    images = rng.integers(0, 256, (16, 3, 48, 40), dtype=np.uint8)
    for row in benchmarks.get("nyu-d").rows(copy_of("nyu-d"), "train"):
        index = row["attributes"]["index"]
        np.testing.assert_array_equal(row["depth"], depths[index].T)
        np.testing.assert_array_equal(np.asarray(row["image"])[5, 7], images[index][:, 7, 5])
        assert row["label"] == miniatures.NYU_SCENES[index % 8].replace("_", " ")


def test_of_27_rooms_of_nyu_eighteen_count_as_one() -> None:
    merged = benchmarks.get("nyu-d").merged["ib"]
    assert len(NYU_CLASSES) == len(set(NYU_CLASSES)) == 27
    assert {merged.get(name, name) for name in NYU_CLASSES} == {*NYU_KEPT, "other"}
    assert all((name in merged) == (index >= 9) for index, name in enumerate(NYU_CLASSES))


def test_people_are_cut_out_and_backgrounds_have_none(copy_of: CopyOf) -> None:
    people = [(5, 10, 14, 30), (40, 30, 49, 50)]
    rows = benchmarks.get("llvip").rows(copy_of("llvip"))
    assert rows.column("label").count("person") == rows.column("label").count("background") == 8
    for row in rows:
        x0, y0, x1, y1 = row["attributes"]["thermal_box"]
        with Image.open(copy_of("llvip") / f"infrared/test/{row['id'][:6]}.jpg") as whole:
            np.testing.assert_array_equal(row["thermal"], np.asarray(whole.convert("L"))[y0:y1, x0:x1])
        overlaps = [x0 < b[2] and b[0] < x1 and y0 < b[3] and b[1] < y1 for b in people]
        assert any(overlaps) == (row["label"] == "person")
        assert (x1 - x0, y1 - y0) == (9, 20)
    again = benchmarks.get("llvip").rows(copy_of("llvip"))
    assert again.column("attributes") == rows.column("attributes")


def test_things_that_both_cameras_see_are_paired(copy_of: CopyOf) -> None:
    one = benchmarks.get("flir-v2")
    rows = [row for split in ("train", "test") for row in one.rows(copy_of("flir-v2"), split)]
    assert len({row["id"] for row in rows}) == len(rows) == 12 * 3
    assert {row["label"] for row in rows} == {"person", "bike", "car"}
    for row in rows:
        seen, heat = row["attributes"]["image_box"], row["attributes"]["thermal_box"]
        np.testing.assert_allclose(np.array(seen), 1.5 * np.array(heat), atol=1)
        if "image" in row:
            assert row["image"].size == (seen[2] - seen[0], seen[3] - seen[1])


def test_only_the_authors_test_on_videos_that_they_trained_on(copy_of: CopyOf) -> None:
    one = benchmarks.get("flir-v2")

    def videos(split: str, protocol: str) -> set[str]:
        return {name.split("-")[1] for name in one.rows(copy_of("flir-v2"), split, protocol).column("id")}

    assert videos("train", "paper") & videos("test", "paper")
    trained = videos("train", "sound") | videos("validation", "sound")
    assert not trained & videos("test", "sound")


def test_the_authors_boxes_are_those_of_scikit_learn(copy_of: CopyOf) -> None:
    from sklearn.model_selection import train_test_split

    labels = ["person", "bike", "car"] * 12
    names = [f"video-thermal{f // 2:04d}x-frame-{f % 2:06d}-h{f}-{n}" for f in range(12) for n in range(3)]
    for split, numbers in zip(
        ("train", "test"), train_test_split(range(36), test_size=0.2, stratify=labels, random_state=42), strict=True
    ):
        rows = benchmarks.get("flir-v2").rows(copy_of("flir-v2"), split)
        assert rows.column("id") == [names[n] for n in numbers]
        assert rows.column("label") == [labels[n] for n in numbers]


def test_the_authors_list_of_msr_vtt_is_the_validation_split(copy_of: CopyOf) -> None:
    one = benchmarks.get("msr-vtt")
    assert one.rows(copy_of("msr-vtt")).column("id") == [f"video{n}" for n in range(6513, 6517)]
    assert one.rows(copy_of("msr-vtt"), protocol="sound").column("id") == [f"video{n}" for n in range(7010, 7015)]
    assert [len(one.rows(copy_of("msr-vtt"), protocol=p)[0]["text"]) for p in ("paper", "sound")] == [1, 3]


def test_captions_of_clotho_are_joined_by_the_authors_only(copy_of: CopyOf) -> None:
    one = benchmarks.get("clotho")
    (joined,), several = (one.rows(copy_of("clotho"), protocol=p)[2]["text"] for p in ("paper", "sound"))
    assert several == [f"Rain 2, falls {k} times" for k in range(5)]
    assert joined == ", ".join(several)


def test_clips_of_audiocaps_have_all_their_captions_and_either_name(copy_of: CopyOf) -> None:
    rows = benchmarks.get("audiocaps").rows(copy_of("audiocaps"))
    assert [len(texts) for texts in rows.column("text")] == [5, 5, 5, 5]
    assert [Path(row["audio"]).name for row in rows][:2] == ["test_000000_0.wav", "test_000002_60.wav"]


def test_clips_of_audioset_have_several_labels_and_any_name(copy_of: CopyOf) -> None:
    one = benchmarks.get("audioset")
    rows = one.rows(copy_of("audioset"))
    assert rows.column("label")[6] == ["speech", "male speech", "dog"]
    assert [Path(row["audio"]).name for row in rows][:3] == [
        *("_eval000000.wav", "Y-eval000001.wav", "_eval000002_20000.wav"),
    ]
    text = one.rows(copy_of("audioset"), "train")[6]["text"]
    assert len(text) == 3 * 80
    assert "a photo of a male speech." in text


def test_the_sound_of_a_film_comes_as_samples(copy_of: CopyOf) -> None:
    rows = benchmarks.get("vggsound").rows(copy_of("vggsound"))
    assert rows[0]["audio"]["sampling_rate"] == 16000
    assert rows[0]["audio"]["array"].shape[-1] >= 16000
    assert rows[1]["audio"].endswith("vid00000001_000001.wav")
    event = benchmarks.get("ave").rows(copy_of("ave"))[1]
    assert event["attributes"] == {"start_seconds": 1.0, "end_seconds": 6.0}
    assert event["audio"]["sampling_rate"] == 16000


def test_hardness_follows_from_the_material(copy_of: CopyOf) -> None:
    materials, hardness = (benchmarks.get(name).rows(copy_of("tag-m")).column("label") for name in ("tag-m", "tag-hs"))
    soft = {"leather", "synthetic fabric", "natural fabric", "paper", "grass"}
    assert hardness == ["soft" if name in soft else "hard" for name in materials]
    assert len(MATERIAL_NAMES) == 20
    assert len(materials) < sum(1 for _ in (copy_of("tag-m") / "test.txt").open())


def test_recordings_of_other_lengths_are_left_out(copy_of: CopyOf) -> None:
    rows = benchmarks.get("in-eeg").rows(copy_of("in-eeg"))
    assert [row["eeg"].shape for row in rows] == [(128, length) for length in (500, 450, 600, 480, 480)]
    whole = torch.load(copy_of("in-eeg") / "eeg_5_95_std.pth", weights_only=True)
    np.testing.assert_array_equal(rows[1]["eeg"], whole["dataset"][2]["eeg"].numpy())
    assert rows.column("label") == ["German shepherd", "banana", "German shepherd", "banana", "German shepherd"]


def test_points_are_those_of_the_file_without_normals(copy_of: CopyOf) -> None:
    row = benchmarks.get("modelnet40").rows(copy_of("modelnet40"))[1]
    lines = (copy_of("modelnet40") / "flower_pot/flower_pot_0001.txt").read_text().splitlines()
    expected = [[float(number) for number in line.split(",")[:3]] for line in lines]
    np.testing.assert_allclose(row["point_cloud"], expected, rtol=1e-6)
    assert row["label"] == "flower pot"


def test_shapes_are_shown_under_all_words_of_their_synset(copy_of: CopyOf) -> None:
    row = benchmarks.get("shapenet55").rows(copy_of("shapenet55"), "train", backbone="vl")[0]
    assert len(row["text"]) == 3 * 64
    assert {"a point cloud model of aeroplane.", "a point cloud model of plane."} <= set(row["text"])
    assert row["label"] == "airplane"
    assert Path(row["image"]).is_file()


def test_a_backbone_has_training_texts_of_its_own(copy_of: CopyOf) -> None:
    one = benchmarks.get("audioset")
    counts = [len(one.rows(copy_of("audioset"), "train", backbone=name)[0]["text"]) for name in ("ib", "vl")]
    assert counts == [80, 12]
    assert benchmarks.get("tag-m").rows(copy_of("tag-m"), "train")[0]["text"] == ["an image of grass."]
    assert benchmarks.get("k400").rows(copy_of("k400"), "train")[0]["text"] == ["abseiling"]


def test_classes_of_one_name_keep_labels_of_their_own(tmp_path: Path) -> None:
    synsets = [f"n{10000000 + n}" for n in range(1000)]
    for place, synset in ((657, "n03773504"), (744, "n04008634"), (836, "n04355933"), (837, "n04356056")):
        synsets[place] = synset
    # Sorted synsets are the order of the names, so those in between must be in order, too.
    ordered = sorted(synsets)
    miniatures.text(tmp_path / "LOC_synset_mapping.txt", [f"{synset} word" for synset in ordered])
    labels = benchmarks.get("in1k").class_names(tmp_path)
    assert len(set(labels)) == 1000
    twice = [name for name in labels if " (n" in name]
    assert len(twice) == 4
    assert [name.split(" (n")[0] for name in labels] == list(imagenet_names())
    one = benchmarks.get("in1k")
    shown = Rows(tmp_path, [{"id": "a", "label": "missile (n03773504)"}], None, ("a {}.",), one.aliases["paper"])
    assert shown[0]["text"] == ["a missile."]
