"""Items and tensors as HTML: does the page get what the file holds?"""

import base64
import io
import re
import wave
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image
from pipeline_items import item
from served_runs import NAMES, write_item

from codebind_hf.inference import Depth, Thermal
from codebind_hf.serving import markup
from codebind_hf.serving.item_views import item_view
from codebind_hf.serving.tensor_views import tensor_views
from codebind_hf.serving.workbench import Workbench


def data_of(html: str, kind: str) -> bytes:
    found = re.search(rf"data:{kind};base64,([^\"]+)", html)
    assert found, html[:300]
    return base64.b64decode(found[1])


def picture_of(html: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data_of(html, "image/png"))))


def frames_of(html: str) -> np.ndarray:
    with av.open(io.BytesIO(data_of(html, "video/mp4"))) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]).astype(np.float32)


@pytest.mark.parametrize("modality", NAMES)
def test_an_item_looks_the_same_in_memory_in_a_file_and_as_bytes(
    bench: Workbench, tmp_path: Path, modality: str
) -> None:
    value: Any = item(modality)
    in_memory = item_view(modality, value, bench.part(modality))
    assert len(in_memory) > 60 or modality == "text"
    if modality == "text":
        return
    file = write_item(modality, tmp_path / "one")
    from_file = item_view(modality, str(file), bench.part(modality))
    from_bytes = item_view(modality, {"bytes": file.read_bytes(), "path": "one" + file.suffix}, bench.part(modality))
    if modality == "video":
        # The encoder does not give the same bits every time.
        films = [frames_of(html) for html in (in_memory, from_file, from_bytes)]
        assert max(float(np.abs(film - films[0]).mean()) for film in films) < 2
        return
    assert from_bytes == from_file
    # Files of sounds hold 16 bits, and texts of points some digits.
    assert from_file == in_memory or modality in ("audio", "point_cloud")


def test_a_picture_is_shown_pixel_by_pixel_and_made_no_larger_than_a_card() -> None:
    small = item("image")
    assert np.array_equal(picture_of(item_view("image", small)), np.asarray(small))
    large = item_view("image", Image.new("RGB", (900, 300), "red"))
    assert Image.open(io.BytesIO(data_of(large, "image/webp"))).size == (320, 107)


def test_the_scale_of_a_map_names_its_ends_and_its_unit(bench: Workbench) -> None:
    grid = np.linspace(500, 2500, 600).reshape(20, 30).astype(np.uint16)
    html = item_view("depth", Depth(grid, unit="mm"), bench.part("depth"))
    assert re.findall(r"<span>([^<]+)</span>", html) == ["500", "millimetres", "2.5e+03"]
    first, last = picture_of(html)[0, 0], picture_of(html)[-1, -1]
    # The ends of viridis.
    assert (first.tolist(), last.tolist()) == ([68, 1, 84], [253, 231, 37])
    html = item_view("thermal", Thermal(grid, range=(0, 40), unit="centikelvin"), bench.part("thermal"))
    assert ">centikelvin<" in html
    assert ">metres<" in item_view("depth", item("depth"), bench.part("depth"))


def test_a_player_plays_the_sound() -> None:
    value = item("audio")
    with wave.open(io.BytesIO(data_of(item_view("audio", value), "audio/wav"))) as stream:
        assert (stream.getframerate(), stream.getnframes()) == (16000, 16000)
        played = np.frombuffer(stream.readframes(16000), "<i2") / 32767
    np.testing.assert_allclose(played, value["array"], atol=1e-4)


def test_a_film_has_every_frame_in_its_order() -> None:
    frames = np.stack([np.full((30, 40, 3), level, np.uint8) for level in (20, 90, 160, 230)])
    film = frames_of(item_view("video", frames))
    np.testing.assert_allclose(film.mean((1, 2, 3)), [20, 90, 160, 230], atol=4)


def test_a_cloud_keeps_its_shape_and_its_colours() -> None:
    points = np.concatenate([item("point_cloud") * 7 + 100, np.full((90, 3), [1.0, 0.5, 0.0])], axis=1)
    html = item_view("point_cloud", points)
    places = np.frombuffer(base64.b64decode(re.search(r'data-points="([^"]+)"', html)[1]), "<i2").reshape(-1, 3)
    expected = points[:, :3] - (points[:, :3].max(0) + points[:, :3].min(0)) / 2
    expected /= np.linalg.norm(expected, axis=1).max()
    np.testing.assert_allclose(places / 32767, expected, atol=1e-4)
    colors = base64.b64decode(re.search(r'data-colors="([^"]+)"', html)[1])
    assert colors[:3] == bytes([255, 127, 0])


def test_traces_show_every_channel_and_say_how_long_they_are() -> None:
    html = item_view("eeg", {"array": item("eeg"), "sampling_rate": 20})
    assert html.count("<polyline") == 5
    assert "2.00 s, 5 channels" in html


def test_a_spike_in_a_long_signal_is_seen() -> None:
    line = np.zeros((1, 100_000))
    line[0, 51_234] = 1.0
    heights = [
        float(pair.split(",")[1])
        for pair in re.search(r'points="([^"]+)"', markup.traces(line, "", "", ""))[1].split()
    ]
    assert max(heights) - min(heights) == pytest.approx(90 * 0.92, abs=0.2)
    assert len(heights) == 960


def test_words_of_people_are_no_code_of_the_page() -> None:
    attack = "<script>alert(1)</script>\"'"
    pages = [
        item_view("text", attack),
        markup.note(attack, "error"),
        markup.card("", attack, [attack], attack),
        markup.bars([(attack, 0.5, attack)], attack),
        markup.traces(np.zeros((2, 5)), attack, attack, "red", [attack, attack]),
    ]
    for page in pages:
        assert "<script" not in page
        assert "&lt;script&gt;" in page


def test_what_cannot_be_shown_is_refused_with_the_reason() -> None:
    with pytest.raises(OSError, match=r"x\.png"):
        item_view("image", {"bytes": b"\x89PNG\r\n\x1a\n" + bytes(30), "path": "x.png"})


# Tensors of the model


def test_a_picture_of_the_model_is_brought_back_to_its_colours(bench: Workbench) -> None:
    part = bench.part("image")
    colors = torch.tensor([1.0, 0.6, 0.0]).view(3, 1, 1).expand(3, 8, 12)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (part.mean, part.std))
    (html,) = tensor_views("image", [(colors - mean) / std], part)
    assert picture_of(html)[3, 4].tolist() == [255, 153, 0]


def test_both_maps_have_the_scale_of_the_first(bench: Workbench) -> None:
    part = bench.part("depth")
    first = (torch.linspace(1, 3, 12).view(1, 3, 4) - part.mean[0]) / part.std[0]
    one, other = tensor_views("depth", [first, first * 0], part)
    for html in (one, other):
        assert re.findall(r"<span>([^<]+)</span>", html) == ["1", "metres", "3"]
    assert len(np.unique(picture_of(other).reshape(-1, 3), axis=0)) == 1


@pytest.mark.parametrize("modality", [name for name in NAMES if name != "text"])
def test_reconstructions_of_every_modality_can_be_drawn(bench: Workbench, modality: str) -> None:
    found = bench.loaded()
    query = bench.query_of_row(0, modality)
    specific = query.embedded.specific_embeds
    decoded = found.model.decode(query.embedded.embeds, specific, modality=modality)
    views = tensor_views(modality, [decoded[0], decoded[0]], bench.part(modality))
    assert views[0] == views[1]
    assert any(mark in views[0] for mark in ("<img", "<polyline", "cb-cloud"))
