# SPDX-License-Identifier: Apache-2.0
# make lab    bring the virtual lab up from nothing, measure it, count what its kernel costs, say both verdicts
# make unit   the tests that need no root, no compiler and no host: under a minute
# make test   linters and all tiers of tests: unit, local (root, compiler, namespaces), lab (virtual hosts, kernels)
# make nightly  what takes hours: each kernel of the series, stress, receive designs compared, slow tests
SHELL := /bin/bash
BIN := .venv/bin

# Nothing that a user has set for other work goes on. (MAKE%: what make itself hands to a make that it starts.)
KEPT := $(file <scripts/kept_variables) ZCLAB_% PYTHON PYENV_ROOT PYENV_VERSION MAKE% MFLAGS
$(foreach name,$(filter-out $(KEPT),$(.VARIABLES)),$(if $(findstring environment,$(origin $(name))),\
    $(eval unexport $(name))))
# Ansible runs in no other encoding.
export LC_ALL := C.UTF-8

LINTERS := ruff mypy yamllint shellcheck ansible-lint
# Tests run on two processors, as many as the smallest machine for the lab has.
PYTEST := $(BIN)/pytest -n 2

.PHONY: help lab unit test nightly check $(LINTERS) format controller docs lock

help:
	@sed -n 's/^# make/make/p' Makefile

# Each script and playbook does nothing where there is nothing to do.
.PHONY: bootstrap
bootstrap:
	@scripts/bootstrap

controller: bootstrap
	@ANSIBLE_CONFIG="$(CURDIR)/ansible.cfg" $(BIN)/ansible-playbook playbooks/controller.yml </dev/null

lab:
	@since=$$(date +%s.%N) && scripts/bootstrap && $(BIN)/python -m zclab.jobs.lab "$$since"

unit: bootstrap
	@$(PYTEST) tests/unit

# Guests use every processor by themselves. The second half runs in any case: one run tells all.
test: controller check
	@status=0; $(PYTEST) tests/local tests/unit || status=1; $(BIN)/pytest tests/lab || status=1; exit $$status

nightly: controller
	@$(BIN)/python -m zclab.jobs.nightly

# Linters, none of them with anything to forgive.
check: bootstrap
	@$(MAKE) --no-print-directory -j 2 --output-sync=target $(LINTERS)

ruff:
	$(BIN)/ruff check
	$(BIN)/ruff format --check

mypy:
	$(BIN)/mypy

yamllint:
	$(BIN)/yamllint --strict .

shellcheck:
	shellcheck scripts/bootstrap .ci/run src/zclab/backends/namespaces/sshd_in_netns.sh

ansible-lint:
	$(BIN)/ansible-lint --offline --strict </dev/null

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
	    --universal -o requirements.lock
