"""`--json`: one answer for programs on the standard output, and words on the error output."""

import json
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


def test_evaluation_prints_the_report_that_it_writes(made: Path, table: Path, tmp_path: Path) -> None:
    output = tmp_path / "report.json"
    report, said = answered("evaluate", "--checkpoint", made, "--manifest", table, "--output", output)
    assert report == json.loads(output.read_text())
    assert f"Wrote {output} and" in said
    assert said.splitlines()[0].startswith("zero-shot")


def test_evaluation_ends_with_a_line_that_searches_these_rows(made: Path, table: Path, tmp_path: Path) -> None:
    said = done("evaluate", "--checkpoint", made, "--manifest", table, "--output", tmp_path / "report.json")
    line = said.splitlines()[-1]
    told = f"codebind search --checkpoint {made} --manifest {table} --text 'a photo of a x'"
    assert line.startswith("Search these rows: ")
    assert line.endswith(told.removeprefix("codebind "))
    arguments = ("search", "--checkpoint", made, "--manifest", table, "--text", "a photo of a x")
    assert done(*arguments).startswith("query: a photo of a x (text)\n")


def test_the_list_of_benchmarks_is_that_of_the_registry() -> None:
    rows, _ = answered("benchmark", "--list")
    assert {"nyu-d", "esc-50", "modelnet40"} <= {row["name"] for row in rows}
    (one,) = [row for row in rows if row["name"] == "nyu-d"]
    assert (one["modality"], one["num_classes"], one["published_items"]) == ("depth", 10, 654)
