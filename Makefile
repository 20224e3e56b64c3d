# Everything works on a bare machine with Python 3.11+ and make; the environment is made in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := $(VENV)/.run
DEV := $(VENV)/.dev
export ONRECORD_HOME ?= $(CURDIR)/.onrecord
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: chat test check format bench eval report train browser clean

chat: $(RUN)  ## install, index the interview, serve the page
	$(BIN)/onrecord index
	$(BIN)/onrecord chat

test: $(DEV) browser  ## every test, the page in a real browser included
	$(BIN)/pytest -q

check: $(DEV)  ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/onrecord eval readme --check

format: $(DEV)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(DEV)  ## speed, as ratios within one run
	$(BIN)/python tests/bench.py

eval: $(RUN)  ## grounding, measured on the shipped evaluation set
	$(BIN)/onrecord eval

report: $(DEV)  ## measure, and keep the report that ships and README shows
	$(BIN)/onrecord eval || true
	cp $(ONRECORD_HOME)/evaluation/interview.json eval/data/report.json
	$(BIN)/onrecord eval readme

train: $(DEV)  ## make the reader's weights again: make train DATA=folder of the public sets; resumes
	$(BIN)/python -m training.train --data $(DATA) --checkpoint $(ONRECORD_HOME)/late.ckpt \
	  --out index/data/adapter.safetensors
	$(BIN)/python -m training.cross --data $(DATA) --checkpoint $(ONRECORD_HOME)/cross.ckpt \
	  --first index/data/adapter.safetensors --out rag/data/cross_encoder.safetensors
	$(BIN)/python -m training.calibrate rag/data/cross_encoder.safetensors

# Debian's Chromium where it can be installed, else the one that Playwright brings.
browser: $(DEV)
	@command -v chromium >/dev/null \
	|| { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq \
	     && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; } \
	|| $(BIN)/playwright install chromium

# The constraints pin what was tested; with torch pinned, pip takes a CPU build where one is offered.
$(RUN): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(DEV): $(RUN)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .onrecord build *.egg-info .mypy_cache .ruff_cache .pytest_cache
