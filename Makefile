# Needs only Python 3.11 or newer. Targets create .venv, or update it when it is out of date.
PORT ?= 8000
BIN := .venv/bin
LOCK := $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes \
	--no-header --no-emit-index-url --no-emit-find-links --quiet

.PHONY: help install serve test check audit format lock bench mutants clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: ## Create .venv with all pinned dependencies
	@.ci/install

serve: install ## Run everything on http://127.0.0.1:8000 (PORT= changes the port)
	@exec $(BIN)/wallet serve --port $(PORT)

test: install ## Run all tests (ARGS= for pytest)
	@$(BIN)/pytest -n 3 $(ARGS)

check: install ## Check format, lint, types, imports and missing migrations
	@.ci/check

audit: ## Look up known vulnerabilities of the pinned packages; needs a network
	@.ci/audit

format: install ## Format the code and fix what ruff can fix
	@$(BIN)/ruff check --fix --quiet || true
	@$(BIN)/ruff format

lock: install ## Write the lock files again from pyproject.toml; UPGRADE=1 for the newest versions
	$(LOCK) $(if $(UPGRADE),--upgrade) pyproject.toml --group build --output-file requirements.txt
	$(LOCK) $(if $(UPGRADE),--upgrade) pyproject.toml --group build --group dev --output-file requirements-dev.txt
	$(LOCK) $(if $(UPGRADE),--upgrade) --group bench --constraint requirements-dev.txt --output-file requirements-bench.txt
	$(LOCK) $(if $(UPGRADE),--upgrade) --group mutants --constraint requirements-dev.txt --output-file requirements-mutants.txt

bench: ## Measure throughput beside pgbench, into docs/performance/ (ARGS="--only hot --seconds 2" writes nothing)
	@.ci/install bench
	@exec $(BIN)/python -m bench $(or $(ARGS),--write docs/performance)

mutants: ## Mutation-test actors/ and list the mutants that survive (ARGS="engine --sample 150 --seed 1")
	@.ci/install mutants
	@exec nice $(BIN)/python -m tests.mutants $(ARGS)

clean: ## Remove build results and caches; keep the data in .wallet/
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
