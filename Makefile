# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

STAMPS := .work/stamps
PYTHON := .venv/bin/python
TESTBED := tests/hosts/hosts.py
RUN ?= test
HOSTS ?= 50
LANES ?= 2

export PATH := $(CURDIR)/.venv/bin:$(PATH)
export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/.work/collections
export UV_SYSTEM_CERTS ?= 1

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 16

.PHONY: setup
setup: $(STAMPS)/packages $(STAMPS)/python ## Debian packages (as root), development tools into .venv

$(STAMPS)/packages: tests/setup.sh
	@tests/setup.sh packages
	@mkdir -p $(@D) && touch $@

$(STAMPS)/python: pyproject.toml tests/setup.sh
	@tests/setup.sh collection python
	@mkdir -p $(@D) && touch $@

.PHONY: demo
demo: setup ## boot a host, provision it, deploy the FastAPI fixture, leave it running
	@tests/demo.sh

.PHONY: demo-clean
demo-clean: ## remove the demo's host
	@$(TESTBED) down --run demo

.PHONY: test
test: ## everything: lint, unit tests, rules, tests on real hosts
	@$(MAKE) setup
	@$(MAKE) lint
	@$(MAKE) test-unit
	@$(MAKE) test-slow
	@$(MAKE) rules
	@$(MAKE) test-hosts

.PHONY: lint
lint: setup ## every static check
	@tests/tools/lint.sh

.PHONY: test-unit
test-unit: setup ## unit tests, without hosts and without real builds; under a minute
	@$(PYTHON) -m pytest -q -n auto -m 'not slow' tests/unit

.PHONY: test-slow
test-slow: setup ## the unit tests that build with a real uv or play a playbook
	@$(PYTHON) -m pytest -q -n auto -m slow tests/unit

.PHONY: rules
rules: setup ## the contract's rules and the tests that prove each
	@$(PYTHON) tests/tools/rules.py

.PHONY: docs
docs: setup ## the generated pages of docs/
	@$(PYTHON) tests/tools/docs.py

.PHONY: test-hosts
test-hosts: setup ## tests on real hosts, two files at a time; RUN=name, LANES=1, KEEP=1 leaves the hosts for the next time
	@RUN=$(RUN) KEEP=$(KEEP) LANES=$(LANES) tests/run_host_tests.sh

.PHONY: test-fleet
test-fleet: setup ## rollouts to a large fleet, timed, and how their cost grows; HOSTS=50
	@$(PYTHON) tests/fleet/run.py --hosts $(HOSTS)

.PHONY: benchmark
benchmark: setup ## round trips and times against a conventional playbook and the floor
	@$(PYTHON) tests/benchmark/run.py

.PHONY: benchmark-flow
benchmark-flow: setup ## what the services of Request Flow cost: requests per second, latency, memory
	@$(PYTHON) tests/benchmark/flow.py

.PHONY: benchmark-sync
benchmark-sync: setup ## what options of a sync cost: bytecode, link mode, layers, on a host and in an image; eight minutes
	@$(PYTHON) tests/benchmark/sync.py

.PHONY: hosts-up
hosts-up: setup ## test hosts of all four suites to play with; RUN=name
	@$(TESTBED) up --run $(RUN)

.PHONY: hosts-down
hosts-down: ## remove them
	@$(TESTBED) down --run $(RUN)
