"""What users of the library do with the Hub, in a process whose Hub is the stand-in of the tests.

python tests/scripts/push_remotely.py push CHECKPOINT REPOSITORY ARGUMENTS-OF-PUBLISH
python tests/scripts/push_remotely.py load REPOSITORY INPUTS OUTPUTS
"""

import runpy
import sys
from pathlib import Path

import torch


def push(checkpoint: str, repo_id: str, *arguments: str) -> None:
    """With the package: `examples/publish.py`, and then the methods of model and processor."""
    example = Path(__file__).parents[2] / "examples" / "publish.py"
    sys.argv = [str(example), *arguments]
    runpy.run_path(str(example), run_name="__main__")
    from codebind_hf import CodeBindModel, CodeBindProcessor  # noqa: PLC0415

    CodeBindModel.from_pretrained(checkpoint).push_to_hub(repo_id, private=True)
    CodeBindProcessor.from_pretrained(checkpoint).push_to_hub(repo_id)


def load(repo_id: str, inputs: str, outputs: str) -> None:
    """Without the package: load from the Hub by its code, embed, and push a copy from the class that came with it."""
    sys.path.insert(0, str(Path(__file__).parent))
    from load_remotely import TRUSTED, AutoModel, AutoProcessor, pipeline  # noqa: PLC0415

    model, processor = (kind.from_pretrained(repo_id, **TRUSTED) for kind in (AutoModel, AutoProcessor))
    stored = torch.load(inputs, weights_only=False)
    with torch.no_grad():
        embeds = dict(model(**processor(**stored, return_tensors="pt")).embeds)
    embed = pipeline("multimodal-embedding", model=repo_id, device="cpu", output="torch", **TRUSTED)
    found = {"embeds": embeds, "embedding": embed(stored["text"][0])}
    model.push_to_hub(f"{repo_id}-copy")
    processor.push_to_hub(f"{repo_id}-copy")
    assert not [name for name in sys.modules if name.split(".")[0] == "codebind_hf"]
    torch.save({**found, "is_one_class": type(model.config) is model.config_class}, outputs)


if __name__ == "__main__":
    {"push": push, "load": load}[sys.argv[1]](*sys.argv[2:])
