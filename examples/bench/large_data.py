"""Does data that is far larger than memory train, and do the loader's workers keep up?

    python examples/bench/large_data.py --folder build/large --workers 0,1,2
    python examples/bench/large_data.py --folder build/large --walk 120  # again and again

Writes JPEG pictures and WAV sounds into tar shards (2 GB; what is there already is used), names the shards again and
again until they are `--rows` rows, and trains `--steps` steps on the stream. For every number of workers it prints how
much memory the process and its workers take above what the model alone does, and the time of a step with the loader in
ratio to the time of a step on a batch that is there already. With `--lazy` the same rows come from files by number
instead.

`--walk` reads one epoch of batches as training does, without their pictures, for so many seconds, and is then killed;
the next call goes on where that one was. When the epoch is over it says how often every row was seen.
"""

import argparse
import io
import os
import signal
import tarfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import soundfile
import torch
from datasets import load_dataset
from PIL import Image
from tqdm.auto import tqdm

from codebind_hf.data import CodeBindCollator, LazyDataset, StreamedDataset
from codebind_hf.data.items import Draw
from codebind_hf.training import CodeBindTrainer, CodeBindTrainingArguments, Recipe, build
from codebind_hf.training.stream_batches import StreamBatches


SHARD_ROWS, SECONDS, RATE = 500, 2, 16_000


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="for shards and files")
    parser.add_argument("--gigabytes", type=float, default=2.0, help="of shards on disk")
    parser.add_argument("--rows", type=int, default=200_000, help="rows of an epoch, by naming shards repeatedly")
    parser.add_argument("--size", type=int, default=256, help="of a picture's side")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--workers", default="0,1,2", help="numbers of loader workers to compare")
    parser.add_argument("--lazy", action="store_true", help="rows by number instead of a stream")
    parser.add_argument("--walk", type=float, metavar="SECONDS", help="read an epoch, so long at a time")
    return parser.parse_args()


def row_bytes(number: int, size: int) -> dict[str, bytes]:
    """A picture of noise over a colour, and a tone: as large as real ones, and none like another."""
    rng = np.random.default_rng(number)
    picture, sound = io.BytesIO(), io.BytesIO()
    levels = rng.integers(0, 200, 3) + rng.integers(0, 56, (size, size, 3))
    Image.fromarray(levels.astype(np.uint8)).save(picture, "jpeg", quality=90)
    phase = 2 * np.pi * rng.uniform(100, 2000) * np.arange(SECONDS * RATE) / RATE
    soundfile.write(sound, 0.3 * np.sin(phase), RATE, format="WAV")
    return {"jpg": picture.getvalue(), "wav": sound.getvalue(), "txt": f"thing number {number % 997}".encode()}


def write_shards(folder: Path, gigabytes: float, size: int) -> list[Path]:
    """Shards of `gigabytes` in all."""
    folder.mkdir(parents=True, exist_ok=True)
    shards, written, number = [], 0, 0
    with tqdm(total=round(gigabytes * 1e9), desc="Writing shards", unit="B", unit_scale=True) as bar:
        while written < gigabytes * 1e9:
            path = folder / f"{len(shards):05d}.tar"
            if not path.is_file():
                draft = path.with_suffix(".draft")
                with tarfile.open(draft, "w") as tar:
                    for each in range(number, number + SHARD_ROWS):
                        for ending, content in row_bytes(each, size).items():
                            entry = tarfile.TarInfo(f"{each:07d}.{ending}")
                            entry.size = len(content)
                            tar.addfile(entry, io.BytesIO(content))
                draft.rename(path)
            number += SHARD_ROWS
            shards.append(path)
            written += path.stat().st_size
            bar.update(path.stat().st_size)
    return shards


class Files:
    """Rows by number, of pictures and sounds that are written when they are first asked for and used again."""

    def __init__(self, folder: Path, count: int, size: int) -> None:
        self.folder, self.count, self.size = folder, count, size
        self.row_modalities = [("text", "image", "audio")] * count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> dict[str, Any]:
        base = self.folder / f"{number % 5000:05d}"
        if not base.with_suffix(".wav").is_file():
            for ending, content in row_bytes(number % 5000, self.size).items():
                base.with_suffix(f".{ending}").write_bytes(content)
        text = f"thing number {number % 997}"
        return {
            "id": str(number),
            "text": text,
            "image": str(base.with_suffix(".jpg")),
            "audio": str(base.with_suffix(".wav")),
        }


def megabytes() -> float:
    """What this process and its workers take now; pages that they share count once."""
    own = psutil.Process()
    return sum(each.memory_full_info().pss for each in (own, *own.children(recursive=True))) / 1e6


def stream_of(shards: list[Path], rows: int, processor: Any, has_pictures: bool = True) -> StreamedDataset:
    """The shards, named again and again until they hold so many rows."""
    named = [str(shards[i % len(shards)]) for i in range(-(-rows // SHARD_ROWS))]
    stream = load_dataset("webdataset", data_files={"train": named}, split="train", streaming=True)
    columns = {"wav": "audio", "txt": "text", "__key__": "id"} | ({"jpg": "image"} if has_pictures else {})
    return StreamedDataset(stream, processor, columns).restricted(("text", "image", "audio"), ("audio",), ("text",))


class Opened:
    """In place of a processor: sounds are read and decoded, and become one number each."""

    def __call__(self, return_tensors: str, **values: list[Any]) -> dict[str, torch.Tensor]:
        names = {"text": "input_ids", "audio": "input_features"}
        return {names[argument]: torch.zeros(len(each), 1) for argument, each in values.items()}


def walk(data: StreamedDataset, shards: list[Path], arguments: argparse.Namespace) -> None:
    """Go on with an epoch where the last call was killed."""
    seen_file, workers = arguments.folder / "seen.txt", max(map(int, arguments.workers.split(",")))
    seen = seen_file.read_text().splitlines() if seen_file.is_file() else []
    batches = iter(StreamBatches(data, arguments.batch_size, num_workers=workers, first=len(seen)))
    found, begun = sum(len(line.split()) for line in seen), time.perf_counter()
    print(f"goes on after {found} rows", flush=True)
    start = begun
    with seen_file.open("a") as file:
        while found < arguments.rows:
            names = [item["id"] for item in next(batches)]
            if start == begun:
                start = time.perf_counter()
                print(f"the first new batch came after {start - begun:.0f} s", flush=True)
            if len(names) > arguments.rows - found:
                raise SystemExit(f"{found + len(names)} rows of {arguments.rows} came by.")
            found += len(names)
            print(*names, file=file, flush=True)
            if time.perf_counter() - start > arguments.walk:
                print(f"killed after {found} rows; {megabytes():.0f} MB", flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
    counts = Counter(name for line in seen_file.read_text().splitlines() for name in line.split())
    wanted = Counter(
        f"{shard * SHARD_ROWS + row:07d}"
        for shard in (i % len(shards) for i in range(arguments.rows // SHARD_ROWS))
        for row in range(SHARD_ROWS)
    )
    if counts != wanted:
        raise SystemExit(f"{sum((wanted - counts).values())} rows are lost, {sum((counts - wanted).values())} twice.")
    print(f"{found} rows, each once, in {len(seen)} batches before this call and the rest in it.")


def main() -> None:
    arguments = parse_arguments()
    if arguments.walk is not None:
        shards = write_shards(arguments.folder, arguments.gigabytes, arguments.size)
        walk(stream_of(shards, arguments.rows, Opened(), has_pictures=False), shards, arguments)
        return
    recipe = Recipe(preset="tiny")
    texts = [f"thing number {number}" for number in range(997)]
    model, processor = build(recipe, ["text", "image", "audio"], texts)
    if arguments.lazy:
        folder = arguments.folder / "files"
        folder.mkdir(parents=True, exist_ok=True)
        items: Any = LazyDataset(Files(folder, arguments.rows, arguments.size), processor)
        first = [items.take(Draw(number)) for number in range(arguments.batch_size)]
    else:
        shards = write_shards(arguments.folder, arguments.gigabytes, arguments.size)
        items = stream_of(shards, arguments.rows, processor)
        rows = iter(items.part(0))
        first = [next(rows).item for _ in range(arguments.batch_size)]
    bare, start = times(model, processor, [first] * arguments.steps, arguments, 0)
    print(f"a step on a batch that is there: 1.00 of {1000 * bare:.0f} ms; memory {start:.0f} MB")
    for workers in map(int, arguments.workers.split(",")):
        taken, most = times(model, processor, items, arguments, workers)
        print(f"{workers} workers: {taken / bare:.2f} of it; memory {most - start:+.0f} MB", flush=True)


class Same(torch.utils.data.Dataset):
    """One batch, again and again."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, position: int) -> Any:
        return self.items[position]


def times(model: Any, processor: Any, items: Any, arguments: argparse.Namespace, workers: int) -> tuple[float, float]:
    """Seconds of a step, the median, and the most memory that any step saw."""
    if isinstance(items, list):
        items = Same([row for batch in items for row in batch])
    args = CodeBindTrainingArguments(
        output_dir=str(arguments.folder / "run"),
        max_steps=arguments.steps,
        per_device_train_batch_size=arguments.batch_size,
        dataloader_num_workers=workers,
        dataloader_drop_last=True,
        init_codebooks=False,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        logging_steps=10**6,
    )
    collator = CodeBindCollator(processor)
    trainer = CodeBindTrainer(model=model, args=args, train_dataset=items, data_collator=collator)
    stamps: list[float] = []
    memory = [0.0]
    step = trainer.training_step

    def timed(*given: Any, **named: Any) -> Any:
        if len(stamps) % 10 == 9:
            memory.append(megabytes())
        stamps.append(time.perf_counter())
        return step(*given, **named)

    trainer.training_step = timed  # type: ignore[method-assign]
    trainer.train()
    return float(np.median(np.diff(stamps[3:]))), max(memory)


if __name__ == "__main__":
    main()
