# Everything starts from a bare Python 3.11 or newer: each target first makes .venv where it is missing or out of date.
PORT ?= 8000
BIN := .venv/bin
LOCK := $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes \
	--no-header --no-emit-index-url --no-emit-find-links --quiet

.PHONY: help install serve test check audit format lock bench mutants clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: ## The virtual environment, with everything pinned
	@.ci/install

serve: install ## Everything, on http://127.0.0.1:8000 (PORT= to change)
	@exec $(BIN)/wallet serve --port $(PORT)

test: install ## Every test (ARGS= for pytest)
	@$(BIN)/pytest -n 2 $(ARGS)

check: install ## Format, lint, types, imports, no migration missing
	@.ci/check

audit: ## Known weaknesses of what is pinned, from a public database; needs a network
	@.ci/audit

format: install ## What ruff can mend by itself
	@$(BIN)/ruff check --fix --quiet || true
	@$(BIN)/ruff format

lock: install ## Choose versions anew within pyproject.toml; UPGRADE=1 for the newest
	$(LOCK) $(if $(UPGRADE),--upgrade) pyproject.toml --group build --output-file requirements.txt
	$(LOCK) $(if $(UPGRADE),--upgrade) pyproject.toml --group build --group dev --output-file requirements-dev.txt
	$(LOCK) $(if $(UPGRADE),--upgrade) --group bench --constraint requirements-dev.txt --output-file requirements-bench.txt
	$(LOCK) $(if $(UPGRADE),--upgrade) --group mutants --constraint requirements-dev.txt --output-file requirements-mutants.txt

bench: ## What it does in a second, beside pgbench, into docs/performance/ (ARGS="--only hot --seconds 2" writes nothing)
	@.ci/install bench
	@exec $(BIN)/python -m bench $(or $(ARGS),--write docs/performance)

mutants: ## Make small mistakes in actors/ and see which no test notices (ARGS="engine --sample 150 --seed 1")
	@.ci/install mutants
	@exec nice $(BIN)/python -m tests.mutants $(ARGS)

clean: ## Remove what was built, but no data: .wallet/ stays
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
