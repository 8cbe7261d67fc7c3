# SPDX-License-Identifier: Apache-2.0
# make lab    bring the virtual lab up from nothing, measure it, say the verdict
# make test   all of the project's tests
# make nightly  what takes hours: each kernel of the series, stress, receive designs compared, slow tests
SHELL := /bin/bash
BIN := .venv/bin

.PHONY: help lab test nightly check unit format controller docs lock

help:
	@sed -n 's/^# make/make/p' Makefile

# Each script and playbook does nothing where there is nothing to do.
.PHONY: bootstrap
bootstrap:
	@scripts/bootstrap

controller: bootstrap
	@$(BIN)/ansible-playbook playbooks/controller.yml </dev/null

lab:
	@since=$$(date +%s.%N) && scripts/bootstrap && $(BIN)/zclab run --up --since "$$since"

test: controller check unit

nightly: controller
	@$(BIN)/python -m zclab.jobs.nightly

# Linters, none of them with anything to forgive.
check: bootstrap
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/yamllint --strict .
	shellcheck scripts/* .ci/run src/zclab/backends/namespaces/sshd_in_netns.sh
	$(BIN)/ansible-lint --offline --strict </dev/null

unit: bootstrap
	$(BIN)/pytest tests

format: bootstrap
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# Write the documents that are made from others: docs/commands.md and each role's README.md.
docs: bootstrap
	$(BIN)/python -m zclab.cli.command_docs
	$(BIN)/python -m zclab.jobs.role_readmes

# Lock the dependencies of pyproject.toml again (needs uv).
lock:
	uv pip compile pyproject.toml --extra dev --generate-hashes --no-emit-index-url --no-header \
	    --python-version 3.11 -o requirements.lock
