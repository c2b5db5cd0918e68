# `make run` and `make test` set up what they need. Only sh, make and Python 3.11 or later are
# assumed; npm where a page is built or a JavaScript client is tested.
#
#   PYTHON=python3.13 VENV=.venv-3.13   another interpreter
#   ARGS="--port 9000"                  flags for `make run`
#   PYTEST_ARGS="-k resume -x"          flags for `make test`

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
PYTEST_ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
LOCK := requirements.lock
EXTRAS := embedded,postgres
ALL_EXTRAS := $(EXTRAS),jwt,otel,webhooks
GROUPS := --group dev --group docs
WEB := tusd_py/demo/web
STATIC := tusd_py/demo/static
WEB_SOURCES := $(WEB)/package.json $(WEB)/package-lock.json \
  $(wildcard $(WEB)/*.mjs $(WEB)/src/* tusd_py/web/*.css)
NODE_CLIENTS := $(patsubst %/package-lock.json,%,$(wildcard tests/clients/*/package-lock.json))

.DEFAULT_GOAL := help
.PHONY: help run setup web page test chaos fuzz fuzz-api lint check format docs packages sbom bench bench-quick bench-load bench-floor bench-growth bench-micro bench-reliability lock clean

help:
	@echo 'make run        start everything on this machine and say where the page is'
	@echo 'make test       set up everything and run all tests'
	@echo 'make check      formatting, lint, types, layers and unit tests; make lint: no tests'
	@echo 'make format     format the sources, write what is made from them'
	@echo 'make setup      only set up; make web: only build the page'
	@echo 'make docs       the documentation into site/'
	@echo 'make packages   sdist and wheel into dist/; make sbom: what they are made of (CycloneDX)'
	@echo 'make bench      measure; also bench-quick, bench-load, bench-floor, bench-growth, bench-micro, bench-reliability'
	@echo 'make chaos      everything breaks at random for long; make fuzz: parsers, by coverage;'
	@echo '                make fuzz-api: what the OpenAPI document allows, and what it does not'
	@echo 'make lock       the newest versions into requirements.lock; make clean'

run:
	@$(MAKE) --no-print-directory -j2 $(VENV)/.installed page
	@exec $(BIN)/tusd-py dev $(ARGS)

setup: $(VENV)/.installed-dev

web: $(STATIC)/.built

# The page where it can be built; without npm the server shows a plain one that says so.
page:
	@if command -v npm >/dev/null 2>&1; then \
	  $(MAKE) --no-print-directory web || \
	    echo 'The page could not be built; a plain page says so. Uploads work all the same.'; \
	fi

test: setup page $(addsuffix /node_modules/.installed,$(NODE_CLIENTS))
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint
	$(BIN)/python -m pytest -q tests/unit

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/python docs/write_configuration.py

# ARGS="--minutes 60 --seed 7 --database sqlite"; docs/chaos.md tells what it does.
chaos: setup
	$(BIN)/python -m tests.chaos.run $(ARGS)

# ARGS="create patch --seconds 600"
fuzz: setup
	$(PIP) install -c $(LOCK) --group fuzz
	$(BIN)/python tests/fuzz/parsers.py $(ARGS)

# Other requests each time, for some minutes; FUZZ_SEED=7 and FUZZ_EXAMPLES=1000 repeat a run.
fuzz-api: setup
	@seed=$${FUZZ_SEED:-$$(date +%s)}; echo "FUZZ_SEED=$$seed"; \
	  FUZZ_SEED=$$seed FUZZ_EXAMPLES=$${FUZZ_EXAMPLES:-1000} \
	  $(BIN)/python -m pytest --timeout 7200 tests/blackbox/test_openapi_fuzz.py $(PYTEST_ARGS)

# Warnings are errors: a link or an anchor that leads nowhere ends it. Asks no network.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict --site-dir site

packages: setup web
	$(BIN)/python -m hatchling build -d dist
	$(BIN)/twine check --strict dist/*.whl dist/*.tar.gz

# Of an environment with the program and all its extras, and nothing of what builds or tests it.
sbom: setup
	rm -rf $(VENV)-sbom
	$(PYTHON) -m venv $(VENV)-sbom
	$(VENV)-sbom/bin/python -m pip --quiet install -c $(LOCK) '.[$(ALL_EXTRAS)]'
	$(VENV)-sbom/bin/python -m pip --quiet uninstall --yes pip setuptools
	mkdir -p dist
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --mc-type application \
	  --output-reproducible --output-format JSON --output-file dist/tusd-py.cdx.json \
	  $(VENV)-sbom/bin/python
	$(BIN)/python .ci/sbom_version.py dist/tusd-py.cdx.json
	rm -rf $(VENV)-sbom

# ARGS="--only A,H --servers tusd-py,node --rounds 5"; --help tells the rest.
bench: setup
	$(BIN)/python -m bench.run $(ARGS)

bench-reliability: setup
	$(BIN)/python -m bench.reliability.run $(ARGS)

bench-quick: setup
	$(BIN)/python -m bench.run --quick $(ARGS)

bench-load: setup
	$(BIN)/python -m bench.load $(ARGS)

bench-micro: setup
	$(BIN)/python -m pytest -q -p no:cacheprovider bench/micro.py --benchmark-columns=median,iqr,ops,rounds $(ARGS)

bench-floor: setup
	$(BIN)/python -m bench.floor $(ARGS)

bench-growth: setup
	$(BIN)/python -m bench.growth $(ARGS)

# Everything the tests and the program need, as the newest versions that Python 3.11 can have.
lock:
	rm -rf $(VENV)-lock
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip --quiet install --upgrade pip
	$(VENV)-lock/bin/python -m pip --quiet install -e '.[$(EXTRAS)]' $(GROUPS)
	{ sed -n '/^#/p' $(LOCK); \
	  $(VENV)-lock/bin/python -m pip freeze --exclude-editable; } > $(LOCK).new
	mv $(LOCK).new $(LOCK)
	rm -rf $(VENV)-lock

clean:
	rm -rf $(VENV) $(STATIC) $(WEB)/node_modules $(addsuffix /node_modules,$(NODE_CLIENTS)) \
	  build dist site .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.python:
	@command -v $(PYTHON) >/dev/null || { \
	  echo 'Python is missing: install Python 3.11 or later, or write make PYTHON=...'; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON) is too old: Python 3.11 or later is needed; write make PYTHON=..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
	  echo 'The environment could not be made; on Debian: apt install python3-venv'; exit 1; }
	@touch $@

$(VENV)/.installed: $(VENV)/.python pyproject.toml $(LOCK)
	@echo 'Installing into $(VENV) ...'
	@$(PIP) install -c $(LOCK) -e '.[$(EXTRAS)]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.python pyproject.toml $(LOCK)
	@echo 'Installing into $(VENV), with what the tests need ...'
	@$(PIP) install 'pip>=25.1' && $(PIP) install -c $(LOCK) -e '.[$(EXTRAS)]' $(GROUPS)
	@touch $(VENV)/.installed $@

$(STATIC)/.built: $(WEB_SOURCES)
	@echo 'Building the page ...'
	@cd $(WEB) && npm ci --silent --no-audit --no-fund && npm run --silent build
	@touch $@

%/node_modules/.installed: %/package-lock.json
	@echo 'Installing the JavaScript clients of $* ...'
	@cd $* && npm ci --silent --no-audit --no-fund
	@touch $@
