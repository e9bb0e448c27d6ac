# Every target makes the environment first when it is missing.
#
# CONSTRAINTS holds the versions to install: constraints.txt those we work with, constraints-oldest.txt the oldest that
# pyproject.toml allows, nothing at all the newest. Give another set an environment of its own:
#     make test VENV=build/oldest CONSTRAINTS=constraints-oldest.txt
CONSTRAINTS ?= constraints.txt
VENV ?= .venv
ifeq ($(OS),Windows_NT)
PYTHON ?= python
SCRIPTS := Scripts
else
PYTHON ?= python3.11
SCRIPTS := bin
endif
BIN := $(VENV)/$(SCRIPTS)
READY := $(VENV)/.ready
CONSTRAIN := $(addprefix --constraint ,$(CONSTRAINTS))
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder
# The environment of `make test-wheel`: the wheel, what the wheel asks for, and nothing else.
WHEEL_VENV := build/wheel
export HF_HUB_OFFLINE = 1
export TOKENIZERS_PARALLELISM = false

.PHONY: env demo real ablation docs test test-all test-hf dist test-wheel fuzz soak quality style clean

env: $(READY)

$(READY): pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(CONSTRAIN) torch
	$(BIN)/python -m pip install --quiet $(CONSTRAIN) --editable ".[dev]"
	touch $(READY)

# One process, as `accelerate launch --num_processes 1` starts it, whose own imports would take seconds.
demo: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python examples/train.py --config examples/recipes/demo.yaml --output_dir runs/demo --resume
	$(BIN)/python examples/search.py --checkpoint runs/demo/checkpoint \
		--query runs/demo/files/audio/world0-default-test-00007.wav \
		--gallery runs/demo/files/manifest.jsonl --modalities image,depth,eeg

# Real senses of packages on frozen encoders of packages: half an hour on two idle cores after 550 MB of downloads. Then
# two of them by command, on three splits, and the report of one split with pictures and players.
real: $(VENV)/.ready-real
	OMP_NUM_THREADS=1 $(BIN)/python examples/real/run.py
	$(BIN)/python examples/real/by_command.py
	$(BIN)/python examples/real/show.py

# The table of docs/evidence.md: an hour and a half at most. `make ablation ARGUMENTS=--quick` is a look at it.
ablation: $(VENV)/.ready-real
	OMP_NUM_THREADS=1 $(BIN)/python examples/ablation/run.py $(ARGUMENTS)

$(VENV)/.ready-real: $(READY)
	$(BIN)/python -m pip install --quiet $(CONSTRAIN) --editable ".[real]"
	touch $@

$(VENV)/.ready-browser: $(READY)
	$(BIN)/python -m pip install --quiet $(CONSTRAIN) --editable ".[browser]"
	touch $@

# The site, in build/site: open index.html there (its search field needs `python -m http.server`). A link to nothing, a page in no menu or a name without docs is an error.
docs: $(VENV)/.ready-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

$(VENV)/.ready-docs: $(READY)
	$(BIN)/python -m pip install --quiet $(CONSTRAIN) --editable ".[docs]"
	touch $@

test: $(READY)
	$(PYTEST) -m "not slow"

# Everything: what `make test` runs, then what it leaves out. A browser of the
# system shows the demo app, where there is one; the site is built.
test-all: test $(VENV)/.ready-browser $(VENV)/.ready-docs
	$(PYTEST) -m slow

# Strange values and damaged files at every door, 100,000 of them.
fuzz: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python tests/scripts/fuzz.py --output runs/fuzz.json

# Runs that are killed, starved and damaged, callers in eight threads, memory over many calls: a quarter of an hour.
soak: $(READY)
	$(BIN)/python tests/scripts/soak.py --output runs/soak.json

# The library's own tests on our classes. Its wheel lacks them, so the first run fetches them; git ignores them.
test-hf: $(READY)
	$(BIN)/python tests_hf/fetch.py
	$(PYTEST) tests_hf

# The wheel is built from the source distribution, so that what the latter lacks shows.
dist: $(READY)
	rm -rf dist
	$(BIN)/python -m build --outdir dist .

# Not even pip is in that environment. Byte-compiling libraries that are imported once costs more than it saves.
test-wheel: dist
	$(BIN)/python -m venv --clear --without-pip $(WHEEL_VENV)
	$(BIN)/python -m pip --python $(WHEEL_VENV) install --quiet --no-compile $(CONSTRAIN) dist/*.whl
	cd $(WHEEL_VENV) && $(SCRIPTS)/python -I ../../tests/scripts/use_wheel.py ../../dist

quality: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

style: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .hf_tests runs build dist *.egg-info
