"""`--json`: one answer for programs on the standard output, and words on the error output."""

import json
import shlex
from pathlib import Path

from commands_in_process import run_command
from test_command_flags import cache, done, made, pictures, table


__all__ = ["cache", "made", "pictures", "table"]


def answered(*arguments: object) -> tuple[object, str]:
    """The JSON that a command prints, and what it says beside it."""
    result = run_command(*arguments, "--json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout), result.stderr


def test_search_answers_what_it_would_print(made: Path, table: Path) -> None:
    common = ("--checkpoint", made, "--gallery", table, "--text", "a ring", "--top_k", 2)
    answer, _ = answered("search", *common)
    assert (answer["query"], answer["modality"], answer["skipped"]) == ("a ring", "text", [])
    assert list(answer["found"]) == ["image"]
    printed = [line.split(maxsplit=2)[1:] for line in done("search", *common).splitlines()[3:]]
    assert [[f"{each['cosine']:+.3f}", each["item"]] for each in answer["found"]["image"]] == printed
    assert len(printed) == 2


def test_evaluation_prints_the_report_that_it_writes(made: Path, pictures: Path, tmp_path: Path) -> None:
    rows, output = f"{pictures}:test", tmp_path / "report.json"
    report, said = answered("evaluate", "--checkpoint", made, "--dataset", rows, "--output", output)
    assert report == json.loads(output.read_text())
    assert f"Wrote {output}, " in said
    entry = report["zero_shot"]["image"]
    assert (entry["n"], entry["majority"]) == (6, 1 / 3)
    (table,) = [line.split() for line in said.splitlines() if line.startswith("image ")]
    numbers = [f"{100 * entry[name]:.1f}" for name in ("accuracy", "low", "high", "accuracy_continuous", "chance")]
    assert table == ["image", *numbers[:2], "to", *numbers[2:], "33.3", "6"]
    # What to do next works as it stands there.
    *_, line = said.splitlines()
    assert line.startswith("Search these rows: ")
    program, *words = shlex.split(line.removeprefix("Search these rows: "))
    assert program.endswith("codebind")
    assert words == ["search", "--checkpoint", str(made), "--dataset", rows, "--text", "a photo of a cube"]
    assert done(*words).startswith("query: a photo of a cube (text)\n")


def test_a_search_that_comes_next_reads_rows_as_the_evaluation_did(made: Path, table: Path, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in table.read_text().splitlines()]
    renamed = table.with_name("renamed rows.jsonl")
    renamed.write_text(
        "".join(json.dumps({"img": each["image"], "label": "ab"[i % 2]}) + "\n" for i, each in enumerate(lines))
    )
    flags = ("--columns", "img=image", "--text_from_label", "the {}", "--on_error", "skip")
    common = ("--checkpoint", made, "--manifest", renamed)
    _, said = answered("evaluate", *common, *flags, "--output", tmp_path / "report.json")
    *_, line = said.splitlines()
    _, *words = shlex.split(line.removeprefix("Search these rows: "))
    assert words == ["search", *map(str, common), *flags, "--text", "the a"]
    assert done(*words).startswith("query: the a (text)\n")


def test_the_list_of_benchmarks_is_that_of_the_registry() -> None:
    rows, _ = answered("benchmark", "--list")
    assert {"nyu-d", "esc-50", "modelnet40"} <= {row["name"] for row in rows}
    (one,) = [row for row in rows if row["name"] == "nyu-d"]
    assert (one["modality"], one["num_classes"], one["published_items"]) == ("depth", 10, 654)
