# `make` alone explains itself. Everything that needs Python creates .venv on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test test-all lint format clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(INSTALLED): requirements.txt requirements-dev.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	touch $(INSTALLED)

demo: $(INSTALLED)  ## train ERM, RWG, SUBG and JTT on drawn faces; pictures in outputs/demo
	$(BIN)/python -m scripts.demo

test: $(INSTALLED)  ## the fast tests (at most 5 minutes on 2 cores)
	$(BIN)/python -m pytest -q -m "not slow and not gpu and not slurm and not browser"

test-all: $(INSTALLED)  ## all tests this machine can run
	$(BIN)/python -m pytest -q

lint: $(INSTALLED)  ## check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(INSTALLED)  ## put style right
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove the environment and caches; runs, data and outputs stay
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis
