"""Does every process know which one it is, before anything is trained? For test_launched.py."""

import json

from accelerate.utils import gather_object

from codebind_hf.training.processes import decided_by_main, launched_processes


with launched_processes() as state:
    told = decided_by_main(lambda: f"decided by {state.process_index}")
    # One process writes for all: lines of two may run into each other.
    everyone = gather_object([f"{state.process_index} of {state.num_processes}, {told}"])
    if state.is_main_process:
        print(json.dumps(everyone))
