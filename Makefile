# make run: set up and run the main job on real data.  make test: set up and test.  make bench: the benchmarks.
PYTHON ?= python3.11
VENV := .venv
PY := $(VENV)/bin/python
export DEEPFIELD_DATA ?= $(realpath ../shared/data)

.PHONY: run test bare lint docs bench clean
run: $(VENV)/.installed
	$(PY) -m deepfield.cli run photoz --out report
	@echo "open report/index.html"

test: $(VENV)/.installed-test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist worksteal

# The base install alone: no optional library, and `import deepfield` loads none of the required ones.
bare:
	rm -rf .venv-bare
	$(PYTHON) -m venv .venv-bare
	.venv-bare/bin/python -m pip install -q --upgrade pip -c constraints.txt
	.venv-bare/bin/python -m pip install -q -c constraints.txt .
	.venv-bare/bin/python .ci/bare_install.py
	rm -rf .venv-bare

lint: $(VENV)/.installed-test
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .
	$(VENV)/bin/mypy

docs: $(VENV)/.installed-test
	$(PY) -m pip install -q -c constraints.txt -e '.[docs]'
	$(PY) -m sphinx -W --keep-going -b html docs docs/_build/html

bench: $(VENV)/.installed-test
	$(PY) benchmarks/photoz.py

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install -q --upgrade pip -c constraints.txt

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PY) -m pip install -q -c constraints.txt -e '.[all]'
	touch $@

$(VENV)/.installed-test: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PY) -m pip install -q -c constraints.txt -e '.[all,test]'
	touch $(VENV)/.installed $@

clean:
	rm -rf $(VENV) report docs/_build
