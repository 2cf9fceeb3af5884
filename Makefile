# `make demo` and `make test` are all that a newcomer needs; both make the environment first.
# Python of the environment, if it shall be another than the one that fits on the PATH.
PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin
# Address of a package index that serves other builds of torch, such as the CPU one; see README. And pip or uv, if it
# shall be another than the one that tools/install.py chooses.
export TORCH_INDEX INSTALLER
FIND := sh tools/find_python.sh
PYTEST := $(BIN)/python -m pytest
# Tests that run at the same time.
JOBS ?= 2

.PHONY: demo test quick fuzz faults backends test-all install lock audit sbom labelme lint format docs browser clean

demo: install
	test -n "$$(ls -A data/raw 2>/dev/null)" || $(BIN)/keypipe demo
	$(BIN)/keypipe run

test: install
	$(PYTEST) -n $(JOBS) -m "not slow and not benchmark and not faults"

# What every interpreter must pass, beside the suite on one of them: minutes.
quick: install
	$(PYTEST) -m quick

# Mutated files for every reader; a sample of it is in `make test`. An interrupted run goes on where it stopped.
FUZZ_INPUTS ?= 100000
fuzz: install
	$(BIN)/python -m tests.fuzz --inputs $(FUZZ_INPUTS)

# Processes killed, disks full, servers away: docs/reliability.md. A sample of it is in `make test`.
faults: install
	$(PYTEST) -n $(JOBS) -m faults

# PostgreSQL, an S3 API, MLflow, Prefect and two workers on this machine, until Ctrl-C: docs/backends.md. The workers retrain
# this clone, or those that WORKSPACES names. Their tests: pytest -m backends.
backends: install
	$(BIN)/python -m tools.backends $(WORKSPACES)

test-all: install
	$(PYTEST) -n $(JOBS)

install: $(VENV)/installed

$(VENV)/installed: requirements.lock pyproject.toml tools/find_python.sh tools/install.py
	@python=$$($(FIND) $(VENV) "$(PYTHON)") && "$$python" tools/install.py $(VENV) requirements.lock --project .
	@touch $@

# The newest labelme wants an older onnxruntime than keypipe, hence an environment of its own. Python 3.12 or newer gets
# labelme 7.
labelme: .venv-labelme/installed
	@echo "to annotate: .venv-labelme/bin/labelme data/raw"

.venv-labelme/installed: requirements-labelme.lock tools/find_python.sh tools/install.py
	@python=$$($(FIND) .venv-labelme "$(PYTHON)") && "$$python" tools/install.py .venv-labelme requirements-labelme.lock
	@touch $@

# Versions stay as long as they fit; UPGRADE=--upgrade takes the newest of all.
lock:
	python=$$($(FIND) $(VENV) "$(PYTHON)") && "$$python" -m venv build/lock
	build/lock/bin/python -m pip install --quiet --disable-pip-version-check uv
	build/lock/bin/python tools/lock.py $(UPGRADE)
	rm -r build/lock

# Known weaknesses of what the locks name. It fails where the index tells nothing of a package, as mirrors do, rather
# than to call it sound.
audit:
	python=$$($(FIND) $(VENV) "$(PYTHON)") && "$$python" -m venv build/audit
	build/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	for lock in requirements.lock requirements-labelme.lock; do \
	build/audit/bin/pip-audit --strict --no-deps --disable-pip --progress-spinner off -r $$lock || exit 1; done
	rm -r build/audit

# What the environment holds, with licenses, as CycloneDX.
sbom: install
	$(BIN)/python -m venv build/sbom
	build/sbom/bin/python -m pip install --quiet --disable-pip-version-check cyclonedx-bom
	build/sbom/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --of JSON \
	-o build/sbom.json $(BIN)/python
	rm -r build/sbom
	@echo "what is installed: build/sbom.json"

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

# The site of docs/, in English and in Chinese; a warning ends it. DOCS_FORGE is the address below which the forge shows
# files, for links to code; without it they are plain text.
export DOCS_FORGE
SITE := $(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -c docs
docs: install
	$(SITE) -d build/doctrees/en docs build/site
	$(SITE) -d build/doctrees/zh-CN -D language=zh_CN docs/zh-CN build/site/zh-CN
	@echo "the site: build/site/index.html"

# The tests of pages want a real browser; without one they are skipped.
browser:
	{ command -v chromium && command -v chromedriver; } || { \
	sudo=$$([ $$(id -u) = 0 ] || echo sudo) && $$sudo apt-get update -q && \
	$$sudo apt-get install -qy --no-install-recommends chromium chromium-driver; } || \
	echo "no chromium and chromium-driver from this system's packages: the tests of pages are skipped"

clean:
	rm -rf $(VENV) .venv-labelme build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
