"""What the commands answer where a query, a file or a column is not what they need, and where they say it once."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_command_flags import cache, done, made, pictures, refused, report_of, sounds, write

from codebind_hf.data import Manifest
from codebind_hf.data.prepared import by_fix
from codebind_hf.evaluation.provenance import run_folder_of
from codebind_hf.training import Recipe, build, save
from codebind_hf.training.run_folder import RunFolder
from codebind_hf.training.run_rows import load_rows


__all__ = ["cache", "made", "pictures", "sounds"]


@pytest.fixture(scope="module")
def sight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of text and image that belongs to no run."""
    folder = tmp_path_factory.mktemp("sight") / "sight"
    save(*build(Recipe(), ["text", "image"], ["a photo of a ring"]), folder)
    return folder


@pytest.fixture
def gallery(tmp_path: Path, pictures: Path) -> Path:
    """Pictures that share two texts, and depth maps without a unit."""
    names = sorted(str(path) for path in (pictures / "test").rglob("*.png"))
    Image.fromarray(np.full((8, 8), 900, np.uint16)).save(tmp_path / "depth.png")
    rows = [
        {"image": name, "text": f"text {place % 2}", "depth": "depth.png", "label": "xyz"[place % 3]}
        for place, name in enumerate(names)
    ]
    write(tmp_path / "gallery.jsonl", rows)
    return tmp_path / "gallery.jsonl"


def test_prompts_have_the_form_of_texts_made_of_labels(sounds: Path) -> None:
    data = {"dataset": str(sounds)}
    assert load_rows({**data, "text_from_label": ["a {}", "the {}"]}).templates == ["a {}", "the {}"]
    assert load_rows(data).templates == ["a photo of a {}"]


def test_a_folder_of_sounds_is_evaluated_beside_its_run(sounds: Path, made: Path) -> None:
    output = made / "evaluation" / "report.json"
    for flags, prompts in (
        (("--text_from_label", "a sound of a {}", "--template", "{}!"), "{}!"),
        (("--text_from_label", "a sound of a {}"), "a sound of a {}"),
        ((), "a photo of a {}"),
    ):
        printed = done("evaluate", "--checkpoint", made, "--dataset", sounds, *flags)
        report = report_of(output)
        assert report["templates"] == [prompts]
        assert f"zero-shot prompts: `{prompts}`\n" in printed
        assert f"\n\nPrompts: `{prompts}`.\n\n" in output.with_suffix(".md").read_text()
        assert f"Wrote {output}, " in printed
    assert report["checkpoint"] == "run"
    assert report["zero_shot"]["audio"]["n"] == 4
    assert report["class_names"] == ["ring", "star"]


@pytest.mark.slow
def test_training_evaluates_with_these_prompts_and_says_so(
    pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = ("--dataset", pictures, "--test_dataset", f"{pictures}:test", "--text_from_label", "the {}")
    done("train", *rows, "--output_dir", tmp_path / "run", "--max_steps", 1, "--batch_size", 4)
    assert json.loads((tmp_path / "run" / "report.json").read_text())["templates"] == ["the {}"]
    assert "zero-shot prompts: `the {}`" in "\n".join(each.getMessage() for each in caplog.records).split("\n")
    assert "\nPrompts: `the {}`.\n" in (tmp_path / "run" / "report.md").read_text()


def test_a_run_is_found_by_its_folder_or_checkpoint_and_keeps_what_is_said_of_it(made: Path, sight: Path) -> None:
    assert run_folder_of(made) == run_folder_of(made / "checkpoint") == made
    assert run_folder_of(sight) is None
    (made / "evaluation").mkdir(exist_ok=True)
    copy = shutil.copytree(made, made.parent / "copy")
    (copy / "notes.txt").write_text("mine")
    RunFolder(copy).clear()
    assert [path.name for path in copy.iterdir()] == ["notes.txt"]


def test_another_checkpoint_is_evaluated_in_the_working_folder(
    sight: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    printed = done("evaluate", "--checkpoint", sight, "--dataset", f"{pictures}:test")
    assert "Wrote report.json, report.md and report.html to look at." in printed
    assert '"checkpoint": "sight"' in Path("report.json").read_text()


def test_a_run_is_evaluated_with_the_prompts_that_it_was_evaluated_with_after_training(
    made: Path, pictures: Path, tmp_path: Path
) -> None:
    run, rows = shutil.copytree(made, tmp_path / "run"), ("--dataset", f"{pictures}:test")
    (run / "report.json").write_text(json.dumps({"templates": ["look, a {}"]}))
    assert "zero-shot prompts: `look, a {}`\n" in done("evaluate", "--checkpoint", run, *rows)
    said = done("evaluate", "--checkpoint", run, *rows, "--text_from_label", "this {}")
    assert "zero-shot prompts: `this {}`\n" in said
    said = done("evaluate", "--checkpoint", run, *rows, "--template", "the {}", "--text_from_label", "this {}")
    assert "zero-shot prompts: `the {}`\n" in said


def test_rows_without_labels_are_evaluated_and_the_lack_is_said(sight: Path, pictures: Path, tmp_path: Path) -> None:
    rows = [{"text": f"a thing {n}", "image": str(path)} for n, path in enumerate(sorted(pictures.rglob("*.png"))[:4])]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    common = ("--manifest", tmp_path / "rows.jsonl", "--output", tmp_path / "report.json")
    assert "Nothing is classified: rows have fewer than two labels" in done("evaluate", "--checkpoint", sight, *common)


def test_a_query_is_refused_by_its_flag(made: Path, sight: Path, sounds: Path, gallery: Path) -> None:
    sound = next(sounds.rglob("*.wav"))
    seeing = ("search", "--checkpoint", sight, "--gallery", gallery)
    said = refused(*seeing, "--query", sound)
    assert "--query: .wav is audio, which this checkpoint does not read; it reads text, image, video. Fix:" in said
    said = refused(*seeing, "--query", sound, "--modality", "audio")
    assert "--modality: got 'audio', which this checkpoint does not read; it reads text, image, video." in said
    common = ("search", "--checkpoint", made, "--gallery", gallery, "--modalities", "image")
    assert "--query: 'gone.wav': no such file. Fix: check the path" in refused(*common, "--query", "gone.wav")
    said = refused(*common, "--query", gallery.with_name("depth.png"), "--modality", "depth")
    assert "error: --query: depth file " in said
    assert "got integers (uint16) without a unit" in said
    assert "row 0" not in said
    assert "--query: .png may be any of image, depth. Fix: say which with --modality." in refused(
        *common, "--query", gallery.with_name("depth.png")
    )


def test_a_text_of_several_rows_is_listed_once(sight: Path, gallery: Path, pictures: Path) -> None:
    query = next(pictures.rglob("*.png"))
    printed = done(
        *("search", "--checkpoint", sight, "--gallery", gallery, "--query", query, "--modality", "image"),
        *("--modalities", "text", "--top_k", 5),
    )
    answers = [line.split(maxsplit=2) for line in printed.splitlines()[3:]]
    assert sorted(text for _, _, text in answers) == ["text 0", "text 1"]
    assert float(answers[0][1]) >= float(answers[1][1])


def test_an_answer_is_also_written_as_a_page(sight: Path, gallery: Path, tmp_path: Path) -> None:
    common = ("search", "--checkpoint", sight, "--gallery", gallery, "--text", "a <ring>", "--top_k", 1)
    printed = done(*common, "--html", tmp_path / "found.html")
    assert f"Wrote {tmp_path / 'found.html'}." in printed
    page = (tmp_path / "found.html").read_text()
    assert "a &lt;ring&gt;" in page
    assert "a <ring>" not in page
    (best,) = [line.split(maxsplit=2) for line in printed.splitlines() if line.startswith("  1. ")]
    assert best[2] in page
    assert best[1] in page
    assert page.count("data:image/") == 1
    said = refused(*common, "--html", tmp_path / "found.txt")
    assert "--html: got" in said
    assert "give a file that ends in .html" in said


def test_a_unit_of_depth_that_the_checkpoint_does_not_read_is_refused(sight: Path, gallery: Path) -> None:
    said = refused("evaluate", "--checkpoint", sight, "--manifest", gallery, "--depth_unit", "mm")
    assert "no depth is read: the rows have it, and this checkpoint reads only text, image, video. Fix:" in said


def test_missing_files_are_skipped_where_that_is_asked_for(
    sight: Path, pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = sorted(str(path) for path in (pictures / "test").rglob("*.png"))
    rows = [{"image": name, "text": f"a {place}", "label": "xy"[place % 2]} for place, name in enumerate(names)]
    write(tmp_path / "rows.jsonl", [*rows, {"id": "lost", "image": "gone.png", "label": "x"}])
    common = ("--manifest", tmp_path / "rows.jsonl", "--output", tmp_path / "report.json")
    said = refused("evaluate", "--checkpoint", sight, *common)
    assert "1 file is missing; relative paths start at its folder. Fix:" in said
    assert "(--on_error skip)" in said
    printed = done("evaluate", "--checkpoint", sight, *common, "--on_error", "skip")
    assert "skipped row 6, image: " in printed
    (said,) = [each.getMessage() for each in caplog.records if "missing" in each.getMessage()]
    assert said.splitlines()[0].endswith("1 file is missing and skipped:")
    assert said.splitlines()[1].startswith("  lost, image: ")
    train = ("train", "--manifest", tmp_path / "rows.jsonl", "--output_dir", tmp_path / "run", "--max_steps", 1)
    done(*train, "--batch_size", 2, "--on_error", "skip")
    with pytest.raises(ValueError, match="on_error: got 'ignore'"):
        Manifest(tmp_path / "rows.jsonl").validate("ignore")


def test_what_mends_several_rows_is_said_once(made: Path, gallery: Path) -> None:
    output = gallery.with_name("report.json")
    printed = done("evaluate", "--checkpoint", made, "--manifest", gallery, "--on_error", "skip", "--output", output)
    assert printed.count("Fix: ") == 1
    assert printed.count("  skipped row ") == 6
    assert output.with_suffix(".md").read_text().count("Fix: ") == 1
    assert by_fix([("a", "is bad."), ("b", "is 1. Fix: 2."), ("c", "is 3. Fix: 4."), ("d", "is 5. Fix: 2.")]) == [
        "a: is bad.",
        "Fix: 2.",
        "  b: is 1.",
        "  d: is 5.",
        "c: is 3. Fix: 4.",
    ]


def test_what_a_base_lacks_is_said_in_a_line(sight: Path, caplog: pytest.LogCaptureFixture) -> None:
    build(Recipe(base=str(sight), preset="tiny"), ["text", "image", "audio"], [])
    said = [each.getMessage() for each in caplog.records]
    assert any("tensors of encoders.audio.tower, which start from nothing" in each for each in said)
    assert not any("LOAD REPORT" in each for each in said)


def test_names_of_modalities_that_are_nearly_right_are_proposed(sight: Path, gallery: Path, pictures: Path) -> None:
    common = ("search", "--checkpoint", sight, "--gallery", gallery)
    said = refused(*common, "--text", "a", "--modalities", "imgae")
    assert (
        "--modalities: got imgae; the gallery and the checkpoint have text, image. Fix: did you mean `image`?" in said
    )
    said = refused(*common, "--query", next(pictures.rglob("*.png")), "--modality", "imgae")
    assert "--modality: got 'imgae', which this checkpoint does not read" in said
    assert said.endswith("Fix: did you mean `image`?")
    said = refused(*common, "--text", "a", "--columns", "txt=text")
    assert "has no column 'txt'" in said
    assert said.endswith("Did you mean `text`?")
