# Every target but `help` and `clean` prepares .venv first, and again when uv.lock changed.
# Arguments for a command: make run ARGS="--port 9000"

PYTHON ?= $(or $(MESH_PYTHON),python3)
ARGS ?=
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup demo run test check lint types imports unit bench bench-stats bench-memory bench-generate bench-streams bench-api load chaos budgets openapi fuzz fmt clean

help: ## This list
	@echo 'AI Mesh Network. Begin with: make demo'
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' $(MAKEFILE_LIST) | expand -t 24
	@echo
	@echo 'Arguments: make run ARGS="--port 9000"   Another Python: make setup PYTHON=python3.12'

setup: .venv/.ready ## Prepare .venv (Python 3.11 or newer is all it needs)

.venv/.ready: pyproject.toml uv.lock scripts/bootstrap scripts/uv.txt
	@PYTHON='$(PYTHON)' scripts/bootstrap

demo: setup ## Start everything, solve one task before your eyes, stop everything
	@$(BIN)/mesh demo $(ARGS)

run: setup ## Start everything on this machine: http://127.0.0.1:8080/api/mesh, Ctrl-C stops it
	@$(BIN)/mesh up $(ARGS)

test: setup ## All tests but load and chaos: unit, integration, end to end (10 minutes at most)
	@$(BIN)/pytest -n 3 --dist loadgroup $(ARGS)

check: lint types imports unit ## Style, types, import directions, unit tests: what must hold before a commit

lint: setup
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

types: setup
	@$(BIN)/mypy

imports: setup
	@$(BIN)/lint-imports

unit: setup
	@$(BIN)/pytest -q tests/unit $(ARGS)

bench: setup ## Latency and throughput of a task, beside a control
	@$(BIN)/python -m tests.load.bench $(ARGS)

bench-stats: setup ## How long statistics take with few calls and with ten million (minutes)
	@$(BIN)/python -m tests.load.stats $(ARGS)

bench-memory: setup ## Searching a million memories, in one network and in ten thousand (most of an hour)
	@$(BIN)/python -m tests.load.memory $(ARGS)

bench-generate: setup ## The first token of a direct generation, beside the bare provider's
	@$(BIN)/python -m tests.load.generate $(ARGS)

bench-api: setup ## Submissions beside a bare endpoint; lists and counts with few tasks and with a million
	@$(BIN)/python -m tests.load.api $(ARGS)

bench-streams: setup ## Two thousand subscribers of one API process: memory, CPU, and how soon events reach them
	@$(BIN)/python -m tests.load.streams $(ARGS)

load: setup ## A thousand tasks at once, beside a control
	@$(BIN)/python -m tests.load.bench --runs 0 --steps 0 --burst 1000 --rounds 1 $(ARGS)

chaos: setup ## Kill processes and flush Redis while tasks run: none may be lost, none paid twice
	@$(BIN)/pytest tests/chaos $(ARGS)

budgets: setup ## Sixty-four tasks against a budget for ten, twenty times, with workers killed
	@ROUNDS=20 $(BIN)/pytest tests/integration/workers/test_budgets.py $(ARGS)

openapi: setup ## Write docs/openapi.json anew, from the code
	@$(BIN)/python -m api.openapi > docs/openapi.json.new && mv docs/openapi.json.new docs/openapi.json

fuzz: setup ## Schemathesis against a running system, ten minutes of it
	@$(BIN)/python -m tests.fuzz --max-time 600 --max-examples 200 $(ARGS)

fmt: setup ## Format the code and mend what ruff can mend
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

clean: ## Remove what can be made again: .venv and caches (data in .mesh stays)
	rm -rf .venv .bootstrap .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
