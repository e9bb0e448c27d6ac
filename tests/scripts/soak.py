"""Hurt runs and callers on purpose, and count what is lost: `make soak`.

    python tests/scripts/soak.py --output runs/soak.json
    python tests/scripts/soak.py --kills 500 --output runs/soak.json

Kills `examples/train.py` at random moments on one and on two processes and resumes it to the same bits; fills its
disk, takes its permissions, kills one of its processes and a worker that loads rows; damages every file of a
checkpoint; calls encode, a pipeline and an index from eight threads against the answers of one; and watches memory
over many calls. Exits with 1 if anything was lost, differed, or ended without a clear error.
"""

import argparse
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from codebind_hf import CodeBindModel, CodeBindProcessor
from codebind_hf.data import NineSenses
from codebind_hf.inference import CodeIndex
from codebind_hf.inference.pipelines import MultimodalEmbeddingPipeline
from codebind_hf.training import RunSettings, run
from codebind_hf.training.checkpoints import complete_checkpoints


ROOT = Path(__file__).parents[2]
TRAIN = ROOT / "examples" / "train.py"
SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
MODALITIES = ["text", "image", "audio"]
STAGES = ("bridge", "bind")
ENVIRONMENT = {
    **os.environ,
    **{"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "ACCELERATE_USE_CPU": "true"},
    "PYTHONPATH": str(ROOT),
}
# An error that a user can read begins so; a traceback does not.
CLEAR = "error: "

Outcome = tuple[str, str]


class Bench:
    """A small run in a folder, on one or two processes.

    Args:
        folder: for everything; removed by who made it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        rows = NineSenses("train", num_bridge=8, num_target=8, modalities=MODALITIES).export(folder / "rows")
        training = {
            **{"max_steps": 12, "per_device_train_batch_size": 4, "logging_steps": 4, "warmup_steps": 0},
            **{"disable_tqdm": True, "save_minutes": 0.0, "use_cpu": True},
        }
        model = {f"{name}_config": SMALL for name in ("text", "vision", "audio", "decoder")}
        self.settings = {"data": {"manifest": str(rows)}, "recipe": {"model": model, "training": training}}
        (folder / "run.yaml").write_text(json.dumps(self.settings))
        self._straight: dict[int, str] = {}
        self.seconds: dict[int, float] = {}

    def command(self, output: Path, processes: int, *flags: str) -> list[str]:
        """The command that starts or resumes a run."""
        launch = [sys.executable]
        if processes > 1:
            port = int(np.random.default_rng().integers(20_000, 60_000))
            launch += ["-m", "accelerate.commands.accelerate_cli", "launch", "--multi_gpu", "--num_machines", "1"]
            launch += ["--num_processes", str(processes), "--mixed_precision", "no", "--dynamo_backend", "no"]
            launch += ["--main_process_port", str(port)]
        return [*launch, str(TRAIN), "--config", str(self.folder / "run.yaml"), "--output_dir", str(output), *flags]

    def start(self, output: Path, processes: int = 1, *flags: str, **options: Any) -> subprocess.Popen:
        """A run in a process group of its own."""
        with (output.parent / f"{output.name}.log").open("a") as log:
            usual = {"env": ENVIRONMENT, "stdout": log, "stderr": subprocess.STDOUT, "start_new_session": True}
            return subprocess.Popen(self.command(output, processes, *flags), **{**usual, **options})

    def finish(self, output: Path, processes: int = 1, *flags: str, **options: Any) -> tuple[int, str]:
        """Run to the end: exit status, and what was said."""
        process = self.start(output, processes, *flags, **options)
        process.wait(timeout=300)
        return process.returncode, (output.parent / f"{output.name}.log").read_text()

    def straight(self, processes: int) -> str:
        """Digest of the checkpoint of a run that nothing happens to."""
        if processes not in self._straight:
            output, begin = self.folder / f"straight-{processes}", time.monotonic()
            status, said = self.finish(output, processes)
            self.seconds[processes] = time.monotonic() - begin
            if status:
                raise SystemExit(f"error: a run that nothing happens to failed:\n{said[-2000:]}")
            self._straight[processes] = digest(output)
        return self._straight[processes]


def digest(output: Path) -> str:
    return json.loads((output / "run.json").read_text())["checkpoint"]


def kills(bench: Bench, number: int, seed: int) -> Iterator[Outcome]:
    """SIGKILL at random moments, on one process and on two in turn; each run goes on until it is done."""
    chance, done, part = np.random.default_rng(seed), 0, 0
    while done < number:
        processes = 1 + part % 2
        output, part = bench.folder / f"killed-{part}", part + 1
        expected, length = bench.straight(processes), bench.seconds[processes]
        while True:
            process = bench.start(output, processes, "--resume")
            try:
                process.wait(timeout=chance.uniform(0.2, length))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                done += 1
                if alive := survivors(output):
                    yield "lost", f"processes {alive} outlive their launcher"
                if done < number:
                    continue
                process = bench.start(output, processes, "--resume")
                process.wait(timeout=300)
            break
        said = (output.parent / f"{output.name}.log").read_text()
        if process.returncode or not (output / "checkpoint").is_dir():
            yield "lost", f"{processes} processes: {said[-500:]}"
        else:
            yield ("same" if digest(output) == expected else "different"), f"{processes} processes"
        shutil.rmtree(output)


def survivors(output: Path) -> list[int]:
    """Processes of a run that are there ten seconds after their launcher was killed."""
    end, alive = time.monotonic() + 10, [0]
    while alive and time.monotonic() < end:
        alive = [
            each.pid
            for each in psutil.process_iter(["cmdline"])
            if str(output) in (each.info["cmdline"] or ()) and each.status() != psutil.STATUS_ZOMBIE
        ]
        time.sleep(0.1 if alive else 0)
    return alive


def full_disk(bench: Bench) -> Iterator[Outcome]:
    """No file may grow beyond a size, as where the disk is full; then it may, and the run goes on."""
    expected = bench.straight(1)
    for size in (1_000, 10_000, 100_000, 300_000, 400_000):
        output = bench.folder / f"full-{size}"

        def limit(size: int = size) -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

        # Its words go to a pipe, which no limit holds for.
        done = subprocess.run(
            bench.command(output, 1), env=ENVIRONMENT, preexec_fn=limit, capture_output=True, text=True, timeout=300
        )
        if not done.returncode or CLEAR not in done.stderr:
            yield "unclear", f"at {size} bytes: {done.returncode}, {done.stderr[-300:]}"
            continue
        if (output / "checkpoint").exists():
            yield "lost", f"at {size} bytes half a checkpoint is left under its final name"
            continue
        status, said = bench.finish(output, 1, "--resume")
        yield ("same" if not status and digest(output) == expected else "lost"), f"{size} bytes: {said[-300:]}"


def read_only(bench: Bench) -> Iterator[Outcome]:
    """A folder that may not be written to."""
    place = bench.folder / "closed"
    place.mkdir()
    if os.geteuid() == 0:
        # Permissions do not hold for this user; a file where a folder should be does.
        (place / "file").write_text("")
        place = place / "file"
    else:
        place.chmod(0o500)
    done = subprocess.run(
        bench.command(place / "run", 1), env=ENVIRONMENT, capture_output=True, text=True, timeout=300
    )
    yield ("refused" if done.returncode and CLEAR in done.stderr else "unclear"), done.stderr[-300:]


def dead_rank(bench: Bench) -> Iterator[Outcome]:
    """One of two processes dies; the other must end within a minute, and the run goes on."""
    expected, output = bench.straight(2), bench.folder / "dead"
    process = bench.start(output, 2)
    while process.poll() is None and not complete_checkpoints(output / STAGES[0]):
        time.sleep(0.2)
    ranks = [each for each in psutil.Process(process.pid).children(recursive=True) if "LOCAL_RANK" in each.environ()]
    ranks[-1].kill()
    begin = time.monotonic()
    try:
        process.wait(timeout=60)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        yield "lost", "the other process was still there after a minute"
        return
    yield ("refused" if process.returncode else "unclear"), f"after {time.monotonic() - begin:.0f} s"
    status, said = bench.finish(output, 2, "--resume")
    yield ("same" if not status and digest(output) == expected else "lost"), said[-300:]


def killed_worker(bench: Bench) -> Iterator[Outcome]:
    """A process that loads rows dies, as when memory runs out."""
    config = bench.folder / "run.yaml"
    settings = json.loads(config.read_text())
    settings["recipe"]["training"]["dataloader_num_workers"] = 1
    settings["recipe"]["training"]["max_steps"] = 300
    other = bench.folder / "workers.yaml"
    other.write_text(json.dumps(settings))
    output = bench.folder / "workers"
    command = [*bench.command(output, 1)]
    command[command.index(str(config))] = str(other)
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while process.poll() is None and not complete_checkpoints(output / STAGES[0]):
        time.sleep(0.2)
    workers = psutil.Process(process.pid).children(recursive=True)
    while process.poll() is None and not workers:
        workers = psutil.Process(process.pid).children(recursive=True)
    for worker in workers:
        worker.kill()
    said, _ = process.communicate(timeout=120)
    yield ("refused" if process.returncode and CLEAR in said else "unclear"), said[-300:]


def damaged_files(bench: Bench) -> Iterator[Outcome]:
    """Every file of the newest checkpoint missing, cut and changed: refused by name, or an earlier one is taken."""
    expected = bench.straight(1)
    first = bench.folder / "to-damage"
    process = bench.start(first)
    while len(complete_checkpoints(first / STAGES[1])) < 2 and process.poll() is None:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    newest = complete_checkpoints(first / STAGES[1])[0].relative_to(first)
    # As the command gives itself, whose bits these have to be.
    torch.set_num_threads(os.cpu_count() or 1)
    names = sorted(path.name for path in (first / newest).iterdir() if path.suffix not in ("", ".py"))
    for file in names:
        for damage in ("missing", "cut", "changed"):
            output = bench.folder / "damaged"
            shutil.copytree(first, output)
            path = output / newest / file
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 1
            if damage == "missing":
                path.unlink()
            else:
                path.write_bytes(content if damage == "changed" else content[: len(content) // 2])
            try:
                run(RunSettings(**bench.settings), output, resume=True)
                yield ("same" if digest(output) == expected else "different"), f"{file} {damage}"
            except (ValueError, OSError) as error:
                yield "refused", f"{file} {damage}: {error}"
            shutil.rmtree(output)


def loaded(bench: Bench) -> tuple[CodeBindModel, CodeBindProcessor, list[dict[str, Any]]]:
    """The model of a run, its processor, and rows that it has not seen."""
    bench.straight(1)
    folder = bench.folder / "straight-1" / "checkpoint"
    rows = list(NineSenses("test", num_rows=48, modalities=MODALITIES))
    return CodeBindModel.from_pretrained(folder), CodeBindProcessor.from_pretrained(folder), rows


def threads(bench: Bench) -> Iterator[Outcome]:
    """Eight threads on one model, one pipeline and one index, against the answers of one thread."""
    model, processor, rows = loaded(bench)
    pipeline = MultimodalEmbeddingPipeline(model=model, processor=processor)
    index = CodeIndex.from_model(model)
    codes = model.encode({"image": [row["image"] for row in rows]}, processor=processor, output="codes")["image"]
    index.add(codes, "image")
    queries = model.encode({"audio": [row["audio"] for row in rows]}, processor=processor, quantize=False)["audio"]
    calls: dict[str, Callable[[int], Any]] = {
        "encode": lambda place: model.encode({name: [rows[place][name]] for name in MODALITIES}, processor=processor),
        "pipeline": lambda place: pipeline({"image": rows[place]["image"]}),
        "search": lambda place: index.search(queries[place : place + 1], top_k=5)[:2],
    }
    for name, call in calls.items():
        alone = [as_arrays(call(place)) for place in range(len(rows))]
        with ThreadPoolExecutor(8) as pool:
            together = [as_arrays(result) for result in pool.map(call, range(len(rows)))]
        for one, other in zip(alone, together, strict=True):
            yield ("same" if same_arrays(one, other) else "different"), name


def memory(bench: Bench, calls: int = 2000) -> Iterator[Outcome]:
    """Memory over many calls: after the first tenth it may not grow by more than 20 MB."""
    model, processor, rows = loaded(bench)
    process, begin = psutil.Process(), 0
    for call in range(calls):
        row = rows[call % len(rows)]
        model.encode({name: [row[name]] for name in MODALITIES}, processor=processor)
        if call == calls // 10:
            begin = process.memory_info().rss
    grown = (process.memory_info().rss - begin) / 1e6
    yield ("same" if grown < 20 else "different"), f"{grown:.1f} MB more after {calls} calls"


def as_arrays(value: Any) -> list[np.ndarray]:
    """All arrays in nested results."""
    if isinstance(value, dict):
        return [array for key in sorted(value) for array in as_arrays(value[key])]
    if isinstance(value, (list, tuple)) and not all(isinstance(each, (int, float)) for each in value):
        return [array for each in value for array in as_arrays(each)]
    return [np.asarray(value)]


def same_arrays(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return len(one) == len(other) and all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


TRIALS: dict[str, Callable[..., Iterator[Outcome]]] = {
    "runs with SIGKILL at random moments, resumed": kills,
    "no file may grow (as a full disk), then resumed": full_disk,
    "folder that cannot be written": read_only,
    "one of two processes dies, then resumed": dead_rank,
    "a process that loads rows dies": killed_worker,
    "file of a checkpoint missing, cut or changed, resumed": damaged_files,
    "eight threads against one": threads,
    "memory over 2,000 calls": memory,
}
GOOD = ("same", "refused")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--only", help="part of a trial's name")
    parser.add_argument("--output", type=Path, help="JSON file for the counts")
    arguments = parser.parse_args()
    counts: dict[str, dict[str, int]] = {}
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        for name, trial in TRIALS.items():
            if arguments.only and arguments.only not in name:
                continue
            own = counts[name] = {}
            options = (arguments.kills, arguments.seed) if trial is kills else ()
            for outcome, words in trial(bench, *options):
                own[outcome] = own.get(outcome, 0) + 1
                if outcome not in GOOD:
                    print(f"{name}: {outcome}: {words}", flush=True)
            shown = ", ".join(f"{number} {outcome}" for outcome, number in own.items())
            print(f"{name}: {shown} ({time.monotonic() - begin:.0f} s)", flush=True)
    result = {"kills": arguments.kills, "seed": arguments.seed, "trials": counts}
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(result, indent=1))
    if any(outcome not in GOOD for own in counts.values() for outcome in own):
        raise SystemExit("error: something was lost, differed, or ended without a clear error; see above.")


if __name__ == "__main__":
    main()
