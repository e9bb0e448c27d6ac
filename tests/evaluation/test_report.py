import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from codebind_hf.evaluation import evaluate_model, markdown_report, write_report
from codebind_hf.evaluation.pages.chapters import SHORT
from codebind_hf.evaluation.report import markdown_table


@pytest.mark.slow
def test_the_json_file_reads_back_equal(fake: SimpleNamespace, tmp_path: Path) -> None:
    report = evaluate_model(fake.model, fake.processor, fake.rows(30), progress=False)
    file = write_report(report, tmp_path / "new" / "folder")
    assert file == tmp_path / "new" / "folder" / "report.json"
    assert json.loads(file.read_text()) == report
    assert sorted(path.name for path in file.parent.iterdir()) == ["report.html", "report.json", "report.md"]


@pytest.mark.slow
def test_the_markdown_holds_the_numbers_and_links_pictures_relatively(fake: SimpleNamespace, tmp_path: Path) -> None:
    report = evaluate_model(fake.model, fake.processor, fake.rows(30), progress=False)
    picture = tmp_path / "pictures" / "zero_shot.png"
    picture.parent.mkdir()
    Image.new("RGB", (8, 8)).save(picture)
    write_report(report, tmp_path / "out", figures={"zero_shot": picture})
    text = (tmp_path / "out" / "report.md").read_text()
    assert "](../pictures/zero_shot.png)" in text
    assert str(tmp_path) not in text
    accuracy = f"{100 * report['zero_shot']['point_cloud']['accuracy']:.1f}"
    assert f"| point cloud | {accuracy} |" in text
    for chapter in (
        "None of these",
        "Emergent pairs",
        "Mixed pool",
        "What the parts know",
        "How far the parts are apart",
        "Cosines within a class",
        "What single codes say: mutual information",
        "Classes from several modalities together",
        "Codebooks",
        "Seed and environment",
    ):
        assert f"## {chapter}" in text
    fused = report["fusion"]["heads"]["sum"]["shared"]
    values = tuple(f"{100 * fused[key]:.1f}" for key in ("accuracy", "low", "high"))
    assert "| sum | {} ({} to {}) |".format(*values) in text
    code = report["information"]["eeg"]["mark"]
    assert f"| EEG: mark | {code['category']:.3f} | {code['shared']:.3f} |" in text
    within = report["intra_class"]["eeg"]
    assert f"| EEG | {within['shared']:.2f} | {within['shared_between']:.2f} | {within['specific']:.2f} |" in text
    tens = report["fine_grained"]["eeg"]["class"]
    values = tuple(f"{100 * tens[f'{part}_at_10']:.1f}" for part in ("shared", "specific", "both"))
    assert "| EEG: same class | {} | {} | {} |".format(*values) in text
    assert f"| torch | {report['environment']['torch']} |" in text


def test_what_none_of_these_does_is_a_table() -> None:
    entry = {"coverage": 0.9, "threshold": 0.312, "answered": 0.875, "accuracy_of_answered": 0.5, "n": 40}
    with_both = {**entry, "refused_known": 0.125, "refused_unknown": 0.75}
    text = markdown_report({"abstention": {"eeg": entry, "point_cloud": with_both}})
    assert "## None of these" in text
    assert "at least 90.0 % of items of known classes" in text
    assert "| EEG | +0.31 | 87.5 | 50.0 | - | - | 40 |" in text
    assert "| point cloud | +0.31 | 87.5 | 50.0 | 12.5 | 75.0 | 40 |" in text


def test_a_report_of_before_there_were_ten_neighbours_is_still_written() -> None:
    old = {"shared": 0.5, "specific": 0.25, "both": 0.75, "chance": 0.1, "n": 8}
    text = markdown_report({"fine_grained": {"eeg": {"mark": old}}})
    assert "| EEG: same class and mark | 50.0 | 25.0 | 75.0 | 10.0 | 8 |" in text
    assert "of the ten nearest" not in text


def test_the_markdown_begins_with_findings_and_ends_with_long_tables() -> None:
    entry = {"recall_at_10": 0.5, "chance_at_10": 0.1, "n": 10}
    names = [f"m{one}_to_m{two}" for one in range(5) for two in range(5) if one != two]
    text = markdown_report({"retrieval": dict.fromkeys(names, entry), "seed": 1})
    lines = text.splitlines()
    assert lines[2].startswith("1. **20 of 20 pairs of modalities find more than chance.**")
    tables = [block for block in text.split("\n\n") if block.startswith("|")]
    sizes = [len(table.splitlines()) - 2 for table in tables]
    assert sizes[0] == 5
    assert [size > SHORT for size in sizes] == [False, True, False]
    assert text.index("## All numbers") < text.index("| m0 to m1 |")


def test_a_report_with_few_sections_is_still_markdown() -> None:
    text = markdown_report({"seed": 1})
    assert "## Seed and environment" in text
    assert "## Zero-shot" not in text


def test_nothing_is_written_for_numbers_that_are_no_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="finite"):
        write_report({"seed": float("inf")}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_old_report_is_replaced(tmp_path: Path) -> None:
    write_report({"seed": 1}, tmp_path)
    write_report({"seed": 2}, tmp_path)
    assert json.loads((tmp_path / "report.json").read_text()) == {"seed": 2}


def test_only_columns_of_numbers_are_right_aligned() -> None:
    rows = [["x", 1, "-0.5 ± 0.1", "`a`", "-"], ["y", 2.5, "+1e-05", "3 x 4", "7"]]
    assert markdown_table("abcde", rows).splitlines()[1] == "| --- | ---: | ---: | --- | ---: |"


def test_a_cell_cannot_break_its_table() -> None:
    assert markdown_table(["a"], [["x|y\nz"]]).splitlines()[2] == "| x\\|y z |"


def test_a_table_has_one_line_a_row() -> None:
    assert markdown_table(["a", "b"], [["x", 1], ["y", 2]]) == "| a | b |\n| --- | ---: |\n| x | 1 |\n| y | 2 |"
