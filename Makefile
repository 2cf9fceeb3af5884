# `make demo` and `make test` are all that a newcomer needs; both make the environment first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Address of a package index that serves other builds of torch, such as the CPU one; see README.
TORCH_INDEX ?=
CUDA := ^(torch|torchvision|triton|nvidia-|cuda-)
PYTEST := $(BIN)/python -m pytest

.PHONY: demo test test-all install lock deps lint format browser clean

demo: install
	test -n "$$(ls -A data/raw 2>/dev/null)" || $(BIN)/keypipe demo
	$(BIN)/keypipe run

test: install
	$(PYTEST) -m "not slow and not benchmark and not faults"

test-all: install
	$(PYTEST)

install: $(VENV)/installed

$(VENV)/installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "keypipe needs Python 3.11, this is " + sys.version.split()[0] + "; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
ifeq ($(TORCH_INDEX),)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -r requirements.lock
else
	grep -E '^(torch|torchvision)==' requirements.lock > $(VENV)/torch.lock
	grep -vE '$(CUDA)' requirements.lock > $(VENV)/rest.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --index-url $(TORCH_INDEX) -r $(VENV)/torch.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -r $(VENV)/rest.lock
endif
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

lock:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python tools/lock.py > requirements.lock.new
	mv requirements.lock.new requirements.lock

# What a stage imports is among its deps in dvc.yaml; a test fails where it is not.
deps: install
	$(BIN)/python tools/deps.py

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

# The tests of pages want a real browser; without one they are skipped.
browser:
	command -v chromium chromedriver || { apt-get update -q && apt-get install -qy --no-install-recommends chromium chromium-driver; }

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
