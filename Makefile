# Sluice: `make` shows what there is. Everything installs into .venv, .venv-engine and .venv-disk; state lives in .sluice.
SHELL := /bin/bash
PYTHON ?= python3.11
INSTALL := -m pip --disable-pip-version-check --quiet install --no-compile
MAIN := .venv/.locked
ENGINE := .venv-engine/.locked
DISK := .venv-disk/.locked
ENGINE_LIST := $(shell if command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L >/dev/null 2>&1; then echo gpu; else echo cpu; fi)
LOCKS := infra/locks
export OMP_NUM_THREADS ?= 1
# Packages are not compiled when they are installed: what is imported is, once, if Python may write it down.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup run test up down status lint bench clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'
	@echo "  make bench-NAME Run one benchmark, e.g. make bench-retrieval"

setup: ## Install the three environments (seconds when nothing changed)
	@$(MAKE) --no-print-directory -j3 $(MAIN) $(ENGINE) $(DISK)

$(MAIN): $(LOCKS)/main.txt $(LOCKS)/test.txt pyproject.toml
	@echo "setting up .venv ($$(wc -l < $(LOCKS)/main.txt) pinned packages)"
	@test -x .venv/bin/python || $(PYTHON) -m venv .venv
	@grep '^torch==' $(LOCKS)/main.txt | xargs .venv/bin/python $(INSTALL)
	@.venv/bin/python $(INSTALL) --no-deps -r $(LOCKS)/main.txt -r $(LOCKS)/test.txt
	@.venv/bin/python $(INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

$(ENGINE): $(LOCKS)/engine-$(ENGINE_LIST).txt
	@echo "setting up .venv-engine for $(ENGINE_LIST) ($$(wc -l < $<) pinned packages)"
	@test -x .venv-engine/bin/python || $(PYTHON) -m venv .venv-engine
	@grep '^torch==' $< | xargs .venv-engine/bin/python $(INSTALL)
	@.venv-engine/bin/python $(INSTALL) --no-deps -r $<
	@touch $@

$(DISK): $(LOCKS)/disk.txt
	@echo "setting up .venv-disk ($$(wc -l < $<) pinned packages)"
	@test -x .venv-disk/bin/python || $(PYTHON) -m venv .venv-disk
	@.venv-disk/bin/python $(INSTALL) --no-deps -r $<
	@.venv-disk/bin/python -I -OO -c 'import diskannpy'
	@touch $@

run: setup ## The whole lifecycle on the sample project, to a promoted release
	@.venv/bin/sluice run nightly

test: setup lint ## Lint, types, import contracts and every test, two files at a time
	@.venv/bin/python -m pytest tests -n 2 --dist loadfile --no-loadscope-reorder --durations 20

lint: $(MAIN) ## ruff, mypy (strict) and the import contracts
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports

up: setup ## Start Prefect, MLflow, the gateway and the runner of deployments
	@.venv/bin/sluice up

down: $(MAIN) ## Stop what `make up` started
	@.venv/bin/sluice down

status: $(MAIN) ## What runs, and which release is live
	@.venv/bin/sluice status

bench: setup ## Run every benchmark and write docs/benchmarks.md
	@for name in $$(ls evaluation/benches | sed -n 's/^\([a-z]*\)\.py$$/\1/p'); do .venv/bin/sluice bench $$name --write || exit 1; done

bench-%: setup
	@.venv/bin/sluice bench $*

clean: ## Remove state and caches; the environments stay (rm -rf .venv .venv-* removes those)
	@if [ -x .venv/bin/sluice ]; then .venv/bin/sluice down; fi
	@rm -rf .sluice .mypy_cache .ruff_cache .import_linter_cache .hypothesis build *.egg-info
	@find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +
