# Every target makes .venv and installs what it needs by itself.
#   make demo    the whole path on puma-mini, about ten minutes on two cores (ARGS=--fast: three)
#   make test    the test suite: CPU, offline
#   make check   lint, formatting, types
#   make docs    the documentation site, in site/: no link or anchor may be dead
# PYTHON=python3.12 picks another interpreter; UV=1 installs with uv instead of pip.

PYTHON ?= python3
UV ?=
ARGS ?=

BIN := .venv/bin
STAMP := .venv/.installed
# Two torch threads in each of several workers would fight for the same cores.
TEST_ENV := OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false

.PHONY: help demo test slow check docs format benchmark
.DEFAULT_GOAL := help

help:
	@sed -n 's/^#   \(make .*\)/\1/p' Makefile

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "puma needs Python 3.11 or newer; try: make PYTHON=python3.12" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
ifeq ($(UV),)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
else
	uv pip install --python $(BIN)/python -c constraints.txt -e '.[dev]'
endif
	@touch $@

demo: $(STAMP)
	$(BIN)/puma demo $(ARGS)

test: $(STAMP)
	$(TEST_ENV) $(BIN)/python -m pytest -n auto --dist worksteal -q $(ARGS)

slow: $(STAMP)
	$(TEST_ENV) $(BIN)/python -m pytest -q -m 'slow or data' $(ARGS)

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "To read it: $(BIN)/python -m http.server -d site"

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmark: $(STAMP)
	$(BIN)/python benchmarks/startup.py
