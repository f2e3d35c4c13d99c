# Everything a contributor runs. The environment lives in .venv: after any target,
# .venv/bin/streamgauge is the command line.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
UV := $(shell command -v uv)
# The newest Python on the PATH that is supported, unless told: make setup PYTHON=python3.12
PYTHON ?= $(shell for one in python3.13 python3.12 python3.11 python3; do \
	$$one -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
	&& echo $$one && break; done)
CODE := cli producers schemas serving sinks streams bench examples tests
UNIT := not kafka and not postgres and not redis and not slow and not alone
COMPILE := uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header --no-annotate --quiet

.PHONY: help setup demo test check coverage chaos bench kafka kafka-stop lock clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

setup: $(READY) ## Create .venv with the locked requirements and this package

$(READY): pyproject.toml requirements/dev.txt
	@test -n "$(PYTHON)" || { echo "Streamgauge needs Python 3.11, 3.12 or 3.13 on the PATH"; exit 1; }
ifdef UV
	test -x $(BIN)/python || uv venv --python $(PYTHON) $(VENV)
	uv pip install --python $(BIN)/python --require-hashes -r requirements/dev.txt
	uv pip install --python $(BIN)/python --no-deps --no-build-isolation -e .
else
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
endif
	@touch $@

demo: setup ## Everything at once, with live figures (ARGS="--events 200000 --json")
	$(BIN)/streamgauge demo $(ARGS)

check: setup ## The quick part: lint, format, types, import rules, unit tests
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy .typing/streamgauge
	$(BIN)/lint-imports
	$(BIN)/pytest -n auto -m '$(UNIT)'

test: check ## Everything: check, then the tests on real Kafka, Postgres and Redis, and the wheel
	$(BIN)/pytest -n 2 --dist loadfile -m 'not ($(UNIT)) and not alone' -rs --durations=10
	$(BIN)/pytest -n 3 --dist loadfile -m alone -rs --durations=10
	rm -rf build dist
	$(BIN)/python -m build --wheel --no-isolation
	@echo 'Not run: the skipped tests, listed above with the reason of each; make bench, a measurement.'

coverage: setup ## All tests once more, with the lines that none of them runs
	$(BIN)/pytest --cov --cov-report=term-missing:skip-covered

chaos: setup ## Faults on a scratch stack while events flow, then the proof (ARGS=...)
	$(BIN)/streamgauge chaos $(ARGS)

bench: setup ## Measure CPU per event on a real Kafka (ARGS=...)
	$(BIN)/python -m bench.run $(ARGS)

kafka: setup ## Start a real Kafka on 127.0.0.1 without containers; prints its address
	@$(BIN)/streamgauge kafka start

kafka-stop: setup ## Stop it
	@$(BIN)/streamgauge kafka stop

lock: ## Resolve the requirements anew (needs uv)
	$(COMPILE) --upgrade --extra all --group dev -o requirements/dev.txt
	$(COMPILE) --upgrade --extra cli --extra registry --extra serving -c requirements/dev.txt -o requirements/run.txt

clean: kafka-stop ## Remove what was built and the state of stacks, not .venv
	rm -rf build dist .streamgauge .mypy_cache .ruff_cache .pytest_cache .hypothesis
	rm -rf .import_linter_cache .coverage htmlcov
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
