"""A whole run on several processes: `accelerate launch run_on_processes.py SETTINGS FOLDER [blind]`.

SETTINGS is JSON of `RunSettings`; "blind" leaves out the look at the bridge.
"""

import json
import sys
from pathlib import Path

from codebind_hf.training import RunSettings, run, runs
from codebind_hf.training.processes import launched_processes


if __name__ == "__main__":
    settings, folder, *others = sys.argv[1:]
    if others == ["blind"]:
        runs.look_once = lambda *given: None
    with launched_processes():
        run(RunSettings(**json.loads(Path(settings).read_text())), Path(folder))
