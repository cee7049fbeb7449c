# Everything a contributor runs. `make` alone lists the targets. Each set-up step is a file that
# depends on what it was made from, so that nothing is done twice and nothing has to be prepared:
# Python 3.11 with pip, and make, are enough. What is missing beyond that comes from apt.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Nothing here asks a question, looks for a terminal, or for a newer version of itself.
export PIP_NO_INPUT := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
# The tests start hundreds of workers: each would compile acked anew where no bytecode is kept.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(VENV)/.demo ## 200 tasks, a server that misbehaves, kill -9: every one finishes (half a minute)
	$(BIN)/python examples/demo/run.py

.PHONY: test
# Three processes on two cores, as they often wait; in the order that tests/conftest.py gives.
test: lint test-packages ## Lint, then every test, the kill tests in their short form
	$(BIN)/pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

.PHONY: lint
lint: $(VENV)/.test ## Format, ruff, mypy --strict, pyright, the layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy src examples
	$(BIN)/pyright
	$(BIN)/lint-imports --no-logo --no-cache

.PHONY: format
format: $(VENV)/.test ## Format the code and mend what ruff can mend; redraw the state diagram
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .
	$(BIN)/python docs/generate_diagram.py

.PHONY: chaos
# Two at a time, as most of them wait; the kill tests alone, since they measure how soon things restart.
chaos: $(VENV)/.test test-packages ## The faults in their long form, with what they measure (two hours)
	ACKED_LONG=1 $(BIN)/pytest -m 'chaos and not kills' --numprocesses 2 --maxschedchunk 1 --timeout 3600 -rP
	ACKED_LONG=1 $(BIN)/pytest -m 'chaos and kills' --timeout 3600 -rP

TIMES ?= 10

.PHONY: kills
kills: $(VENV)/.test test-packages ## The kill tests in their short form, on every broker, ten times (TIMES=10)
	for run in $$(seq $(TIMES)); do \
	    ACKED_EVERYWHERE=1 $(BIN)/pytest -m kills --numprocesses 2 --dist load -rP || exit; \
	done

.PHONY: bench
bench: $(VENV)/.bench bench-packages ## Speed on each broker, beside other queues there
	$(BIN)/python -m benchmarks

.PHONY: clean
clean: ## Remove the environment and everything that was generated
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .bench build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Debian leaves ensurepip out of its python3 package; the pip that is there can fill the
# environment instead.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "acked needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) -V 2>&1)." \
	       "Name another: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@if $(PYTHON) -c 'import ensurepip' 2>/dev/null; then $(PYTHON) -m venv $(VENV); \
	else $(PYTHON) -m venv --without-pip $(VENV) \
	  && $(PYTHON) -m pip --python $(BIN)/python install --quiet pip; fi

# Only whether the interpreter exists counts, not how old it is: hence the bar.
$(VENV)/.demo: EXTRAS := demo
$(VENV)/.test: EXTRAS := test,lint
$(VENV)/.bench: EXTRAS := bench
$(VENV)/.demo $(VENV)/.test $(VENV)/.bench: pyproject.toml | $(BIN)/python
	@echo "installing acked[$(EXTRAS)] into $(VENV)"
	@$(BIN)/python -m pip install --quiet --editable '.[$(EXTRAS)]'
	@touch $@

# $(call need,command,package): the Debian package, when the command is not there.
# Root, or sudo without a password; otherwise it says what to install. The policy file keeps what is
# installed from being started as a service: the tests start servers of their own.
ALL_PATHS = PATH="$$PATH:/usr/sbin:/sbin$$(printf ':%s' /usr/lib/postgresql/*/bin)"
define need
@$(ALL_PATHS) command -v $(1) >/dev/null || { \
  if [ "$$(id -u)" = 0 ]; then as_root=; elif sudo -n true 2>/dev/null; then as_root="sudo -n"; \
  else echo "$(1) is missing. Install it: sudo apt-get install $(2)" >&2; exit 1; fi; \
  echo "installing the Debian package $(2)"; \
  policy=/usr/sbin/policy-rc.d; \
  if ! [ -e $$policy ]; then \
    trap '$$as_root rm -f '$$policy EXIT; \
    printf '#!/bin/sh\nexit 101\n' | $$as_root tee $$policy >/dev/null; \
    $$as_root chmod 755 $$policy; fi; \
  apt() { $$as_root env DEBIAN_FRONTEND=noninteractive PATH="$$PATH:/usr/sbin:/sbin" apt-get -qq "$$@"; }; \
  apt update && apt install --yes --no-install-recommends $(2) >/dev/null; }
endef

.PHONY: test-packages
test-packages:
	$(call need,strace,strace)
	$(call need,ip,iproute2)
	$(call need,openssl,openssl)
	$(call need,cc,gcc libc6-dev)
	$(call need,redis-server,redis-server)
	$(call need,initdb,postgresql)
	$(call need,rabbitmq-server,rabbitmq-server)
	$(call need,erl_call,erlang-base)
	$(call need,chromium,chromium)

.PHONY: bench-packages
bench-packages:
	$(call need,redis-server,redis-server)
	$(call need,initdb,postgresql)
	$(call need,rabbitmq-server,rabbitmq-server)
	$(call need,erl_call,erlang-base)
