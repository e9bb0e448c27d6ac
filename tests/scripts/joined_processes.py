"""Does every process know which one it is, before anything is trained? For test_launched.py."""

from codebind_hf.training.processes import decided_by_main, joined_processes


state = joined_processes()
told = decided_by_main(lambda: f"decided by {state.process_index}")
print(f"{state.process_index} of {state.num_processes}, {told}", flush=True)
