# `make` alone explains itself. Everything that needs Python creates .venv on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
EXTRAS := $(VENV)/.extras

.DEFAULT_GOAL := help
.PHONY: docs golden test-oldest help demo bench test test-slow test-all lint format clean faults

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(INSTALLED): requirements.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	touch $(INSTALLED)

# Only the site and the slow tests need these: the site, the notebook and the trackers.
$(EXTRAS): $(INSTALLED)
	$(BIN)/python -m pip install --quiet -e ".[docs,wandb,mlflow]"
	touch $(EXTRAS)

demo: $(INSTALLED)  ## train four methods on drawn faces; pictures in outputs/demo
	PYTHON=$(BIN)/python recipes/demo.sh

bench: $(INSTALLED)  ## this project beside the conventional loop; table in outputs/bench
	$(BIN)/python -m benchmarks.run

test: $(INSTALLED)  ## the fast tests (4 minutes on 2 cores)
	$(BIN)/python -m pytest -q -n auto --dist loadfile -m "not slow and not gpu and not slurm and not browser"

test-slow: $(EXTRAS)  ## the others: slow, slurm, browser
	$(BIN)/python -m pytest -q -n auto --dist loadfile -m "slow and not slurm and not browser"
	$(BIN)/python -m pytest -q -m "slurm or browser"

test-all: $(EXTRAS)  ## all tests this machine can run
	$(BIN)/python -m pytest -q

test-oldest:  ## the fast tests once with the oldest versions that requirements.txt allows
	test -x .venv-oldest/bin/python || $(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet -r requirements-dev.txt -c requirements-oldest.txt
	.venv-oldest/bin/python -m pytest -q -n auto --dist loadfile -m "not slow and not gpu and not slurm and not browser"

golden: $(INSTALLED)  ## losses of all presets bit by bit as in another commit: make golden BASE=<commit>
	@test -n "$(BASE)" || { echo "name a commit: make golden BASE=HEAD~1"; exit 2; }
	folder=$$(mktemp -d) && trap 'git worktree remove --force "$$folder/base"; rm -rf "$$folder"' EXIT && \
	git worktree add --quiet --detach "$$folder/base" $(BASE) && \
	$(BIN)/python -m tests.golden.record --out "$$folder/ours.json" --work "$$folder/data" && \
	python="$$PWD/$(BIN)/python" && (cd "$$folder/base" && \
	"$$python" -m tests.golden.record --out "$$folder/base.json" --work "$$folder/base-data") && \
	$(BIN)/python -m tests.golden.compare "$$folder/base.json" "$$folder/ours.json"

faults: $(INSTALLED)  ## kill runs 200 times, fail their disk, damage their files (an hour)
	FAULT_KILLS=200 $(BIN)/python -m pytest -q tests/faults

lint: $(INSTALLED)  ## check style, and the types of the public API
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(EXTRAS)  ## build the documentation in site/; warnings are errors
	$(BIN)/python -m mkdocs build --strict

format: $(INSTALLED)  ## put style right
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove the environment and caches; runs, data and outputs stay
	rm -rf $(VENV) .venv-oldest .pytest_cache .ruff_cache .hypothesis
