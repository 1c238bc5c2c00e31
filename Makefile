# The verbs of the project. `make` alone lists them. The environment in .venv is made on first use.

PYTHON ?= python3
RUN := .venv/bin
PIP := $(RUN)/python -m pip --disable-pip-version-check -qq
FOLDER := .perennial

# Modules stay compiled, whatever the caller's environment says: the tests start hundreds of processes and sandboxes.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test check bench up down storm clean lock

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

demo: .venv/sandbox.stamp ## one customer's month, from a signed deal to a closed month (TRACE=file.csv[,file.csv]: real usage)
	@$(RUN)/perennial demo $(if $(TRACE),--trace '$(TRACE)')

test: .venv/test.stamp ## every test, four at a time: most of them wait for servers
	@$(RUN)/python -m pytest -n 4 --dist worksteal

check: .venv/test.stamp ## style, types and the rules of the house
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy
	$(RUN)/python -m pytest tests/test_house.py

bench: .venv/sandbox.stamp ## measure; SIZE=full for longer runs; the last table is in benchmarks/RESULTS.md
	@$(RUN)/python -m benchmarks $(or $(SIZE),small)

up: .venv/sandbox.stamp ## the whole stack in this terminal; Ctrl-C stops it, the data stays in .perennial
	@$(RUN)/perennial up

down: .venv/sandbox.stamp ## stop the stack that runs in another terminal
	@$(RUN)/perennial down

storm: .venv/test.stamp ## kill processes many times, and draw more plans and lives (KILLS=100 SEED=7 PLANS=1000 LIVES=30)
	@KILLS=$(or $(KILLS),100) PLANS=$(or $(PLANS),1000) LIVES=$(or $(LIVES),30) $(if $(SEED),SEED=$(SEED)) \
		$(RUN)/python -m pytest tests/test_kills.py tests/test_ingest_storm.py tests/api/test_round_trip.py \
		tests/cli/test_catalog_files.py tests/activities/test_lives.py

clean: ## remove the stack's data, the environment and what tools have left
	@if [ -d $(FOLDER) ]; then [ -x $(RUN)/python ] && $(RUN)/python -m sandbox.clear $(FOLDER) || { \
		echo "$(FOLDER) stays: only an installed Perennial can tell what is its own ('make up', then 'make clean')."; \
		exit 1; }; fi
	@rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@echo "Clean."

lock: .venv/test.stamp ## write the versions that are installed now into constraints.txt
	@$(RUN)/python -m pip --disable-pip-version-check freeze --exclude-editable | grep -v ' @ ' > constraints.new
	@mv constraints.new constraints.txt
	@touch .venv/sandbox.stamp .venv/test.stamp
	@echo "constraints.txt names $$(wc -l < constraints.txt) packages."

.venv/sandbox.stamp: pyproject.toml constraints.txt
	$(make-environment)
	@echo "Installing Perennial with its embedded PostgreSQL and Temporal (half a minute or so) ..."
	@$(PIP) install -c constraints.txt -e '.[sandbox]'
	@touch $@

.venv/test.stamp: pyproject.toml constraints.txt
	$(make-environment)
	@echo "Installing Perennial, its embedded servers and the tools for tests (half a minute or so) ..."
	@$(PIP) install -c constraints.txt -e '.[sandbox,test]'
	@touch .venv/sandbox.stamp $@

define make-environment
@command -v $(PYTHON) > /dev/null || { \
	echo "There is no '$(PYTHON)' here. Install Python 3.11 to 3.13, or name one: make PYTHON=/path/to/python3.12"; exit 1; }
@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || { \
	echo "Perennial runs on Python 3.11 to 3.13, and $(PYTHON) is $$($(PYTHON) -V 2>&1)." \
	"Name another one: make PYTHON=python3.12"; exit 1; }
@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || { \
	echo "$(PYTHON) comes without venv and ensurepip. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
@[ -x $(RUN)/python ] && $(RUN)/python -m pip --version > /dev/null 2>&1 || { \
	echo "Making .venv with $$($(PYTHON) -V) ..."; $(PYTHON) -m venv .venv; }
endef
