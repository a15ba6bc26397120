# Every target makes the environment first, if it is missing or requirements.txt is newer.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test serve check format soak bench bench-overhead openapi settings requirements clean

help: ## Show the targets.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(READY): requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "datarun needs Python 3.11 or later; name one with: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
	@touch $(READY)

demo: $(READY) ## Train real folds end to end in a temporary home; leaves nothing behind.
	@$(RUN) -m test_files.demo

test: $(READY) ## Run the whole test suite.
	@$(RUN) -m pytest

serve: $(READY) ## Serve from this machine until Ctrl-C (DATARUN_PORT, DATARUN_HOME, DATARUN_SLOTS).
	@exec $(RUN) manage.py serve

check: $(READY) ## Check format, lint, types and the import contract.
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy
	$(VENV)/bin/lint-imports
	$(RUN) manage.py makemigrations --check --dry-run --verbosity 0

format: $(READY) ## Format the code and fix what the linter can fix.
	$(RUN) -m ruff format .
	$(RUN) -m ruff check --fix .

soak: $(READY) ## Run the long forms of tests and benchmarks (DATARUN_CHAOS_SEED repeats a chaos).
	DATARUN_SOAK=1 $(RUN) -m pytest --override-ini timeout=3600
	$(MAKE) bench

bench: $(READY) ## Print the figures of bench/; writes some of them into bench/results/.
	$(RUN) -m bench.folds
	$(RUN) -m bench.latency
	$(RUN) -m bench.large
	$(RUN) -m bench.claims
	$(RUN) -m bench.polling
	$(RUN) -m bench.intake
	$(RUN) -m bench.waiting
	$(RUN) -m bench.metrics
	$(RUN) -m bench.ops

bench-overhead: $(READY) ## Compare with other ways to train folds; writes bench/results/.
	$(RUN) -m bench.overhead

openapi: $(READY) ## Regenerate docs/openapi.yaml from the code.
	$(RUN) manage.py spectacular --validate --fail-on-warn --file docs/openapi.yaml

settings: $(READY) ## Regenerate docs/settings.md from the code.
	$(RUN) -m datarun.variables > docs/settings.md

requirements: ## Pin all packages again (needs uv).
	uv pip compile --universal --python-version 3.11 --extra dev --no-annotate --no-header \
		--no-emit-find-links --upgrade pyproject.toml --output-file requirements.txt

clean: ## Remove the environment and the data folder.
	rm -rf $(VENV) var
