# Two commands do everything on a fresh machine with Python 3.11 and make: `make demo` and `make test`.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python

.PHONY: demo test quick notebooks bench readme clean
.DEFAULT_GOAL := demo

# The environment, from pinned versions; made once, and again when what it is made from changes.
$(VENV)/.ready: constraints.txt settings.ini setup.py pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[all,dev]"
	touch $@

# Learn the bundled guitar amp: sound, picture, report and exports are left in demo_out/.
demo: $(VENV)/.ready
	$(PY) -m fastproaudio.demo -o demo_out

# Notebooks and modules in sync, every notebook cell, every test.
test: $(VENV)/.ready
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 tests

# Under 90 s on 2 cores: house rules, modules in sync, files, losses, a network of each kind, cheap notebooks.
quick: $(VENV)/.ready
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --quick tests

# After editing a notebook: export it, clean it, and check that everything is in sync.
notebooks: $(VENV)/.ready
	$(BIN)/nbdev-export
	$(BIN)/nbdev-clean
	$(PY) tools/readme.py
	$(PY) -m pytest tests/test_notebooks.py -k "in_sync"

# Tables beside the peers; minutes each. DATA is a folder of recordings, see benchmarks/README.md.
bench: $(VENV)/.ready
	for b in data losses spectro generate export; do $(PY) benchmarks/$$b.py || exit 1; done
	if [ -n "$(DATA)" ]; then $(PY) benchmarks/effects.py "$(DATA)"; fi

readme: $(VENV)/.ready
	$(PY) tools/readme.py

clean:
	rm -rf $(VENV) demo_out build *.egg-info
