# `make run` runs the pipeline in a fresh clone, `make test` checks everything. Both create .venv
# from requirements.lock, with uv if it is installed, else with pip. All hashes are checked.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
READY := $(VENV)/.ready
# To install a wheel runs none of its code. Only one package, which DVC needs, has no wheel.
WHEELS := --only-binary :all: --no-binary antlr4-python3-runtime
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: run compare push test faults fuzz servers lint venv deps lock clean

# If you have a remote, this downloads what is published there, and computes only the rest.
# `make run PULL=` does not download.
run: $(READY)
	@python -m pipeline check
	@dvc repro $${PULL-$$(dvc config core.remote | sed 's/.*/--pull/')}
	@python -m pipeline summary

# Every model on every feature takes several hours. For fewer, type
# make compare FEATURES=stft,mfcc MODELS=rnn,cnn
compare: $(READY)
	@python -m pipeline compare $(if $(FEATURES),--features $(FEATURES)) $(if $(MODELS),--models $(MODELS))

# Publishes this run and the record of all runs. `make push EXPERIMENTS=origin` also pushes every
# experiment to the git remote `origin`.
push: $(READY)
	@dvc push --run-cache
	@python -m pipeline cache push-metrics
	@if [ -n "$(EXPERIMENTS)" ]; then dvc exp push "$(EXPERIMENTS)" --all-commits; fi

# Tests whose servers or browser are missing are skipped.
test: $(READY) lint
	@pytest -n auto --maxprocesses 4 --dist loadfile

# Kills every stage 20 times by each of three signals. It takes about an hour.
faults: $(READY)
	@python -m tests.faults

# Damages files of every kind at random: 40 times as many cases as in `make test`, and others each
# time. It takes about ten minutes.
fuzz: $(READY)
	@FUZZ_FACTOR=$${FUZZ_FACTOR-40} pytest -n auto --maxprocesses 4 -m fuzz

# Installs the servers and the browser that some tests use (Debian or Ubuntu, as root).
servers:
	@bash tests/servers.sh

lint: $(READY)
	@ruff check
	@ruff format --check
	@mypy

venv: $(READY)

$(READY): requirements.lock
	@$(PYTHON) -c 'import sys; v = sys.version_info; (3, 11) <= v < (3, 14) or sys.exit(f"Python 3.11 to 3.13 is needed, {sys.executable} is {v.major}.{v.minor}: run make PYTHON=python3.11")'
	@rm -rf $(VENV)
	@echo "installing requirements.lock into $(VENV): a few minutes the first time"
	@if command -v uv >/dev/null; then \
		uv venv --quiet --python "$(PYTHON)" $(VENV) && \
		uv pip install --python $(VENV)/bin/python --compile-bytecode $(WHEELS) --require-hashes -r requirements.lock; \
	else \
		"$(PYTHON)" -m venv $(VENV) && \
		$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check $(WHEELS) --require-hashes -r requirements.lock; \
	fi
	@touch $@

# Run this after a change of the imports in pipeline/. It updates the code dependencies in dvc.yaml.
deps: $(READY)
	@python -m tests.deps

# Run this after a change of the dependencies in pyproject.toml. It needs uv.
lock:
	uv pip compile --quiet --universal --fork-strategy fewest --generate-hashes --no-emit-index-url --no-header \
		--python-version 3.11 --extra dev --extra demo --extra speech --extra dask --extra tensorboard --extra s3 --extra ssh pyproject.toml --output-file requirements.lock

# Makes the folder a fresh clone again. DVC's cache stays.
clean:
	rm -rf $(VENV)
	git clean -qfdX data models results
