# `make` lists what there is. Everything runs from .venv, which the first target that needs it creates with pinned versions.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/pip install --quiet -c constraints.txt -e
# One BLAS thread a process: parallelism is by processes (two threads on small matrices are slower than one).
export OMP_NUM_THREADS ?= 1
# Two workers and what the tests start import the same files: compile them once, whatever the shell says.
PYTEST := CI=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 2 --dist worksteal -q --durations=25

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench paper docs gpu-check clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(VENV)/.base: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV), a few minutes the first time ..."
	$(INSTALL) .
	@touch $@

$(VENV)/.dev $(VENV)/.docs: $(VENV)/.%: $(VENV)/.base
	$(INSTALL) '.[$*]'
	@touch $@

demo: $(VENV)/.base ## set up, draw the spectrum of a network on a chorale, train one, and draw it before and after
	$(BIN)/gersgorin-plot --cell rhn --depth 5
	@echo "training a small depth-5 RHN on the chorales ..."
	$(BIN)/rhn train jsb-depth-5 --hidden-size 48 --learning-rate 0.2 --epochs 50 --out runs/demo
	$(BIN)/gersgorin compare runs/demo --before-training --output gersgorin-demo-before-after.png

test: lint ## set up and run lint and the tests, about five minutes on two cores
	$(PYTEST) -m 'not slow and not chaos and not docs'

lint: $(VENV)/.dev ## ruff (check and format), cognitive complexity and mypy, about a minute the first time
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/complexipy --plain
	$(BIN)/mypy

bench: $(VENV)/.base ## ratios against what you would otherwise use, into docs/speed.csv; fails below a floor (FULL=1 for more)
	$(BIN)/python -m benchmarks --table docs/speed.csv $(if $(FULL),--full)

paper: $(VENV)/.base ## measure each claim of the paper from stored studies and weights, three minutes; writes docs/paper.md
	$(BIN)/python -m paper

docs: $(VENV)/.docs ## write the pages of names, commands and rows, and build the site into build/docs, every link checked
	$(BIN)/python docs/reference.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "open build/docs/index.html"

gpu-check: ## on a GPU machine: its tests, timings and a few epochs of ptb-sota (PTB=FOLDER), into gpu-results/
	bash benchmarks/gpu.sh 9 gpu-results $(PTB)

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) .pytest_cache .hypothesis .mypy_cache .ruff_cache .complexipy_cache build *.egg-info
