# Every target says what it does: make help
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.requirements-dev
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg

.PHONY: help
help: ## show this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

.PHONY: setup
setup: $(STAMP) ## install everything into .venv (pinned and hashed)

$(STAMP): requirements-dev.txt requirements-setup.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "setup: Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; run: make setup PYTHON=/path/to/python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements-setup.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements-dev.txt
	@touch $@

.PHONY: model
model: setup ## train the default model with its golden predictions
	@$(BIN)/python -m inference_app.train

.PHONY: demo
demo: model ## deploy to a local sandbox and show a verified prediction
	@$(BIN)/python -m sandbox up
	@$(BIN)/ansible-playbook deploy.yml -i inventories/local
	@$(BIN)/python examples/ask.py .sandbox/kubeconfig
	@echo "Look around:  kubectl --kubeconfig $(CURDIR)/.sandbox/kubeconfig -n ml-inference get all"
	@echo "Clean up:     make demo-down"

.PHONY: demo-down
demo-down: setup ## stop the sandbox and everything in it
	@$(BIN)/python -m sandbox down

.PHONY: lint
lint: setup ## ruff, mypy, yamllint, ansible-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy plugins inference_app sandbox
	$(BIN)/yamllint --strict .
	PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/ansible-lint --nocolor -q

.PHONY: unit
unit: model ## the tests that need no cluster
	$(BIN)/pytest

.PHONY: e2e
e2e: model ## the user's road: ansible-playbook on a sandbox
	$(BIN)/pytest tests/e2e

.PHONY: test
test: lint unit e2e ## everything that a change must pass

.PHONY: molecule
molecule: model ## molecule scenarios on a sandbox: all, or make molecule SCENARIO=upgrade
	tests/molecule.sh $(SCENARIO)

.PHONY: check
check: test gates ## every gate: make test, and what tests/check.sh lists

.PHONY: gates
gates: model setup-check ## only what make check has beyond make test: all, or make gates GATE=sanity
	tests/check.sh $(GATE)

.PHONY: bench
bench: model ## measure deploys and the server beside others, as ratios in one run
	$(BIN)/python -m tests.bench.deploy
	$(BIN)/python -m tests.bench.app

.PHONY: contract
contract: model ## what we lean on in Kubernetes: on the sandbox, or with KUBECONFIG=... on any cluster
	$(BIN)/pytest tests/contract

.PHONY: lock
lock: ## resolve the requirements*.in files anew into pinned, hashed requirements*.txt
	$(BIN)/uv pip compile --quiet --generate-hashes --python-version 3.11 --no-annotate --no-header requirements-setup.in -o requirements-setup.txt
	$(BIN)/uv pip compile --quiet --generate-hashes --python-version 3.11 --no-annotate --no-header requirements-app.in -o requirements-app.txt
	$(BIN)/uv pip compile --quiet --generate-hashes --python-version 3.11 --no-annotate --no-header requirements-dev.in -c requirements-app.txt -o requirements-dev.txt
	$(BIN)/uv pip compile --quiet --generate-hashes --python-version 3.11 --no-annotate --no-header requirements-heavy.in -c requirements-app.txt -o requirements-heavy.txt
	$(BIN)/uv pip compile --quiet --generate-hashes --python-version 3.11 --no-annotate --no-header requirements-bench.in -o requirements-bench.txt
	$(BIN)/uv pip compile --quiet --generate-hashes --python-version 3.11 --no-annotate --no-header requirements-check.in -o requirements-check.txt
	$(BIN)/uv pip compile --quiet --generate-hashes --python-version 3.13 --no-annotate --no-header requirements-newest.in -o requirements-newest.txt

.PHONY: setup-check
setup-check: $(STAMP) ## install the judges that only make check asks into .venv-check; 300 MB
	@test -x .venv-check/bin/python || $(BIN)/uv venv --quiet --python $(BIN)/python .venv-check
	@$(BIN)/uv pip install --quiet --python .venv-check/bin/python --require-hashes -r requirements-check.txt

.PHONY: setup-bench
setup-bench: $(STAMP) ## install the servers that the bench compares the app with into .venv-bench; 400 MB
	@test -x .venv-bench/bin/python || $(BIN)/uv venv --quiet --python $(BIN)/python .venv-bench
	@$(BIN)/uv pip install --quiet --python .venv-bench/bin/python --require-hashes -r requirements-bench.txt

.PHONY: setup-heavy
setup-heavy: $(STAMP) ## install what only some tests want (a real MLflow server) into .venv-heavy; 600 MB
	@test -x .venv-heavy/bin/python || $(BIN)/uv venv --quiet --python $(BIN)/python .venv-heavy
	@$(BIN)/uv pip install --quiet --python .venv-heavy/bin/python --require-hashes -r requirements-heavy.txt
