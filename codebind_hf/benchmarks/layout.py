"""Is a copy of a data set whole? What must lie where, and messages that name everything that does not."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from codebind_hf.benchmarks.rows import Rows


_MOST_NAMED = 20
_FIX = "Fix: complete the copy, or take what is there as a part of the data set (partial=True, --partial)."


@dataclass(frozen=True)
class Expected:
    """A file or folder of a data set.

    Args:
        path: relative to the root; alternatives are separated by " | ", and `*` stands for any name.
        what: it is, in words.
        splits, protocols: that need it; empty for all.
        count: of the files in a folder that no list names.
    """

    path: str
    what: str
    splits: tuple[str, ...] = ()
    protocols: tuple[str, ...] = ()
    count: int | None = None

    def is_needed(self, split: str, protocol: str) -> bool:
        """Whether this split needs it under this protocol."""
        return (not self.splits or split in self.splits) and (not self.protocols or protocol in self.protocols)

    def paths(self, root: Path) -> list[Path]:
        """What of it is there."""
        found: list[Path] = []
        for one in self.path.split(" | "):
            found += sorted(root.glob(one)) if "*" in one else [root / one] if (root / one).exists() else []
        return found


@dataclass(frozen=True)
class Found:
    """A data set that was checked.

    Args:
        rows: the rows whose files are there.
        num_listed: rows that the data set's own lists name.
        num_expected: rows of the published test split, `None` where that is not known.
        missing: files that are not there, relative to the root; only with `partial`.
        lists: files that say what the rows are, relative to the root.
    """

    rows: Rows
    num_listed: int
    num_expected: int | None
    missing: tuple[str, ...]
    lists: tuple[str, ...]

    @property
    def is_whole(self) -> bool:
        """Whether the rows are those of the published split, as far as that is known."""
        return not self.missing and self.num_expected in (None, self.num_listed)

    def fingerprint(self) -> str:
        """SHA-256 over relative paths and sizes of all files, as hex; contents are not read."""
        root, whole = self.rows.root, hashlib.sha256()
        for name in sorted({*self.lists, *self.rows.files()}):
            whole.update(f"{name} {os.stat(root / name).st_size}\n".encode())
        return whole.hexdigest()


def needed_of(layout: Sequence[Expected], split: str, protocol: str) -> tuple[Expected, ...]:
    """What a split needs under a protocol."""
    return tuple(one for one in layout if one.is_needed(split, protocol))


def check_layout(root: Path, title: str, needed: Sequence[Expected], split: str) -> None:
    """Refuse a folder that lacks something that the split needs.

    Args:
        needed: what the split needs, see `needed_of`.

    Raises:
        OSError: naming everything that is missing, and what it is; where a folder below fits better, that too.
    """
    if not root.is_dir():
        lines = [f"  {one.path}: {one.what}" for one in needed]
        raise OSError("\n".join([f"{title}: no folder {root}, which should hold for {split!r}:", *lines]))
    missing = [one for one in needed if not one.paths(root)]
    if not missing:
        return
    lines = [f"  {one.path}: {one.what}" for one in missing]
    head = f"{title}: under {root}, {len(missing)} of {len(needed)} expected things are missing for {split!r}:"
    below = next((each for each in _folders(root) if len([one for one in needed if one.paths(each)]) > 0), None)
    if len(missing) == len(needed):
        hint = f"Fix: give {below}." if below else "Fix: this is another folder; give the one that holds these."
        lines.append(hint)
    raise OSError("\n".join([head, *lines]))


def check_files(
    root: Path,
    title: str,
    rows: Rows,
    needed: Sequence[Expected],
    split: str,
    expected: int | None,
    partial: bool,
) -> Found:
    """Refuse rows whose files are missing, and another number of rows than was published, unless a part will do.

    Raises:
        OSError: files are missing.
        ValueError: the number of rows is wrong, or no row is left.
    """
    listed = len(rows)
    missing = tuple(name for name in rows.files() if not os.path.exists(root / name))
    if missing and not partial:
        rest = [f"  and {len(missing) - _MOST_NAMED} more"] if len(missing) > _MOST_NAMED else []
        number = len(rows.files())
        head = f"{title}: {len(missing)} of {number} files of the {split} split are missing under {root}:"
        raise OSError("\n".join([head, *(f"  {name}" for name in missing[:_MOST_NAMED]), *rest, _FIX]))
    for one in () if partial else needed:
        held = len(list((root / one.path).iterdir())) if one.count is not None else None
        if held != one.count:
            raise ValueError(f"{title}: {root / one.path} holds {held} files; expected: {one.count}. {_FIX}")
    if expected is not None and listed != expected and not partial:
        raise ValueError(
            f"{title}: its lists under {root} name {listed} rows for {split!r}; expected: {expected}. {_FIX}"
        )
    rows = rows.existing(missing) if missing else rows
    if not len(rows):
        raise ValueError(f"{title}: of {listed} rows of the {split} split, not one has its files under {root}.")
    found = [path for one in needed for path in one.paths(root)]
    lists = tuple(sorted({path.relative_to(root).as_posix() for path in found if path.is_file()}))
    return Found(rows, listed, expected, missing, lists)


def lines_of(path: Path, encoding: str = "utf-8-sig") -> list[str]:
    """Lines of a text file that are not empty.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no text.
    """
    try:
        return [line for line in path.read_text(encoding=encoding).splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is no text in {encoding} ({error}).") from error


def split_line(path: Path, number: int, line: str, separator: str | None, parts: int) -> list[str]:
    """A line cut into so many parts, at the separators on its right.

    Raises:
        ValueError: it has fewer, naming file and line.
    """
    cut = line.strip().rsplit(separator, parts - 1)
    if len(cut) != parts:
        raise ValueError(f"{path}, line {number}: got {line.strip()[:100]!r}; expected: {parts} values.")
    return [one.strip() for one in cut]


def by_stem(folder: Path, suffixes: Iterable[str], below: bool = False) -> dict[str, str]:
    """Name without suffix -> name, of the files in a folder (or also those in folders below) with these suffixes."""
    wanted = tuple(suffixes)
    if not folder.is_dir():
        return {}
    if below:
        files: Iterator[Path] = (path for path in folder.rglob("*") if path.suffix.lower() in wanted)
        return {path.stem: path.relative_to(folder).as_posix() for path in sorted(files)}
    with os.scandir(folder) as listing:
        names = sorted(one.name for one in listing if os.path.splitext(one.name)[1].lower() in wanted)
    return {os.path.splitext(name)[0]: name for name in names}


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir())
