# Every target makes the environment first when it is missing.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export HF_HUB_OFFLINE = 1
export TOKENIZERS_PARALLELISM = false

.PHONY: env demo test test-hf quality style clean

env: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $(READY)

demo: $(READY)
	$(BIN)/accelerate launch --num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no \
		examples/train.py --config examples/recipes/demo.yaml --output_dir runs/demo
	$(BIN)/python examples/search.py --checkpoint runs/demo/checkpoint \
		--query runs/demo/files/audio/world0-default-test-00007.wav \
		--gallery runs/demo/files/manifest.jsonl --senses image,depth,eeg

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

# The library's own tests on our classes. Its wheel lacks them, so the first run fetches them; git ignores them.
test-hf: $(READY)
	$(BIN)/python tests_hf/fetch.py
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile tests_hf

quality: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

style: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .hf_tests runs build dist *.egg-info
