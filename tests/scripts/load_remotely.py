"""What a machine without the package does with published folders: load each by its own code, embed, save it again.

python tests/scripts/load_remotely.py FOLDER

Reads `FOLDER/<name>` (a checkpoint) and `FOLDER/<name>.pt` (inputs of its model), and writes `FOLDER/<name>.out.pt`,
the same of the copy in `FOLDER/<name>-again`, and `FOLDER/facts.json`.
"""

import json
import sys
from pathlib import Path
from typing import Any


class NoPackage:
    """Refuses `codebind_hf`, wherever it is installed."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.split(".")[0] == "codebind_hf":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, NoPackage())

import torch  # noqa: E402
from transformers import AutoConfig, AutoModel, AutoProcessor, pipeline  # noqa: E402


TRUSTED = {"trust_remote_code": True}


def loaded(folder: Path) -> tuple[Any, Any]:
    return AutoModel.from_pretrained(folder, **TRUSTED), AutoProcessor.from_pretrained(folder, **TRUSTED)


def outputs(model: Any, processor: Any, stored: dict[str, Any]) -> dict[str, Any]:
    """Embeddings of stored tensors, what the processor makes of stored raw items, and embeddings of those."""
    with torch.no_grad():
        direct = model(**stored["tensors"], output_reconstructions=True)
        processed = processor(**stored["items"], return_tensors="pt")
        encoded = model(**processed)
    return {
        "embeds": dict(direct.embeds),
        "specific": dict(direct.specific_embeds),
        "reconstructions": dict(direct.reconstructions),
        "shared_codes": {name: ids.shared for name, ids in direct.codes.items()},
        "processed": dict(processed),
        "encoded": dict(encoded.embeds),
    }


def refusal(folder: Path) -> str:
    try:
        AutoModel.from_pretrained(folder, trust_remote_code=False)
    except ValueError as error:
        return str(error)
    return "loaded"


def main(root: Path) -> None:
    torch.set_num_threads(1)
    facts: dict[str, Any] = {"configurations": {}, "added": {}}
    for folder in sorted(path for path in root.iterdir() if (path / "config.json").is_file()):
        stored = torch.load(root / f"{folder.name}.pt", weights_only=False)
        model, processor = loaded(folder)
        torch.save(outputs(model, processor, stored), root / f"{folder.name}.out.pt")
        again = root / f"{folder.name}-again"
        model.save_pretrained(again)
        processor.save_pretrained(again)
        torch.save(outputs(*loaded(again), stored), root / f"{again.name}.out.pt")
        facts["configurations"][folder.name] = type(AutoConfig.from_pretrained(folder, **TRUSTED)).__module__
        facts["added"][folder.name] = processor.added_modalities
    whole = root / "whole"
    facts["some"] = list(AutoModel.from_pretrained(whole, modalities=["text", "eeg"], **TRUSTED).config.modality_names)
    classify = pipeline("zero-shot-image-classification", model=str(whole), **TRUSTED)
    stored = torch.load(root / "whole.pt", weights_only=False)
    picture = stored["items"]["images"][0]
    facts["labels"] = classify(picture, candidate_labels=["a", "b"], hypothesis_template="{}")
    facts["refusal"] = refusal(whole)
    facts["package"] = sorted(name for name in sys.modules if name.split(".")[0] == "codebind_hf")
    (root / "facts.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
