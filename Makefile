# Every target is one documented python -m command; on Windows run those directly.
VENV ?= .venv
PYTHON ?= python3.11
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
EXTRAS ?= [dev]
PIP := $(BIN)/python -m pip install --quiet --constraint constraints-ci.txt \
	$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
export SOILKIT_TEST_DATA ?= $(abspath $(wildcard ../shared/data))

# glibc keeps what it once had: a training asks the kernel for its large blocks once, not each step.
export MALLOC_MMAP_THRESHOLD_ ?= 1073741824
export MALLOC_TRIM_THRESHOLD_ ?= 2147483648

.PHONY: help setup wheelhouse report test test-all browser lab bench study contest check docs lite clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(STAMP)  ## the virtual environment, once; EXTRAS= for users, TORCH_INDEX=... for torch without CUDA
$(STAMP): pyproject.toml constraints-ci.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --no-compile --editable '.$(EXTRAS)'
	$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib >/dev/null || true  # all cores, where pip takes one
	touch $@

wheelhouse: $(STAMP)  ## every wheel for laptops like this one without a network (docs/install.md)
	$(BIN)/python -m pip wheel --quiet --wheel-dir wheelhouse --constraint constraints-ci.txt \
		$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) . pip setuptools

report: $(STAMP)  ## the main job: run the notebooks, build reports/
	$(BIN)/python -m soilkit.show.reports notebooks reports

test: $(STAMP)  ## all tests but the slow ones, two files at a time
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-all: $(STAMP)  ## the slow proofs too
	$(BIN)/python -m pytest -m 'not live'

browser: export SOILKIT_SCREENSHOTS ?= $(abspath build/screenshots)
browser: $(STAMP)  ## the notebooks' views in a real JupyterLab, with chromium; pictures in build/screenshots
	$(BIN)/python -m pytest -m browser tests/browser

lab: $(STAMP)  ## open JupyterLab at notebook 00, beside data/ and reports/
	$(BIN)/python -m jupyter lab --ServerApp.root_dir=. \
		'--LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb?file-browser-path=/'

bench: $(STAMP)  ## one line a benchmark: name, ours, peer, ratio
	$(BIN)/python -m tests.benchmarks

study: $(STAMP)  ## hours: the paper's experiments on the synthetic world; interrupt and start again at will
	$(BIN)/python -m tests.benchmarks.fusion_study reports/xception_fusion $(STUDY)

contest: $(STAMP)  ## hours: procedures on the ten-day stations over five fold seeds, resumable
	$(BIN)/python -m tests.benchmarks.contest reports/tabular_us_10day \
		--table $(SOILKIT_TEST_DATA)/us_10day/matched_10day.parquet \
		--ismn $(SOILKIT_TEST_DATA)/ismn/ismn_us_header_2019_2021.zip $(CONTEST)

check: $(STAMP)  ## style, types, notebooks without outputs
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/python -m nbstripout --verify notebooks/*.ipynb

docs: $(STAMP)  ## the site, in build/docs; a broken link or a name that is gone stops it
	$(PIP) --editable '.[docs]'
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -c docs . build/docs

lite: $(STAMP)  ## the light notebooks for a browser without Python, in build/lite (docs/lite.md)
	$(PIP) --editable '.[lite]'
	$(BIN)/python docs/lite.py build/lite $(if $(PYODIDE),--pyodide $(PYODIDE))

clean:  ## remove the environment and what was built
	rm -rf $(VENV) build wheelhouse *.egg-info
