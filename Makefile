# Every way to build, run, test and check Cairn. `make` lists them.
SHELL := /bin/sh
.DEFAULT_GOAL := help
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
MEMBERS := $(sort $(wildcard libs/*/pyproject.toml services/*/pyproject.toml))
# Workers for the tests. Two suit two cores: each has a PostgreSQL and a NATS of its own.
WORKERS ?= 2
# Where recorded crowds are, and which of them `make replay` plays.
CAIRN_DATA ?= ../shared/data
CROWDS ?= d_possent sentiment_text dog rte zencrowd_us web
# What `make breaking` compares the contract with.
BREAKING_BASE ?= $(shell git rev-parse --verify --quiet origin/main || git rev-parse --verify --quiet HEAD)

export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help
help: ## List what can be made
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: .venv/.ready ## Make .venv with everything in it, the cairn command included

.venv/.ready: requirements.lock $(MEMBERS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Cairn needs Python 3.11 or newer; $(PYTHON) is older. Say which to use: make setup PYTHON=/path/to/python3.11"; exit 1; }
	@echo "setup: making .venv with $(PYTHON)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "setup: fetching the installer (uv, pinned by hash)"
	@awk '/^uv==/ {on = 1} on && /^[^ ]/ && !/^uv==/ {exit} on' requirements.lock > .venv/uv.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .venv/uv.txt
	@echo "setup: fetching the packages of requirements.lock (each pinned by hash)"
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	@echo "setup: linking Cairn's own packages"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --offline --no-deps --no-build-isolation \
	  $(foreach member,$(MEMBERS),-e $(dir $(member)))
	@echo "setup: compiling all but the packages' own tests"
	@$(BIN)/python -m compileall -q -j 0 -x '/tests/' .venv/lib $(wildcard libs/*/src services/*/src)
	@touch $@
	@echo "setup: done; the cairn command is $(BIN)/cairn"

.PHONY: demo
demo: setup ## Label real digits with a simulated crowd and a model in the loop (two minutes)
	@$(BIN)/cairn demo

.PHONY: up
up: setup ## Start the embedded stack: PostgreSQL, NATS, five services
	@$(BIN)/cairn up

.PHONY: down
down: setup ## Stop the embedded stack; its data stay
	@$(BIN)/cairn down

.PHONY: test
test: setup ## Run all tests, on real PostgreSQL and NATS
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal $(ARGS)

.PHONY: lint
lint: setup ## Check style, formatting, protos and who imports whom
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/buf lint protos
	@$(BIN)/buf format --diff --exit-code protos
	@$(BIN)/lint-imports --no-cache

.PHONY: types
types: setup ## Check types (mypy, strict)
	@$(BIN)/mypy $(wildcard libs/*/src/cairn_* services/*/src/cairn_*) tests/benchmarks

.PHONY: verify
verify: setup breaking ## Check that generated code is what the protos say, and that the contract breaks nobody
	@PYTHON=$(CURDIR)/$(BIN)/python protos/generate.sh $(CURDIR)/.venv/verify
	@diff -r --exclude=__pycache__ .venv/verify libs/contracts/src \
	  || { echo "verify: libs/contracts is not what protos/ says; run make protos"; exit 1; }
	@rm -r .venv/verify
	@echo "verify: generated code matches the protos"

.PHONY: breaking
breaking: setup # Compare the contract with BREAKING_BASE (origin/main where there is one)
	@if git cat-file -e $(BREAKING_BASE):protos/buf.yaml 2>/dev/null; \
	  then $(BIN)/buf breaking protos --against '.git#ref=$(BREAKING_BASE),subdir=protos' && echo "verify: the contract breaks nobody"; \
	  else echo "verify: no earlier contract to compare with"; fi

.PHONY: protos
protos: setup ## Generate libs/contracts from protos/
	@PYTHON=$(CURDIR)/$(BIN)/python protos/generate.sh

.PHONY: format
format: setup ## Format Python and protos
	@$(BIN)/ruff check --quiet --fix . || true
	@$(BIN)/ruff format .
	@$(BIN)/buf format -w protos

.PHONY: bench
bench: setup ## Measure volume beside a straight line on the same machine; minutes for each: make bench ARGS="--only cycle"
	@PYTHONPATH=. $(BIN)/python -m tests.benchmarks.volume $(ARGS)

.PHONY: bench-full
bench-full: setup ## The same with larger projects and for longer: an hour for some of them
	@PYTHONPATH=. $(BIN)/python -m tests.benchmarks.volume --full $(ARGS)

.PHONY: replay
replay: setup ## Replay recorded crowds beside majority vote (needs the folder CAIRN_DATA)
	@if test -d "$(CAIRN_DATA)"; \
	  then CAIRN_DATA="$(CAIRN_DATA)" $(BIN)/python -m cairn_truth replay $(CROWDS) $(ARGS); \
	  else echo "replay: no recorded crowds at $(CAIRN_DATA); say where they are: make replay CAIRN_DATA=/path"; fi

.venv-peers/.ready: .venv/.ready tests/benchmarks/truth/peers.lock
	@test -x .venv-peers/bin/python || $(BIN)/uv venv --quiet --python $(BIN)/python .venv-peers
	@$(BIN)/uv pip sync --quiet --python .venv-peers/bin/python --require-hashes tests/benchmarks/truth/peers.lock
	@touch $@

.PHONY: bench-truth
bench-truth: .venv-peers/.ready ## Measure libs/truth beside its peers on recorded answers: make bench-truth ARGS="--data DIR"
	@CAIRN_DATA="$(CAIRN_DATA)" PYTHONPATH=libs/truth/src:. .venv-peers/bin/python -m tests.benchmarks.truth $(ARGS)

.PHONY: truth-docs
truth-docs: setup ## Write libs/truth/docs/api.md from the docstrings
	@$(BIN)/python libs/truth/docs/reference.py

.PHONY: truth-plots
truth-plots: setup ## Measure on recorded crowds and draw the pictures of libs/truth/README.md
	@CAIRN_DATA="$(CAIRN_DATA)" $(BIN)/python libs/truth/docs/plots.py $(ARGS)

.PHONY: lock-peers
lock-peers: setup # Compile what bench-truth measures against
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-annotate --no-header --override tests/benchmarks/truth/peers.overrides \
	  tests/benchmarks/truth/peers.in -o tests/benchmarks/truth/peers.lock

.PHONY: lock
lock: setup ## Compile requirements.in into requirements.lock, with hashes for every platform
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-annotate --no-header requirements.in -o requirements.lock

.PHONY: clean
clean: ## Remove .venv and caches
	@rm -rf .venv .venv-peers .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
