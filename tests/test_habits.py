"""Does what surrounds the code hold together: versions, workflows, forms, commands, and paths that documents name?"""

import importlib
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version
from test_house import MODULES, imports_of, tree_of


ROOT = Path(__file__).parents[1]
MAKEFILE = (ROOT / "Makefile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted(path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")
# A call of make with its targets and variables.
MAKE_CALL = re.compile(r"(?:^|`|- run: | {4})make((?: [a-z][a-z-]*| [A-Z]+=\S*)+)", re.MULTILINE)


def read_yaml(name: str | Path) -> dict[Any, Any]:
    content = yaml.safe_load((ROOT / name).read_text())
    assert isinstance(content, dict)
    return content


def requirements() -> list[Requirement]:
    """What the package and its extras ask for, without the extras that name other extras."""
    extras = PROJECT["project"]["optional-dependencies"]
    lines = [*PROJECT["project"]["dependencies"], *(line for extra in extras.values() for line in extra)]
    return [requirement for requirement in map(Requirement, lines) if requirement.name != "codebind-hf"]


def pins(name: str) -> dict[str, Version]:
    lines = (ROOT / name).read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {package.lower().replace("_", "-"): Version(version) for package, version in pairs}


def lower_bounds() -> dict[str, Version]:
    bounds = {}
    for requirement in requirements():
        for specifier in requirement.specifier:
            if specifier.operator == ">=":
                bounds[requirement.name.lower().replace("_", "-")] = Version(specifier.version)
    return bounds


# Versions


def test_the_oldest_constraints_are_the_lower_bounds() -> None:
    assert pins("constraints-oldest.txt") == lower_bounds()


def test_every_requirement_has_one_bound() -> None:
    for requirement in requirements():
        assert [specifier.operator for specifier in requirement.specifier] in (["=="], [">="]), str(requirement)


def test_the_constraints_are_versions_that_the_project_allows() -> None:
    pinned = pins("constraints.txt")
    needed = {requirement.name.lower().replace("_", "-"): requirement.specifier for requirement in requirements()}
    assert set(needed) <= set(pinned)
    assert [name for name, specifier in needed.items() if name in pinned and pinned[name] not in specifier] == []


def test_every_extra_fits_the_constraints_with_what_it_brings() -> None:
    """By what installed versions ask for; those that are not installed are for the test with a resolver, below."""
    pinned = pins("constraints.txt")
    waiting, seen = [*requirements()], set[str]()
    while waiting:
        requirement = waiting.pop()
        name = requirement.name.lower().replace("_", "-").replace(".", "-")
        assert name in pinned, f"{requirement} is not pinned"
        assert requirement.specifier.contains(pinned[name], prereleases=True), f"{requirement}, pinned {pinned[name]}"
        try:
            installed = distribution(requirement.name)
        except PackageNotFoundError:
            continue
        if name not in seen and Version(installed.version) == pinned[name]:
            seen.add(name)
            asked = map(Requirement, installed.requires or [])
            waiting += [
                each
                for each in asked
                if each.marker is None
                or any(each.marker.evaluate({"extra": extra}) for extra in ("", *requirement.extras))
            ]


@pytest.mark.slow
def test_a_resolver_finds_every_extra_within_the_constraints() -> None:
    """All extras at once, as somebody would ask for them; nothing is installed."""
    lines = [str(requirement) for requirement in requirements()]
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--only-binary", ":all:"]
    done = subprocess.run(
        [*command, "--constraint", "constraints.txt", *lines], cwd=ROOT, capture_output=True, text=True, timeout=200
    )
    if "Temporary failure" in done.stderr or "Failed to establish a new connection" in done.stderr:
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stderr[-2000:]


def test_what_the_package_imports_is_declared() -> None:
    """Also what comes with something else today: at the top of a module by the package itself, else by any extra."""
    of_library = packages_distributions()
    core = {Requirement(line).name.lower().replace("_", "-") for line in PROJECT["project"]["dependencies"]}
    declared = {requirement.name.lower().replace("_", "-") for requirement in requirements()}
    missing = set()
    for path in MODULES:
        tree = tree_of(path)
        at_top = set(map(id, tree.body))
        for statement, dots, module in imports_of(tree):
            library = module.split(".")[0]
            if dots or library == "codebind_hf" or library in sys.stdlib_module_names:
                continue
            names = {name.lower().replace("_", "-") for name in of_library.get(library, [library])}
            if not names & (core if id(statement) in at_top else declared):
                missing.add(f"{path.name}: {library}")
    assert sorted(missing) == []


def test_pre_commit_runs_the_ruff_of_the_project() -> None:
    revisions = {
        hooks["repo"].rsplit("/", 1)[-1]: hooks["rev"] for hooks in read_yaml(".pre-commit-config.yaml")["repos"]
    }
    (version,) = [str(each.specifier) for each in requirements() if each.name == "ruff"]
    assert version == PROJECT["tool"]["ruff"]["required-version"]
    assert revisions["ruff-pre-commit"] == version.replace("==", "v")


def test_the_version_is_the_same_everywhere() -> None:
    version = PROJECT["project"]["version"]
    assert importlib.import_module("codebind_hf").__version__ == version
    assert read_yaml("CITATION.cff")["version"] == version
    assert re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE).group(1) == version


def test_fixes_are_promised_for_this_version() -> None:
    supported = re.findall(r"^\| (\S+) \| yes \|$", (ROOT / "SECURITY.md").read_text(), re.MULTILINE)
    assert supported == [PROJECT["project"]["version"].rpartition(".")[0]]


def test_the_source_distribution_holds_every_document() -> None:
    listed = set((ROOT / "MANIFEST.in").read_text().split())
    # The build brings the readme itself.
    documents = {path.name for path in ROOT.glob("*.md")} - {"README.md"}
    assert documents
    assert documents <= listed


# Files that other machines read


def test_the_citation_has_what_its_format_asks_for() -> None:
    citation = read_yaml("CITATION.cff")
    assert citation["cff-version"] == "1.2.0"
    assert citation["license"] == PROJECT["project"]["license"]
    paper = citation["preferred-citation"]
    for entry in (citation, paper):
        assert entry["title"]
        assert entry["authors"]
        for author in entry["authors"]:
            assert set(author) in ({"name"}, {"given-names", "family-names"})
    assert citation["message"]
    assert paper["title"].startswith("CodeBind: ")
    assert (paper["type"], paper["year"]) == ("conference-paper", 2026)


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_an_issue_form_asks_for_something_and_says_what_for(path: Path) -> None:
    form = read_yaml(path)
    assert form["name"]
    assert form["description"]
    ids = [field["id"] for field in form["body"]]
    assert len(set(ids)) == len(ids)
    assert any(field.get("validations", {}).get("required") for field in form["body"])
    for field in form["body"]:
        assert field["type"] in ("textarea", "input", "dropdown", "checkboxes")
        assert field["attributes"]["label"]


def test_the_bug_form_asks_for_versions_code_and_what_was_expected() -> None:
    required = {
        field["id"]
        for field in read_yaml(".github/ISSUE_TEMPLATE/bug.yml")["body"]
        if field["validations"]["required"]
    }
    assert {"versions", "code", "expected"} <= required
    assert isinstance(read_yaml(".github/ISSUE_TEMPLATE/config.yml")["blank_issues_enabled"], bool)


def jobs_of(path: Path) -> dict[str, dict[str, Any]]:
    return read_yaml(path)["jobs"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_may_only_read_and_must_end(path: Path) -> None:
    workflow = read_yaml(path)
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["concurrency"]["group"]
    # YAML 1.1 reads the key `on` as a truth value.
    assert workflow[True]
    for name, job in jobs_of(path).items():
        assert job["runs-on"], name
        assert 0 < job["timeout-minutes"] <= 120, name
        assert "permissions" not in job, name


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_uses_actions_at_a_commit(path: Path) -> None:
    used = [step["uses"] for job in jobs_of(path).values() for step in job["steps"] if "uses" in step]
    assert used
    assert [action for action in used if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action)] == []


def test_the_workflow_tests_the_oldest_and_the_newest_versions_and_three_systems() -> None:
    rows = jobs_of(ROOT / ".github" / "workflows" / "ci.yml")["test"]["strategy"]["matrix"]["include"]
    assert {row["os"].split("-")[0] for row in rows} == {"ubuntu", "macos", "windows"}
    linux = {row["constraints"]: row["python"] for row in rows if row["os"].startswith("ubuntu")}
    assert PROJECT["project"]["requires-python"] == f">={linux['constraints-oldest.txt']}"
    assert Version(linux[""]) > Version(linux["constraints-oldest.txt"])


# Commands and paths


def targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, re.MULTILINE))


def variables() -> set[str]:
    return set(re.findall(r"^([A-Z_]+) \??:?=", MAKEFILE, re.MULTILINE))


def test_every_target_is_phony() -> None:
    (phony,) = re.findall(r"^\.PHONY: (.+)$", MAKEFILE, re.MULTILINE)
    assert set(phony.split()) == targets()


@pytest.mark.parametrize(
    "name", [".ci/run", ".github/workflows/ci.yml", ".github/PULL_REQUEST_TEMPLATE.md", "CONTRIBUTING.md", "README.md"]
)
def test_the_make_commands_it_names_exist(name: str) -> None:
    text = (ROOT / name).read_text()
    if name.endswith(".md"):
        # In prose only what stands as code is a command.
        text = "\n".join(re.findall(r"`[^`\n]+`|^(?: {4}.*|make .*)$", text, re.MULTILINE))
    words = [word for call in MAKE_CALL.findall(text) for word in call.split()]
    assert words
    assert {word for word in words if "=" not in word} <= targets()
    assert {word.split("=")[0] for word in words if "=" in word} <= variables()


def test_ci_runs_every_test_and_the_wheel() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert re.findall(r"^make (.+)$", script, re.MULTILINE) == ["test test-all test-wheel"]
    recipes = dict(re.findall(r"^(test|test-all):.*\n\t(.+)$", MAKEFILE, re.MULTILINE))
    assert recipes == {"test": '$(PYTEST) -m "not slow"', "test-all": "$(PYTEST) -m slow"}
    assert re.search(r"^test-all: test( |$)", MAKEFILE, re.MULTILINE)


def test_the_paths_that_contributors_are_sent_to_exist() -> None:
    named = re.findall(r"`([\w.-]+/[\w./-]*|[\w-]+\.(?:md|txt|toml))`", (ROOT / "CONTRIBUTING.md").read_text())
    assert len(named) > 40
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_names_that_contributors_are_sent_to_exist() -> None:
    sources = [path.read_text() for folder in ("codebind_hf", "tests") for path in (ROOT / folder).rglob("*.py")]
    named = set(
        re.findall(
            r"`(_?[A-Z][A-Z_]+|_[a-z]\w+|warn_of_idle_terms|ModalityProcessing|CodeBind\w+)`",
            (ROOT / "CONTRIBUTING.md").read_text(),
        )
    )
    assert len(named) > 8
    assert [name for name in named if not any(re.search(rf"\b{name}\b", source) for source in sources)] == []
