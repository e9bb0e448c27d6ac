"""What stands behind the buttons of the demo app, against the model itself."""

import re
from pathlib import Path

import pytest
import torch
from served_runs import LABELS, NAMES

from codebind_hf.serving import answers
from codebind_hf.serving.shared_map import SharedMap, flat_places
from codebind_hf.serving.workbench import Loaded, Workbench


def titles(html: str) -> list[str]:
    return re.findall(r"<figcaption><span>([^<]+)</span>", html)


@pytest.mark.parametrize("modality", NAMES)
def test_every_modality_finds_items_of_all_others(bench: Workbench, modality: str) -> None:
    html = answers.nearest_items(bench, bench.query_of_row(0, modality), 3)
    headings = [name.replace(" ", "_").lower() for name in re.findall(r"</i>([^<]+)</h3>", html)]
    assert sorted(headings) == sorted(set(NAMES) - {modality})
    assert html.count("same object") == html.count(f">{bench.title_of_row(0)}<")


def test_neighbours_come_in_the_order_of_their_cosines(bench: Workbench) -> None:
    embedded = bench.loaded().embedded
    assert embedded is not None
    query = bench.query_of_row(1, "audio")
    images = embedded.modalities["image"]
    cosines = images.continuous_embeds @ query.embedded.continuous_embeds[0]
    expected = [f"{LABELS[row]} {row:03d}" for row in cosines.argsort(descending=True).tolist()]
    html = answers.nearest_items(bench, query, 5)
    shelf = html[html.index("</i>image</h3>") : html.index("</i>video</h3>")]
    assert titles(shelf) == expected
    assert f"{cosines.max():+.2f}" in shelf


def test_a_text_that_rows_share_stands_once(bench: Workbench) -> None:
    html = answers.nearest_items(bench, bench.query_of_row(0, "image"), 5)
    shelf = html[html.index("</i>text</h3>") : html.index("</i>video</h3>")]
    assert sorted(re.findall(r'cb-large">([^<]+)<', shelf)) == ["a bell", "a ring", "a tall glass"]


def test_words_share_what_the_softmax_gives_them(bench: Workbench) -> None:
    found = bench.loaded()
    words = ["a ring", "a bell", "a tall glass"]
    query = bench.query_of_row(2, "image")
    texts = found.model.encode({"text": words}, processor=found.processor, output="torch", quantize=False)["text"]
    cosines = texts @ query.embedded.continuous_embeds[0]
    shares = torch.softmax(found.model.logit_scale().detach() * cosines, 0)
    best = int(shares.argmax())
    html = answers.word_bars(bench, query, "a ring, a bell,, a ring\n a tall glass")
    rows = re.findall(r'scope="row">([^<]+)</th>.*?width:([\d.]+)%.*?cb-number">([^<]+)<', html)
    assert [row[0] for row in rows] == [words[i] for i in shares.argsort(descending=True).tolist()]
    assert float(rows[0][1]) == pytest.approx(100 * float(shares[best]), abs=0.06)
    assert rows[0][2].endswith(f"{cosines[best]:+.2f}")
    with pytest.raises(ValueError, match="got 101; allowed: up to 100"):
        answers.word_bars(bench, query, ",".join(map(str, range(101))))


def test_codes_of_two_items_are_compared_segment_by_segment(bench: Workbench) -> None:
    first, second = bench.query_of_row(0, "image"), bench.query_of_row(1, "image")
    assert first.embedded.shared_codes is not None
    assert second.embedded.shared_codes is not None
    equal = (first.embedded.shared_codes == second.embedded.shared_codes).sum()
    segments = first.embedded.shared_codes.shape[1]
    html = answers.shared_codes(bench, first, second)
    assert f"Equal codes in {equal} of {segments} segments" in html
    assert html.count('class="cb-same"') == equal
    assert html.count('class="cb-other"') == segments - equal
    itself = answers.shared_codes(bench, first, first)
    assert f"Equal codes in {segments} of {segments} segments" in itself
    # Neither of the two is an example of what else has a code.
    assert bench.title_of_row(0) not in " ".join(titles(itself))


def test_the_codes_of_two_uploads_can_be_compared(run: Path, bench: Workbench) -> None:
    content = (run / "files" / "image" / "2.png").read_bytes()
    upload = bench.query("image", {"bytes": content, "path": "mine.png"})
    assert answers.shared_codes(bench, upload, upload) != answers.shared_codes(
        bench, upload, bench.query_of_row(0, "eeg")
    )


@pytest.mark.parametrize("modality", [name for name in NAMES if name != "text"])
def test_every_modality_is_rebuilt(bench: Workbench, modality: str) -> None:
    html = answers.rebuilt(bench, bench.query_of_row(0, modality))
    assert titles(html) == ["What the model sees, at the decoder&#x27;s size", "Rebuilt from the codes"]
    # Clouds have no error point by point.
    assert ("mean squared error" in html) == (modality != "point_cloud")


def test_the_error_is_that_of_the_model(bench: Workbench) -> None:
    found = bench.loaded()
    inputs = found.processor(depth=[bench.rows[1]["depth"]], return_tensors="pt")
    with torch.inference_mode():
        output = found.model(**inputs, output_reconstructions=True)
    error = (output.reconstructions["depth"] - output.reconstruction_targets["depth"]).square().mean()
    assert f"mean squared error {error:.3f}" in answers.rebuilt(bench, bench.query_of_row(1, "depth"))


def test_two_items_of_one_modality_are_mixed_in_all_four_ways(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = []
    monkeypatch.setattr(
        answers, "tensor_views", lambda _, tensors, *rest: decoded.extend(tensors) or ["x"] * len(tensors)
    )
    first, second = bench.query_of_row(0, "tactile"), bench.query_of_row(1, "tactile")
    html = answers.mixed(bench, first, second)
    assert titles(html) == [f"shared of {one}, specific of {other}" for one in "AB" for other in "AB"]
    model = bench.loaded().model
    expected = model.decode(first.embedded.embeds, second.embedded.specific_embeds, modality="tactile")[0]
    torch.testing.assert_close(decoded[1], expected)
    assert not torch.allclose(decoded[1], decoded[2])


def test_a_sound_lends_its_shared_part_to_a_picture(bench: Workbench) -> None:
    html = answers.mixed(bench, bench.query_of_row(0, "audio"), bench.query_of_row(1, "image"))
    assert titles(html) == ["shared of A, specific of B"]
    assert "Decoded as image" in html
    words = bench.query_of_row(0, "text")
    assert "text has no decoder" in answers.mixed(bench, words, words)


def test_a_checkpoint_without_decoders_and_gallery_says_what_it_cannot_do(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = bench.query_of_row(0, "image")
    found = bench.loaded()
    monkeypatch.setattr(bench, "loaded", lambda: Loaded(found.model, found.processor, None))
    assert answers.nearest_items(bench, query, 3) == answers.shared_codes(bench, query, query)
    assert "no gallery" in answers.nearest_items(bench, query, 3)
    assert "no gallery" in SharedMap(bench).view()
    monkeypatch.setattr(bench.config, "decoder_config", None)
    assert "has no decoders" in answers.rebuilt(bench, query)
    assert "has no decoders" in answers.mixed(bench, query, query)


# The map


def test_the_map_holds_every_item_and_its_name(bench: Workbench) -> None:
    embedded = bench.loaded().embedded
    assert embedded is not None
    html = SharedMap(bench).view("class")
    assert html.count("&quot;modality&quot;") == sum(map(len, embedded.modalities.values()))
    assert "tall glass 003" in html
    assert re.findall(r"</i>([^<]+)</span>", html) == ["bell", "ring", "tall glass"]


@pytest.mark.parametrize("modalities", [list("abcd"), list("aabb")], ids=["one of each", "equal ones"])
def test_items_without_a_spread_lie_in_the_middle_of_the_map(modalities: list[str]) -> None:
    vectors = torch.nn.functional.one_hot(torch.tensor([ord(name) - ord("a") for name in modalities]), 4)
    places = flat_places(vectors.double().numpy(), modalities)
    assert places.tolist() == [[0.5, 0.5]] * 4


def test_groups_that_differ_by_modality_alone_lie_together_on_the_map() -> None:
    torch.manual_seed(0)
    kinds = torch.nn.functional.one_hot(torch.arange(40) % 2, 16).float()
    vectors = torch.cat([kinds, kinds + 5]) + 0.01 * torch.randn(80, 16)
    places = flat_places(vectors.numpy(), ["image"] * 40 + ["audio"] * 40)
    assert places.min() == 0
    assert places.max() == 1
    kind = torch.arange(80) % 2 == 0
    nearest = torch.cdist(torch.from_numpy(places), torch.from_numpy(places)).fill_diagonal_(9).argmin(1)
    assert bool((kind[nearest] == kind).all())
    # The other modality is among the neighbours.
    assert bool(((nearest < 40) != (torch.arange(80) < 40)).any())
