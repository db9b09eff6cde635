# Two commands do everything from a fresh clone: `make demo` and `make test`. They need Python (>= 3.11) and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test quick coverage mutants lint types matrix device format clean

demo: $(READY)
	$(BIN)/gradlab compare --out gradlab-report

test: lint types
	$(BIN)/python -m pytest -n 2 --dist worksteal -q --durations=12

# What needs no compiler, browser or installation, in under 90 seconds: the core, the lab, the house rules.
quick: $(READY)
	$(BIN)/python -m pytest -n 2 -q -m "not slow" tests/core tests/lab tests/house

# Branch coverage, which takes half as long again as the tests alone. Of some tests: make coverage COVERED=tests/core
COVERED ?= tests parity_tests
coverage: $(READY)
	$(BIN)/python -m pytest -n 2 --dist worksteal -q --cov --cov-report=term $(COVERED)

# Every change that no test notices in what judges: the parity and the diagnosis. Hours for all of it; of one module:
# make mutants MUTATE="gradlab_core.parity.tolerance*". The change itself: mutmut show NAME.
MUTATE ?=
mutants: $(READY)
	$(BIN)/mutmut run $(MUTATE)
	$(BIN)/mutmut results | grep -v ": not checked" || true

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(READY)
	$(BIN)/mypy

# A telling part of the tests with the oldest and the newest JAX, for every Python that is found or named: PYTHONS="…".
matrix:
	$(PYTHON) tests/matrix.py

# On a machine with a GPU, with what is installed there: parity, norms, monitors and steps, one table in under 8 minutes.
device:
	$(PYTHON) -m benchmarks.device

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[all]" --group dev
	touch $(READY)

clean:
	rm -rf $(VENV) .matrix mutants .coverage gradlab-report .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
