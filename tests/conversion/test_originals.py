"""The registry of originals agrees with the presets, with the documentation, and with itself."""

import importlib.util
import math
import re
from pathlib import Path

import pytest

from codebind_hf.conversion.cards import IMAGEBIND
from codebind_hf.conversion.originals import ORIGINALS, Original, originals_named, originals_table
from codebind_hf.conversion.verification import expected_shapes


ROOT = Path(__file__).parents[2]
MERGES = ROOT / "tests" / "fixtures" / "preprocessing" / "tokenizer" / "bpe_simple_vocab_16e6.txt.gz"
# Parameters that an optimizer's state is kept of, in millions, by file: facts of the training commands.
TRAINED = {
    "Datacomp_L14_ShapeNet.pt": 119.1,
    "Datacomp_L14_objaverse.pt": 119.1,
    "bigG14_sk16_openshape_all.pt": 389,
    "bigG14_openshape_nolvis.pt": 233,
}
WITH_SHAPES = [one for one in ORIGINALS if one.preset and one.kind != "experiment"]


def name_of(original: Original) -> str:
    return f"{original.name}-{original.preset}" + "-withdrawn" * original.is_withdrawn


@pytest.mark.parametrize("original", [one for one in WITH_SHAPES if not one.is_withdrawn], ids=name_of)
def test_a_published_size_is_that_of_the_tensors_that_are_expected(original: Original) -> None:
    """A preset or a number in the wrong row would be off by a tower, 100 MB and more."""
    numbers = sum(math.prod(shape) for shape in expected_shapes(original).values())
    optimizer = 8e6 * TRAINED.get(original.name, 0)
    predicted = 4 * numbers + optimizer
    if original.num_bytes is None:
        assert f"{predicted / 1e9:.3g}" == f"{original.gigabytes}"
    else:
        # Names, offsets and padding of each tensor; the trained parameters are known to three digits only.
        assert -0.004 * optimizer < original.num_bytes - predicted < 1e6 + 0.004 * optimizer


def test_a_withdrawn_file_is_smaller_by_the_stages_that_it_ties() -> None:
    for one in (one for one in ORIGINALS if one.is_withdrawn):
        shapes = expected_shapes(one)
        tied = [key for key in shapes if re.search(r"pc\.perceiver\.layers\.[23]\.", key)]
        saved = sum(4 * math.prod(shapes[key]) for key in tied)
        now = originals_named(one.name)[0]
        assert not now.is_withdrawn
        assert one.num_bytes is not None
        assert now.num_bytes is not None
        assert abs(now.num_bytes - one.num_bytes - saved) < 1e5


def test_every_number_is_well_formed_and_has_a_source() -> None:
    for one in ORIGINALS:
        assert one.sha256 is None or re.fullmatch("[0-9a-f]{64}", one.sha256), one.label
        assert one.source
        assert one.license
        assert one.address
        assert not (one.num_bytes and one.gigabytes), one.label
    assert len({(one.label, one.is_withdrawn) for one in ORIGINALS}) == len(ORIGINALS)
    imagebind = next(one for one in ORIGINALS if one.kind == "imagebind")
    assert imagebind.license.lower().replace(" ", "-") == IMAGEBIND.license


def test_files_of_one_hash_are_of_one_size_and_say_so() -> None:
    by_hash: dict[str, list[Original]] = {}
    for one in ORIGINALS:
        by_hash.setdefault(one.sha256 or one.label, []).append(one)
    for several in by_hash.values():
        assert len({one.num_bytes for one in several}) == 1
        assert len(several) == 1 or all("one hash" in one.note for one in several)


def test_the_page_has_the_table_of_the_registry() -> None:
    text = (ROOT / "docs" / "conversion.md").read_text(encoding="utf-8")
    assert f"<!-- originals: begin -->\n{originals_table()}\n<!-- originals: end -->" in text, (
        "the registry has changed. Fix: python tests/scripts/write_originals.py"
    )


def test_writing_the_page_again_changes_nothing_and_repairs_a_change() -> None:
    specification = importlib.util.spec_from_file_location("w", ROOT / "tests" / "scripts" / "write_originals.py")
    assert specification is not None
    assert specification.loader is not None
    script = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(script)
    text = script.PAGE.read_text(encoding="utf-8")
    assert script.page_with_table(text) == text
    assert script.page_with_table(text.replace("4,803,584,173", "4,803,584,174")) == text


def test_names_that_the_documentation_and_the_example_use_are_registered() -> None:
    text = (ROOT / "docs" / "conversion.md").read_text(encoding="utf-8")
    used = set(re.findall(r"[\w-]+\.(?:pth|pt|bin|txt\.gz)\b", text + (ROOT / "examples" / "convert.py").read_text()))
    unknown = {name for name in used if not originals_named(name)}
    assert unknown == {"eva_g14_objaverse.pt", "eva_g14-audio-asvgg-dur2.pt", "_best.pth"} & used
