"""Write docs/reliability.md from what `make fuzz` and `make soak` counted.

python tests/scripts/write_reliability.py --fuzz runs/fuzz.json --soak runs/soak.json
"""

import argparse
import json
from pathlib import Path

from codebind_hf.evaluation.environment import environment
from codebind_hf.evaluation.report import markdown_table
from codebind_hf.evaluation.writing import write_text


PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
# What stands from here on is written by hand, and stays.
KEPT = "\n## Reported faults\n"
TEXT = """# Reliability

What was done to this software on purpose, and what came of it. The tables are written by
`tests/scripts/write_reliability.py` from the counts of `make fuzz` and `make soak`;
[training.md](training.md#runs) says what a run does when it is hurt, [files.md](files.md) what is read and
within which limits.

## Strange values and damaged files

`make fuzz` hands {cases:,} values and files to every public door (seed {seed}). A call gives a result, or an
error of ours that names what came and where; anything else is *unclear*: another library's error, NaN in a
result, more than ten seconds, or more than 2 GiB beside what is in use.

{fuzz}

Media are a small file of every format that is read, cut, with bytes changed or taken out, or with numbers of a
header made large. Of indexes, checkpoints and adapters one file is damaged or missing.

## Runs and callers that are hurt

`make soak` (seed {soak_seed}). *Same*: the checkpoint has the bits of a run that nothing happened to, or the
answer is that of one thread. *Refused*: an error that names the file, the argument or what to do. *Different*,
*lost* and *unclear* would be faults.

{soak}

Counted {date} with Python {python}, torch {torch} and transformers {transformers} on {cpu_count} CPU cores.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fuzz", type=Path, default=Path("runs/fuzz.json"))
    parser.add_argument("--soak", type=Path, default=Path("runs/soak.json"))
    arguments = parser.parse_args()
    fuzz, soak = (json.loads(file.read_text()) for file in (arguments.fuzz, arguments.soak))
    doors = fuzz["doors"]
    kinds = ("taken", "refused", "unclear")
    lines = [[name, sum(counts.values()), *(counts[kind] for kind in kinds)] for name, counts in doors.items()]
    lines.append(["all", *(sum(line[column] for line in lines) for column in range(1, 5))])
    outcomes = ("same", "refused", "different", "lost", "unclear")
    trials = [
        [
            name.replace("SIGKILL", f"{soak['kills']} SIGKILLs"),
            *(sum(counts.values()), *(counts.get(outcome, 0) for outcome in outcomes)),
        ]
        for name, counts in soak["trials"].items()
    ]
    about = environment()
    text = TEXT.format(
        cases=lines[-1][1],
        seed=fuzz["seed"],
        soak_seed=soak["seed"],
        fuzz=markdown_table(["door", "tried", *kinds], lines),
        soak=markdown_table(["what was done", "tried", *outcomes], trials),
        **{**about, "date": str(about["date"])[:10]},
    )
    _, heading, rest = (PAGE.read_text() if PAGE.exists() else "").partition(KEPT)
    print(f"Wrote {write_text(PAGE, text + heading + rest)}.")


if __name__ == "__main__":
    main()
