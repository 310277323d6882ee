# `make test` is all a fresh machine needs: it makes a virtual environment, installs what the tests need
# (as root also a Docker engine), and runs everything but `make soak`.

VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin

.PHONY: test check lint types layers unit contract server kernels e2e bench soak images format clean

test: $(VENV)/.installed docker
	$(BIN)/python tests/run.py

check: lint types layers

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed
	$(BIN)/mypy

layers: $(VENV)/.installed
	$(BIN)/lint-imports

unit contract server kernels e2e: $(VENV)/.installed
	$(BIN)/python -m pytest tests/$@

bench: $(VENV)/.installed
	PYTHONPATH=tests $(BIN)/python -m bench

soak: $(VENV)/.installed
	CLAWDSPACE_SOAK=1 $(BIN)/python -m pytest tests/unit tests/contract tests/e2e -k "order or broken or fuzz or killed or whatever"

images: $(VENV)/.installed
	$(BIN)/python images/build.py

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docker: $(VENV)/.installed
	$(BIN)/python tests/support/dockerd.py install

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[lab,test]'
	touch $@

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
