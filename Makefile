# On a fresh machine run `make study` or `make test`. Each creates .venv and installs its requirements
# once. Variables: VENV, PYTHON, RUNS (folder of the study), STUDY (extra flags for the study),
# PYTHONS (`make environments` tests the wheel in a new environment of each), GPU_OUT and GPU (folder
# and flags of `make gpu`).

PYTHON ?= python3
VENV ?= .venv
RUNS ?= runs
STUDY ?=
PYTHONS ?= $(PYTHON)
GPU_OUT ?= gpu
GPU ?=
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
PYTEST := $(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

# On a machine with a GPU nothing is installed: without VENV, PYTHON is used as it is.
AS_IT_IS := PYTHONPATH=src:.:$(PYTHONPATH) $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON))

.PHONY: study test test-fast test-gpu lint types format docs benchmark gpu environments clean
.DEFAULT_GOAL := study

study: $(VENV)/installed
	$(BIN)/limner compare --out $(RUNS)/study --overwrite $(STUDY)

test: lint types
	$(PYTEST)

test-fast: $(VENV)/installed-dev
	$(PYTEST) -m "not slow"

test-gpu:
	$(AS_IT_IS) -m pytest -m gpu tests/test_gpu.py

lint: $(VENV)/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/installed-dev
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/installed-dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(VENV)/installed-docs
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs site

benchmark: $(VENV)/installed
	$(BIN)/limner benchmark

gpu:
	$(AS_IT_IS) -m benchmarks.gpu $(GPU_OUT) $(GPU)

environments:
	$(PYTHON) tests/environments/check.py --extras $(PYTHONS)

clean:
	rm -rf $(VENV) site .pytest_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) --editable .
	@touch $@

# Tests in a browser need Chromium and its driver; a user who may not install them skips these tests.
$(VENV)/installed-dev: $(VENV)/installed tests/environments/browser.sh
	$(INSTALL) --editable ".[dev]"
	@sh tests/environments/browser.sh
	@touch $@

$(VENV)/installed-docs: $(VENV)/installed
	$(INSTALL) --editable ".[docs]"
	@touch $@
