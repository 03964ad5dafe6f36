# Every task of the project. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv
ONCE ?=
ONLY_FAILED ?=
PYTEST := $(BIN)/python -m pytest $(if $(ONLY_FAILED),--last-failed --last-failed-no-failures none)
JOBS ?= $(if $(filter-out 1,$(shell getconf _NPROCESSORS_ONLN)),2,0)

# Tests run in JOBS processes, those of a file in one of them (JOBS=0: all in one). Files keep their order: so cameras,
# which measure time, run beside cameras and not beside a training.
TOGETHER := $(if $(ONLY_FAILED)$(filter 0,$(JOBS)),,-n $(JOBS) --dist loadfile --no-loadscope-reorder)

# What is marked `alone` follows, whether or not a test failed before (1); what is worse ends the run.
define test_together_then_alone
  $(PYTEST) $(TOGETHER) -m "not compose and not alone"; together=$$?; [ $$together -le 1 ] || exit $$together; \
  $(PYTEST) -m "alone and not compose"; alone=$$?; \
  [ $$together = 0 ] || echo "make: tests failed before those that ran alone; their names are above." >&2; \
  [ $$together$$alone = 00 ]
endef

.PHONY: help install demo test test-fast test-compose bundle bench-camera bench-serving lint format lock clean distclean check-python

help: ## list the tasks
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

check-python:
	@command -v $(PYTHON) >/dev/null || { echo "make: Python is missing. Install it: sudo apt-get install python3 python3-venv" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
	  echo "make: Almenara needs Python 3.11 to 3.13, and $(PYTHON) is $$($(PYTHON) -V 2>&1). Name another: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  v=$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	  echo "make: Python's venv module is missing. Install it: sudo apt-get install python$$v-venv" >&2; exit 2; }

# uv comes first, pinned by hash, and then installs everything else; `uv` marks a usable environment.
$(VENV)/.uv: requirements/uv.txt | check-python
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@touch $@

$(VENV)/.demo: $(VENV)/.uv requirements/demo.txt pyproject.toml
	@echo "Installing the locked requirements into $(VENV) (about 800 MB to download on the first run) ..."
	@$(UV) pip install --quiet --require-hashes --no-deps --compile-bytecode -r requirements/demo.txt
	@$(UV) pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.uv requirements/dev.txt pyproject.toml
	@echo "Installing the locked requirements into $(VENV) (about 900 MB to download on the first run) ..."
	@$(UV) pip install --quiet --require-hashes --no-deps --compile-bytecode -r requirements/dev.txt
	@$(UV) pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@ $(VENV)/.demo

install: $(VENV)/.demo ## make .venv with the `almenara` command
	@echo "Ready: $(BIN)/almenara --help"

demo: $(VENV)/.demo ## train, serve, watch and alarm on this machine (ONCE=1: end after the first alarm of each kind)
	@exec $(BIN)/almenara demo $(if $(ONCE),--once)

test: $(VENV)/.dev ## install what is missing and run the whole test suite (JOBS=0: in one process)
	@$(if $(TOGETHER),$(test_together_then_alone),$(PYTEST) -m "not compose")

test-fast: $(VENV)/.dev ## the tests that take seconds
	@$(PYTEST) $(TOGETHER) -m "not slow and not compose"

test-compose: $(VENV)/.dev ## build and start the composed platform, and test it (needs a Docker engine)
	@$(PYTEST) -m compose

bundle: ## one archive of images and files for a host without a way out (WITH="tls observability": more of them)
	@deploy/bundle $(foreach name,$(WITH),--with $(name))

bench-camera: $(VENV)/.dev ## measure the camera worker (QUICK=1: in three minutes, judging nothing)
	@$(BIN)/python -m benchmarks.camera $(if $(QUICK),--quick)

bench-serving: $(VENV)/.dev ## measure the API beside MLflow, MLServer and a tutorial's (QUICK=1: in minutes, judging nothing)
	@$(BIN)/python -m benchmarks.serving $(if $(QUICK),--quick)

lint: $(VENV)/.dev ## ruff, mypy --strict and the import rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(VENV)/.dev ## format the code and sort its imports
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

lock: $(VENV)/.uv ## resolve every requirement file again
	@BIN=$(BIN) requirements/lock

clean: ## remove what the demo and the tests made (models, alarms, evidence)
	@rm -rf var .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	@find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +
	@echo "Removed var/ and the caches. The environment stays: make distclean removes $(VENV) too."

distclean: clean ## clean, and remove the environment
	@rm -rf $(VENV) *.egg-info
