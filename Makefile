# Two commands: `make demo` (set up, study collapse on real images, say where the report is) and `make test`.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: demo test test-heavy test-lowest test-deps fuzz lint bench docs clean

demo: $(STAMP)
	$(BIN)/driftlaw run digits

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 -m "not heavy"

test-heavy: $(STAMP)
	$(BIN)/python -m pytest -n 2 -m heavy

# The lowest versions that pyproject.toml admits, in an environment of their own.
test-lowest:
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints-lowest.txt --editable '.[dev]'
	.venv-lowest/bin/python -m pytest -n 2 -m "not heavy"

# System packages without which tests are skipped (Debian: apt-get).
test-deps:
	.ci/test-deps

SEED := $(shell date +%s)
fuzz: $(STAMP)
	@echo "New examples for every property test; the same ones again: make fuzz SEED=$(SEED)"
	$(BIN)/python -m pytest -n 2 -m hypothesis --hypothesis-profile=fuzz --hypothesis-seed=$(SEED)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)
	$(BIN)/python -m benchmarks

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("driftlaw needs Python 3.11 or newer: make PYTHON=python3.11 demo" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

clean:
	rm -rf .venv .venv-lowest runs .pytest_cache .mypy_cache .ruff_cache
