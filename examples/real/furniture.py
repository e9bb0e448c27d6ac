"""Sweet Home 3D's furniture: textured meshes with an icon, a name, a category and a true size in centimetres.

Debian's `sweethome3d-furniture` (CC-BY-3.0 and CC0; the makers of each model are in its catalogues).
"""

import os
import re
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from things import Thing


_FOLDER = Path("usr/share/sweethome3d/furniture")
_FIELD = re.compile(r"^(\w+)#(\d+)=(.*)$", re.MULTILINE)
_CATALOGUE = "PluginFurnitureCatalog.properties"


def read_furniture(folder: Path, unpacked: Path) -> list[Thing]:
    """Every model of every catalogue; `unpacked` gets the icons and models, which lie in archives.

    Senses are `image` (the icon) and `mesh` (an OBJ file); attributes are `size_cm` (width, height, depth, in the
    axes of the mesh), `turn` (nine numbers that turn the mesh upright, or none) and `maker`.

    Raises:
        OSError: there are no catalogues in `folder`, or no room.
        ValueError: a path in an archive that leads out of it.
    """
    catalogues = sorted((folder / _FOLDER).glob("*.sh3f"))
    if not catalogues:
        raise OSError(f"{folder / _FOLDER}: holds no catalogue of furniture.")
    things = []
    for catalogue in catalogues:
        own = unpacked / catalogue.stem
        with zipfile.ZipFile(catalogue) as archive:
            if not (own / ".whole").is_file():
                _unpack(archive, own)
            fields = _fields(archive.read(_CATALOGUE))
        for number, values in sorted(fields.items()):
            icon, model = (own / values[name].lstrip("/") for name in ("icon", "model"))
            if not (icon.is_file() and model.suffix == ".obj" and model.is_file()):
                continue
            size = [float(values[name]) for name in ("width", "height", "depth")]
            turn = [float(x) for x in values.get("modelRotation", "").split()]
            attributes = {"size_cm": size, "turn": turn, "maker": values.get("creator", "")}
            name = values["name"].strip()
            files = {"image": icon, "mesh": model}
            key = f"{catalogue.stem}/{number}"
            things.append(Thing("furniture", key, name, f"{name}.", values["category"], files, attributes))
    return things


def _fields(catalogue: bytes) -> dict[int, dict[str, str]]:
    """By number of the model; a property file of Java is Latin-1 with escapes."""
    text = re.sub(r"\\u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), catalogue.decode("latin-1"))
    found: dict[int, dict[str, str]] = {}
    for name, number, value in _FIELD.findall(text.replace("\r\n", "\n")):
        found.setdefault(int(number), {})[name] = value
    return found


def _unpack(archive: zipfile.ZipFile, folder: Path) -> None:
    """As a whole or not at all: several processes may be at it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as draft:
        whole = Path(draft) / "whole"
        for member in archive.infolist():
            path = PurePosixPath(member.filename)
            if path.is_absolute() or ".." in path.parts:
                raise ValueError(f"{archive.filename}: got the path {member.filename!r} in its archive.")
            archive.extract(member, whole)
        (whole / ".whole").touch()
        try:
            os.replace(whole, folder)
        except OSError:
            if not (folder / ".whole").is_file():
                raise
