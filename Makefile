# Two commands on a fresh machine: `make quickstart` and `make test`.
# Nothing but Python 3.11+ and make has to be there.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install
TORCH := $(shell grep '^torch==' constraints.txt)
# Extra pip arguments for torch alone, for example the index of CPU-only or of other CUDA builds.
TORCH_ARGS ?=
# Extra arguments for the command itself: make quickstart ARGS="--seed 1", make test ARGS="-k beir".
ARGS ?=

# The methods of the reference cards, and the data they are all trained on.
CARDS := uri genret asi asi++ dgi fixed dense
CARD_DATA := stdlib:asyncio,email,logging

.DEFAULT_GOAL := help
.PHONY: help quickstart test lint format cards bench torture remote-code-check clean
.DELETE_ON_ERROR:

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 26

quickstart: $(VENV)/.baselines ## Install, train on the standard library's documentation, search it
	$(BIN)/hf-genret quickstart $(ARGS)

test: $(VENV)/.dev ## Install what tests need and run them all with the coverage gate (90 %)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --cov --cov-report=term --cov-fail-under=90 $(ARGS)

lint: $(VENV)/.dev .lint/hf_genret ## Check style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev ## Rewrite the sources in the project's format
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

cards: $(VENV)/.baselines ## Train the reference cards' checkpoints and write model_cards/reference
	@for method in $(CARDS); do \
		run=runs/cards/$$method; card=model_cards/reference/$$method; \
		$(BIN)/hf-genret train $(CARD_DATA) --recipe $$method --set 'controls=[]' --output $$run && \
		$(BIN)/hf-genret evaluate $$run $(CARD_DATA) --json $$card.json && \
		$(BIN)/hf-genret card $$run --report $$card.json --language en \
			--repo OWNER/stdlib-$$method --output $$card.md || exit 1; \
	done

bench: $(VENV)/.bench ## Measure speed beside goals and peers; figures go to benchmarks/
	$(BIN)/python -m pytest tests/benchmarks -q -s -o python_files='bench_*.py' $(ARGS)

torture: $(VENV)/.dev ## Crowds of threads, mixtures, kills and malformed files, about an hour; prints counts
	OMP_NUM_THREADS=1 $(BIN)/python tests/torture/storm.py --seconds 600 --threads 32 --documents 70000
	OMP_NUM_THREADS=1 $(BIN)/python tests/torture/mixtures.py --loads 2000
	OMP_NUM_THREADS=1 $(BIN)/python tests/torture/kills.py --kills 200
	OMP_NUM_THREADS=1 $(BIN)/python tests/torture/fuzz_files.py --seconds 600
	OMP_NUM_THREADS=1 $(BIN)/python tests/torture/fuzz_settings.py --seconds 200

remote-code-check: $(VENV)/.dev ## Open checkpoints in fresh environments with transformers alone, oldest and newest
	$(BIN)/python tests/hub/remote_code_check.py --torch-args "$(TORCH_ARGS)" $(ARGS)

clean: ## Remove the environment, caches and built files
	rm -rf $(VENV) .lint .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps: each is renewed only when the versions or the dependencies change.
# torch comes first and alone, since accelerate and peft would otherwise choose a build of their own.
$(VENV)/.torch: constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] < (3, 15) else "Python 3.11 to 3.14 is needed; $(PYTHON) is %d.%d. Name another: make PYTHON=python3.11 ..." % sys.version_info[:2])'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) $(TORCH) $(TORCH_ARGS)
	@touch $@

$(VENV)/.baselines: $(VENV)/.torch pyproject.toml
	$(PIP) -c constraints.txt -e '.[baselines]'
	@touch $@

$(VENV)/.dev: $(VENV)/.torch pyproject.toml
	$(PIP) -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/.baselines

$(VENV)/.bench: $(VENV)/.dev
	$(PIP) -c constraints.txt -e '.[dev,bench]'
	@touch $@

# The rooms as one package, as they are when installed; mypy cannot follow the package-dir map.
.lint/hf_genret: FORCE
	@rm -rf .lint && mkdir -p $@
	@ln -s $(CURDIR)/hf_genret/* $(CURDIR)/modeling $(CURDIR)/training $@/

.PHONY: FORCE
FORCE:
