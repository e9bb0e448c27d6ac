"""Fetch the library's own tests, which its wheel lacks: unpack them from the source distribution of the same version.

python tests_hf/fetch.py

They land in `.hf_tests/<version>`, which git ignores, with stand-ins for the few modules that the source distribution
lacks too. Nothing of it is part of this repository.
"""

import shutil
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path


VERSION = version("transformers")
TARGET = Path(__file__).parents[1] / ".hf_tests" / VERSION
# Only the top level of the tests is distributed; these names are imported from below it.
STAND_INS = {
    "hf_tests/__init__.py": "",
    "hf_tests/exporters/__init__.py": "",
    "hf_tests/exporters/test_export.py": "class ExportTesterMixin:\n    pass\n",
    "hf_tests/generation/__init__.py": "",
    "hf_tests/generation/test_utils.py": "class GenerationTesterMixin:\n    pass\n",
    "hf_tests/utils/__init__.py": "",
    "hf_tests/utils/test_configuration_utils.py": "config_common_kwargs = {'return_dict': False}\n",
    "fetch_hub_objects_for_ci.py": "def url_to_local_path(url, *_):\n    return url\n",
}


def pip(*arguments: str) -> None:
    # The arguments are written in this file, and no shell reads them.
    command = [sys.executable, "-m", "pip", *arguments, "--quiet", "--disable-pip-version-check"]
    subprocess.run(command, check=True)  # noqa: S603


def fetch() -> None:
    partial = TARGET.with_name(f"{VERSION}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "hf_tests").mkdir(parents=True)
    with tempfile.TemporaryDirectory() as folder:
        pip("download", f"transformers=={VERSION}", "--no-deps", "--no-binary", "transformers", "--dest", folder)
        with tarfile.open(next(Path(folder).glob("*.tar.gz"))) as archive:
            for member in archive.getmembers():
                parts = Path(member.name).parts
                if len(parts) == 3 and parts[1] == "tests" and member.isfile():
                    (partial / "hf_tests" / parts[2]).write_bytes(archive.extractfile(member).read())
    pip("install", "parameterized==0.9.0", "--no-deps", "--target", str(partial))
    for name, text in STAND_INS.items():
        file = partial / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    partial.rename(TARGET)


if __name__ == "__main__":
    if not TARGET.is_dir():
        fetch()
