# Two commands matter: `make demo` (the main job) and `make test`. Both do all their set-up.
SHELL := /bin/bash
.DEFAULT_GOAL := help

VENV ?= .venv
BIN := $(VENV)/bin
# Test workers: each opens one or two control planes of its own (about 0.6 GiB each).
PYTEST_WORKERS ?= 3
# Kills and soaks wait for deadlines: more workers than cores would make them judge the machine.
SLOW_WORKERS ?= 2
ARGS ?=

.PHONY: help setup controlplane demo test test-slow lint fmt crds schema reference clean bench-retrieval bench-operator
.PHONY: bench-kills

help: ## Show the targets
	@grep -hE '^[a-z][a-z-]*:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

setup: ## Make the virtual environment (done by every other target when needed)
	@tools/setup $(VENV)

controlplane: setup ## Find or build the Kubernetes control plane for demo and tests (once, about ten minutes)
	@$(BIN)/python -m tenantplane_cli.cluster build

demo: setup ## Two tenants from `kubectl apply` to a grounded answer; ARGS=--once exits after the checks
	@$(BIN)/tenantplane demo $(ARGS)

test: controlplane ## All tests but the slow ones
	@$(BIN)/python -m pytest -m "not slow" -n $(PYTEST_WORKERS) --dist loadfile $(ARGS)

test-slow: controlplane ## Kills, soak and fixtures
	@$(BIN)/python -m pytest -m slow -n $(SLOW_WORKERS) --dist loadfile $(ARGS)

lint: setup ## Style, types, layers, drift of generated files
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/mypy tests
	@$(BIN)/lint-imports
	@$(BIN)/python -m tenantplane_api.crd.generate --check crds charts/tenantplane/files/crds
	@$(BIN)/python tools/values_schema.py --check
	@$(BIN)/python tools/reference.py --check

fmt: setup ## Format the code and mend what can be mended
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

crds: setup ## Write the CRDs from the models
	@$(BIN)/python -m tenantplane_api.crd.generate crds charts/tenantplane/files/crds

schema: setup ## Write the chart's values.schema.json from the Platform struct
	@$(BIN)/python tools/values_schema.py

reference: setup ## Write docs/reference from the contract
	@$(BIN)/python tools/reference.py

clean: ## Remove the virtual environment and caches of this checkout
	@rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

bench-retrieval: setup ## Index build and query times on a folder of real documents (DOCS, QUESTIONS, ROUNDS)
	@$(BIN)/python bench/retrieval.py

bench-operator: controlplane ## Many Tenants at once beside a bare client (TENANTS, ROUNDS, WORKERS, IDLE, OUTLOOK, PROFILE)
	@$(BIN)/python -m bench.operator_bench

bench-kills: controlplane ## SIGKILLs during bursts: time until all is as it must be (KILLS, BURST, SEED)
	@$(BIN)/python -m bench.kills
