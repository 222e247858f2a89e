# `make` lists what there is. Everything runs from .venv, which the first target that needs it creates with pinned versions.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# One BLAS thread a process: parallelism is by processes (two threads on small matrices are slower than one).
export OMP_NUM_THREADS ?= 1
# Two workers and what the tests start import the same files: compile them once, whatever the shell says.
PYTEST := CI=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 2 --dist worksteal -q --durations=25

.DEFAULT_GOAL := help
.PHONY: help demo test test-all test-chaos test-hosts lint bench figures gpu-check docs docs-pictures notebook reference test-docs clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(VENV)/.base: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV), a few minutes the first time ..."
	$(BIN)/pip install --quiet -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.base
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(VENV)/.base ## set up, draw the spectrum of a network on a chorale, train one, and draw it before and after
	$(BIN)/gersgorin-plot --cell rhn --depth 5
	@echo "training a small depth-5 RHN on the chorales, about 20 seconds ..."
	$(BIN)/rhn train jsb-depth-5 --hidden-size 48 --learning-rate 0.2 --epochs 50 --out runs/demo
	$(BIN)/gersgorin compare runs/demo --before-training --limit 1.3 --output gersgorin-demo-before-after.png

test: lint ## set up and run lint and the tests, five to ten minutes on two cores
	$(PYTEST) -m 'not slow and not chaos and not docs'

test-all: lint ## run everything: also the slow tests, test-chaos and test-docs
	$(PYTEST)

test-chaos: $(VENV)/.dev ## long tests: kills, database outages, full and vanished disks, C code under sanitizers
	$(BIN)/python -m pytest -q -m chaos

test-hosts: $(VENV)/.dev ## the numerical tests as on other processors and with other seeds, half an hour
	CI=1 $(BIN)/python tests/hosts.py

lint: $(VENV)/.dev ## ruff (check and format), cognitive complexity and mypy, about a minute the first time
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/complexipy --plain
	$(BIN)/mypy

$(VENV)/.bench: $(VENV)/.dev
	$(BIN)/pip install --quiet -c constraints.txt -e '.[bench]'
	@touch $@

bench: $(VENV)/.bench ## ratios against what you would otherwise use, into docs/speed.csv; fails below a floor (FULL=1 for more)
	$(BIN)/python -m benchmarks --table docs/speed.csv $(if $(FULL),--full)

figures: $(VENV)/.base ## draw the gallery and the pictures of README and docs, by the commands of docs/gallery.md
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python docs/commands.py docs/gallery.md . all

$(VENV)/.docs: $(VENV)/.base
	$(BIN)/pip install --quiet -c constraints.txt -e '.[docs]'
	@touch $@

docs: $(VENV)/.docs ## build the documentation into build/docs, every link checked
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "open build/docs/index.html"

docs-pictures: $(VENV)/.base ## draw the pictures of the tutorials anew, by their own code and commands
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python docs/commands.py docs/tutorial.md build/tutorial
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python docs/commands.py docs/tutorial-chorales.md build/chorales
	for page in tutorial chorales; do for picture in build/$$page/*.png; do cp $$picture docs/pictures/$$page-$${picture##*/}; done; done

notebook: $(VENV)/.dev ## write the notebooks of the tutorials, with their outputs
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python docs/notebook.py

reference: $(VENV)/.base ## write the tables of names and the page of commands from the code
	$(BIN)/python docs/reference.py

test-docs: $(VENV)/.dev ## run the code of README, the commands of the tutorial and the guides, and the examples
	$(BIN)/python -m pytest -q -m docs tests/project

gpu-check: ## on a GPU machine: its tests, timings and a few epochs of ptb-sota (PTB=FOLDER), into gpu-results/
	bash benchmarks/gpu.sh 9 gpu-results $(PTB)

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) .pytest_cache .hypothesis .mypy_cache .ruff_cache .complexipy_cache build *.egg-info
