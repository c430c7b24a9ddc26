# `make run` takes a fresh clone to an evaluated model, `make test` checks everything.
# uv installs where it is present, pip otherwise; both from requirements.lock, hashes checked.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
READY := $(VENV)/.ready
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: run compare push test servers lint venv lock clean

# With a remote, what is published there is fetched and not computed; `make run PULL=` asks no remote.
run: $(READY)
	@python -m pipeline.commands.check
	@dvc repro $${PULL-$$(dvc config core.remote | sed 's/.*/--pull/')}
	@python -m pipeline.commands.summary

# Every feature with every model: an hour or more. Fewer: make compare FEATURES=stft,mfcc MODELS=rnn,cnn
compare: $(READY)
	@python -m pipeline.commands.compare $(if $(FEATURES),--features $(FEATURES)) $(if $(MODELS),--models $(MODELS))

# Publishes this state and the record of all runs; with EXPERIMENTS=origin also every experiment, to that git remote.
push: $(READY)
	@dvc push --run-cache
	@python -m pipeline.commands.cache metrics
	@if [ -n "$(EXPERIMENTS)" ]; then dvc exp push "$(EXPERIMENTS)" --all-commits; fi

test: $(READY) servers lint
	@pytest -n auto --maxprocesses 4 --dist loadfile

# What tests talk to and no package index has. Without it they are skipped.
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
		uv pip install --python $(VENV)/bin/python --compile-bytecode --require-hashes -r requirements.lock; \
	else \
		"$(PYTHON)" -m venv $(VENV) && \
		$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock; \
	fi
	@touch $@

# After an edit of the dependencies in pyproject.toml.
lock:
	uv pip compile --quiet --universal --fork-strategy fewest --generate-hashes --no-emit-index-url --no-header \
		--python-version 3.11 --extra dev --extra demo --extra dask --extra ray --extra tensorboard --extra s3 --extra ssh pyproject.toml --output-file requirements.lock

# Back to a fresh clone, but for what DVC holds in its cache.
clean:
	rm -rf $(VENV)
	git clean -qfdX data models results
