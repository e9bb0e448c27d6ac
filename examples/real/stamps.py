"""Tux Paint's stamps: a picture of an object, a sentence, and people who say it in their languages.

Debian's `tuxpaint-stamps-default` (GPL-2). Who spoke is named in its change log by language, with no word about single
files, so that language and voice are one attribute here.
"""

import re
from pathlib import Path

from things import Thing


_FOLDER = Path("usr/share/tuxpaint/stamps")
# The four with most recordings among the larger ones, as far apart as can be.
LANGUAGES = ("es", "fr", "ru", "ro")


def read_stamps(folder: Path, languages: tuple[str, ...] = LANGUAGES) -> list[Thing]:
    """Every stamp with a picture of pixels and an English sentence.

    Senses are `image` and `speech_<language>`; attributes are the translations, by language, which rates of speech
    are counted with.

    Raises:
        OSError: there are no stamps in `folder`.
    """
    things = []
    root = folder / _FOLDER
    for picture in sorted(root.rglob("*.png")):
        note = picture.with_suffix(".txt")
        if not note.is_file():
            continue
        sentences = _sentences(note)
        if not sentences.get("en"):
            continue
        spoken = {f"speech_{name}": picture.with_name(f"{picture.stem}_desc_{name}.ogg") for name in languages}
        files = {"image": picture, **{sense: file for sense, file in spoken.items() if file.is_file()}}
        place = picture.relative_to(root)
        text = sentences["en"]
        said = {name: sentences[name] for name in languages if name in sentences}
        key = str(place.with_suffix(""))
        things.append(Thing("stamps", key, text, text, place.parts[0], files, {"translations": said}))
    if not things:
        raise OSError(f"{root}: holds no stamp with a picture and a sentence.")
    return things


def _sentences(note: Path) -> dict[str, str]:
    """By language; English is the first line that names none."""
    found: dict[str, str] = {}
    for line in note.read_text(encoding="utf-8", errors="replace").splitlines():
        match = re.match(r"([A-Za-z@_]+)\.utf8=(.*)", line)
        if match:
            found[match[1]] = match[2].strip()
        elif line.strip() and "=" not in line:
            found.setdefault("en", line.strip())
    return found
