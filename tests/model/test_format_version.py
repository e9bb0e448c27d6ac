"""Checkpoints of other versions: older ones become today's, newer ones are refused by name."""

import json
from pathlib import Path

import pytest
from common import small_config

from codebind_hf import CodeBindConfig
from codebind_hf.model import format_version


def test_a_file_without_a_version_is_of_the_first_and_stays_readable_for_code_that_knows_no_versions(
    tmp_path: Path,
) -> None:
    small_config("eeg").save_pretrained(tmp_path)
    assert "format_version" not in json.loads((tmp_path / "config.json").read_text())
    assert CodeBindConfig.from_pretrained(tmp_path).format_version == 1


@pytest.mark.parametrize("version", [0, 2])
def test_a_version_that_nobody_here_knows_is_refused(tmp_path: Path, version: int) -> None:
    small_config("eeg").save_pretrained(tmp_path)
    fields = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**fields, "format_version": version}))
    with pytest.raises(ValueError, match=rf"format_version: got {version}; this code reads 1 to 1. Fix: a newer"):
        CodeBindConfig.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match=f"format_version: got {version}"):
        CodeBindConfig(format_version=version)


def test_older_fields_pass_through_every_version_between(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = {
        1: lambda fields: {**fields, "width": 2 * fields["width"]},
        2: lambda fields: {"size": fields["width"] + 1},
    }
    monkeypatch.setattr(format_version, "MIGRATIONS", steps)
    monkeypatch.setattr(format_version, "FORMAT_VERSION", 3)
    assert format_version.of_this_version({"width": 5}) == {"size": 11, "format_version": 3}
    assert format_version.of_this_version({"width": 5, "format_version": 2}) == {"size": 6, "format_version": 3}
    assert format_version.of_this_version({"size": 7, "format_version": 3}) == {"size": 7, "format_version": 3}
