# Every target makes the environment first, if it is missing or its requirements are newer.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.installed
TESTABLE := $(VENV)/.installed-dev
# Tests wait, too, so there is a process more than processors. The tests of a module stay in one:
# they share what it starts.
PROCESSES ?= $(shell expr 1 + $$(nproc))
SIDE_BY_SIDE := --numprocesses $(PROCESSES) --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help demo test test-rest test-all serve check format soak bench bench-overhead openapi settings requirements clean

help: ## Show the targets.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(READY): requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "datarun needs Python 3.11 or later; name one with: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
	@touch $(READY)

$(TESTABLE): requirements-dev.txt $(READY)
	$(RUN) -m pip install --quiet --disable-pip-version-check --requirement requirements-dev.txt
	@touch $(TESTABLE)

demo: $(READY) ## Train real folds end to end in a temporary home; leaves nothing behind.
	@$(RUN) -m test_files.demo

test: $(TESTABLE) ## Run the tests, in minutes.
	$(RUN) -m pytest $(SIDE_BY_SIDE) -m "not full"

test-rest: $(TESTABLE) ## Run what `make test` leaves out.
	$(RUN) -m pytest $(SIDE_BY_SIDE) -m "full and not clock"
	$(RUN) -m pytest -m clock
	tests/on_postgresql.sh $(SIDE_BY_SIDE)
	tests/as_nobody.sh $(SIDE_BY_SIDE)

test-all: test test-rest ## Run every test: also PostgreSQL, chaos, the browser, without privileges.

serve: $(READY) ## Serve from this machine until Ctrl-C (DATARUN_PORT, DATARUN_HOME, DATARUN_SLOTS).
	@exec $(RUN) manage.py serve

check: $(TESTABLE) ## Check format, lint, types and the import contract.
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy
	$(VENV)/bin/lint-imports
	$(RUN) manage.py makemigrations --check --dry-run --verbosity 0

format: $(TESTABLE) ## Format the code and fix what the linter can fix.
	$(RUN) -m ruff format .
	$(RUN) -m ruff check --fix .

soak: $(TESTABLE) ## Run the long forms of tests and benchmarks (DATARUN_CHAOS_SEED repeats a chaos).
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

COMPILE := uv pip compile --universal --python-version 3.11 --no-annotate --no-header \
	--no-emit-find-links --quiet pyproject.toml

requirements: ## Pin all packages again (needs uv).
	{ echo "# What runs the product, every package at an exact version. Made by \`make requirements\`"; \
		echo "# from pyproject.toml; what its tests need besides is in requirements-dev.txt."; \
		$(COMPILE) --upgrade; } > requirements.new
	{ echo "# What tests the product, beside what runs it. Made by \`make requirements\`."; \
		echo "--requirement requirements.txt"; \
		$(COMPILE) --extra dev --upgrade --constraint requirements.new | grep -vxFf requirements.new; \
	} > requirements-dev.txt
	mv requirements.new requirements.txt

clean: ## Remove the environment and the data folder.
	rm -rf $(VENV) var
