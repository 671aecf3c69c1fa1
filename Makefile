# From a fresh clone: Python 3.12 to 3.14, make and a package index are all it takes.
#   make demo                      fit the bundled Old Faithful data
#   make demo DATA=my.csv K=3      fit a file of yours (COLUMNS=a,b chooses columns)
#   make test                      everything that must hold
#   make PYTHON=/path/to/python    choose the interpreter yourself

.DEFAULT_GOAL := help
.PHONY: help env demo test lint bench docs notebooks lock clean

SHELL := /bin/sh
VENV := .venv
RUN := $(VENV)/bin/python -m
PIP := $(RUN) pip --disable-pip-version-check --quiet
JOBS ?= 2
TESTS ?= bayesgmm tests
NOTEBOOKS ?= notebooks/*.ipynb
CANDIDATES := $(if $(PYTHON),'$(PYTHON)',python3 python3.14 python3.13 python3.12)
WANTED := import sys; sys.exit(not (3, 12) <= sys.version_info[:2] <= (3, 14))
VERSION := import platform; print(platform.python_version())

help:
	@echo 'make demo   fit Old Faithful, or DATA=my.csv K=3 (COLUMNS=a,b); results in demo/'
	@echo 'make test   lint, types, docstrings, tests and doctests (ARGS="-k em" goes to pytest)'
	@echo 'make lint   ruff, mypy and numpydoc alone'
	@echo 'make docs   the site, in docs/_build/html'
	@echo 'make notebooks  run them all (NOTEBOOKS=notebooks/03*.ipynb: some), copies in notebooks/executed'
	@echo 'make bench  speed against its peers, for docs/performance.md (ARGS=--help says more)'
	@echo 'make lock   resolve the locked environment anew'
	@echo 'make env    the environment alone, in .venv'
	@echo 'make clean  remove everything that these commands made'

env: $(VENV)/.installed

# An environment whose Python was removed or upgraded away is made anew.
$(shell $(VENV)/bin/python -c '' 2>/dev/null || rm -f $(VENV)/.installed $(VENV)/bin/python)

# The first interpreter that runs and is new enough. A version manager's stub that only
# complains (`python3.12: command not found`) does not run, so it is passed over.
$(VENV)/bin/python:
	@found=''; \
	for python in $(CANDIDATES); do \
	  version=$$("$$python" -c '$(VERSION)' 2>/dev/null) || continue; \
	  if "$$python" -c '$(WANTED)'; then \
	    echo "Making $(VENV) with Python $$version"; \
	    "$$python" -m venv --clear $(VENV) && exit 0; \
	    rm -rf $(VENV); exit 1; \
	  fi; \
	  found="$${found:+$$found, }$$python is $$version"; \
	done; \
	echo "bayesgmm needs Python 3.12, 3.13 or 3.14, and none was found ($${found:-no" \
	  "Python runs here}): install one from https://www.python.org/downloads/, or name" \
	  "yours with \`make PYTHON=/path/to/python3.13 ...\`." >&2; \
	exit 1

$(VENV)/.installed: requirements.lock pyproject.toml | $(VENV)/bin/python
	@echo 'Installing the locked packages (minutes the first time, then only what changed)'
	@$(PIP) install --require-hashes --requirement requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.installed-bench: requirements-bench.lock $(VENV)/.installed
	@echo 'Installing the packages that only the benchmarks need'
	@$(PIP) install --require-hashes --requirement requirements-bench.lock
	@touch $@

demo: env
	@$(RUN) bayesgmm demo $(if $(DATA),'$(DATA)') $(if $(K),--components '$(K)') \
	  $(if $(COLUMNS),--columns '$(COLUMNS)') --out-dir demo

lint: env
	@echo 'ruff check' && $(RUN) ruff check --quiet .
	@echo 'ruff format' && $(RUN) ruff format --quiet --check .
	@echo 'mypy' && $(RUN) mypy --no-error-summary
	@echo 'numpydoc' && find bayesgmm -name '*.py' -exec $(RUN) numpydoc lint {} +

test: lint
	@echo 'pytest'
	@$(RUN) pytest --quiet --numprocesses $(JOBS) --doctest-modules $(TESTS) $(ARGS)

bench: $(VENV)/.installed-bench
	@$(RUN) benchmarks $(ARGS)

docs: env
	@echo 'Building docs/_build/html'
	@$(RUN) sphinx --quiet --fail-on-warning --keep-going -b html docs docs/_build/html

notebooks: env
	@mkdir -p notebooks/executed
	@$(RUN) jupyter execute --output='executed/{notebook_name}' $(NOTEBOOKS)

# One resolution for every platform and Python from 3.12 on, with a hash for every file.
LOCK := uv pip compile pyproject.toml --universal --python-version 3.12 --generate-hashes \
  --no-emit-index-url --upgrade --quiet --custom-compile-command 'make lock'
lock: env
	@command -v uv >/dev/null || { echo 'make lock needs uv: pip install uv' >&2; exit 1; }
	@echo 'Resolving requirements.lock'
	@echo hatchling | $(LOCK) - --extra plots --extra test --extra docs -o requirements.lock
	@echo 'Resolving requirements-bench.lock'
	@$(LOCK) --extra bench --constraint requirements.lock -o requirements-bench.lock

clean:
	rm -rf $(VENV) demo docs/_build docs/jupyter_execute notebooks/executed dist build
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
