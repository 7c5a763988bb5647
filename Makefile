# The whole of Baton's set-up and its everyday commands; `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo up test simulate chaos lint lock clean check-python

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /	/' | expand -t 12

setup: $(READY)  ## create the environment in .venv from the hashed lock file

demo: $(READY)  ## run the main job: new data becomes a served model, on this machine
	@$(BIN)/baton demo

up: $(READY)  ## start the local cloud and the workers in the foreground
	@$(BIN)/baton up

test: $(READY)  ## run all tests
	$(BIN)/python -m pytest -n 2 --dist loadfile $(PYTEST_ARGS)

simulate: $(READY)  ## run the real workers through N simulated histories from SEED
	$(BIN)/python -m tests.simulation --seed $(or $(SEED),1) --histories $(or $(N),10000) --processes $(or $(P),2)

chaos: $(READY)  ## kill, freeze and spoil everything under RUNS real runs, and cancel fifty, from SEED
	CHAOS_SEED=$(or $(SEED),1) CHAOS_RUNS=$(or $(RUNS),200) CHAOS_CANCELS=$(or $(CANCELS),50) \
		$(BIN)/python -m pytest -s tests/chaos/test_storm.py tests/chaos/test_cancel.py

lint: $(READY)  ## format check, linter, type checker
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

lock:  ## write requirements.lock anew from pyproject.toml
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-annotate --custom-compile-command "make lock" --upgrade -o requirements.lock

clean:  ## remove the environment and everything the local cloud kept
	rm -rf $(VENV) .baton

check-python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else \
		f"Baton needs Python 3.11 or newer; this is {sys.version.split()[0]}. Set PYTHON=/path/to/python3.11 and run make again.")'

# The lock is whole, so nothing is resolved (--no-deps): older pips look past the pinned google-auth for its extra's sake, and fail
# on the day a newer one is released. `pip check` says if the lock lacks anything. The stamp is written last: a set-up that was
# interrupted is done again.
$(READY): requirements.lock pyproject.toml | check-python
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(BIN)/python -m pip --disable-pip-version-check check
	@touch $(READY)
