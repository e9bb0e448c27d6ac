"""Which rows do two processes with two workers each see of one stream? For test_launched.py; prints JSON."""

import json
import sys

import numpy as np
from accelerate import PartialState
from accelerate.utils import gather_object
from datasets import Dataset, Features, Value

from codebind_hf import CodeBindProcessor
from codebind_hf.data import StreamedDataset
from codebind_hf.model.configuration_codebind import CodeBindConfig
from codebind_hf.training.processes import launched_processes
from codebind_hf.training.stream_batches import StreamBatches
from codebind_hf.training.tokenization import build_tokenizer


def main(state: PartialState, count: int, shards: int, batches: int, first: int) -> None:
    grid = [[Value("float32")]]
    features = Features({"id": Value("string"), "text": Value("string"), "eeg": grid, "imu": grid})
    signals = {"eeg": np.zeros((16, 128), np.float32).tolist(), "imu": np.zeros((6, 256), np.float32).tolist()}
    kinds = ({"imu": signals["imu"], "eeg": None}, {"imu": None, "eeg": signals["eeg"]})
    rows = [{"id": str(n), "text": "a ring", **kinds[n % 4 > 0]} for n in range(count)]
    stream = Dataset.from_list(rows, features=features).to_iterable_dataset(num_shards=shards)
    processor = CodeBindProcessor.from_model_config(CodeBindConfig.from_preset("tiny"), build_tokenizer(["a ring"]))
    data = StreamedDataset(stream, processor, seed=1).restricted(["text", "eeg", "imu"], ["eeg", "imu"], ["text"])
    found = iter(StreamBatches(data, 4, num_workers=2, first=first))
    seen = []
    for _ in range(batches):
        batch = next(found)
        found_kinds = {tuple(sorted(item["tensors"])) for item in batch}
        seen.append({"ids": [item["id"] for item in batch], "kinds": sorted(map(list, found_kinds))})
    everyone = gather_object([seen])
    if state.is_main_process:
        print(json.dumps(everyone))


if __name__ == "__main__":
    with launched_processes() as joined:
        main(joined, *map(int, sys.argv[1:]))
