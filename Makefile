# `make help` says what there is. Every command here also works by hand; the README says how.

PYTHON ?= python3
VENV   ?= .venv
PORT   ?= 5000
HOST   := 127.0.0.1
KILLS  ?= 200
FAULTS ?= 50
INPUTS ?= 10000
SEED   ?= 0

BIN     := $(abspath $(VENV))/bin
PY      := $(BIN)/python
STAMP   := $(abspath $(VENV))/.requirements
CREATOR := $(if $(wildcard $(PY)),$(PY),$(PYTHON))

export PATH := $(BIN):$(PATH)
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := true
export PYTHONUNBUFFERED := 1

# Installed is what the lock file said at the time; compare contents, since a checkout gives every file a new date.
WANTED    := $(shell cksum requirements.lock 2>/dev/null | cut -d ' ' -f 1,2)
INSTALLED := $(shell cat '$(STAMP)' 2>/dev/null)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup reproduce all test torture paper ui summary lint format lock clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "  VENV=PATH    use or create the environment there (about 7 GB; several checkouts can share one)"
	@echo "  PYTHON=PATH  the Python, 3.10 to 3.13, that creates it"

setup:  ## create the environment from the hash-pinned lock file
ifneq ($(strip $(WANTED)),$(strip $(INSTALLED)))
	@'$(CREATOR)' -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' \
	  || { echo "error: needs Python 3.10 to 3.13, and $(CREATOR) is missing or another version; try make PYTHON=/path/to/python3.x $(or $(MAKECMDGOALS),setup)" >&2; exit 1; }
	@'$(CREATOR)' -c 'import ensurepip, venv' 2>/dev/null \
	  || { echo "error: $(CREATOR) has no venv module; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "installing the environment in $(VENV); this downloads a few GB once"
	@'$(PY)' -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv '$(VENV)'
	'$(PY)' -m pip install --disable-pip-version-check --require-hashes --requirement requirements.lock
	@cksum requirements.lock | cut -d ' ' -f 1,2 > '$(STAMP)'
endif

reproduce: setup  ## the whole pipeline on the embedded digits data, the PDF, and a summary
	@'$(PY)' scripts/mend_pipeline.py
	@if dvc repro --dry 'report@digits' 2>&1 | grep -q 'up to date'; then \
	  echo "nothing to do: every digits result is up to date"; \
	else \
	  '$(PY)' scripts/reproduce.py digits; \
	fi
	@$(MAKE) --no-print-directory paper summary
	@'$(PY)' scripts/compare_results.py results/digits || echo "these results are not the committed ones (see above)"

all: setup  ## every dataset at the lengths in params.yaml: hours to days (dvc repro)
	@'$(PY)' scripts/mend_pipeline.py
	dvc repro
	@$(MAKE) --no-print-directory paper

test: setup  ## all tests, as many at a time as there are cores
	'$(PY)' -m pytest --numprocesses auto --maxprocesses 8 --dist worksteal

torture: setup  ## kill, fault and bad-input tests, the long way (KILLS=…, FAULTS=…, INPUTS=…, SEED=…)
	'$(PY)' scripts/torture.py --kills '$(KILLS)' --faults '$(FAULTS)' --inputs '$(INPUTS)' --seed '$(SEED)'

paper: setup paper/main.pdf  ## the report as paper/main.pdf (needs LaTeX)

# The recipe leaves no file, and no error, where LaTeX is missing.
paper/main.pdf: $(wildcard paper/*.tex paper/*.bib paper/generated/*/*) | setup
	@'$(PY)' -m replication paper

summary: setup  ## the digits results on the terminal
	@'$(PY)' -m replication summary digits
	@if command -v latexmk >/dev/null; then echo "the report:       paper/main.pdf"; \
	 else echo "the report:       paper/generated/digits (paper/main.pdf is the committed one; with LaTeX: make paper)"; fi
	@echo "browse the runs:  make ui"

ui: setup  ## browse the runs in MLflow at http://127.0.0.1:5000 (PORT=…)
	@case "$$MLFLOW_TRACKING_URI" in \
	  http://*|https://*) echo "the runs are on a server, MLFLOW_TRACKING_URI: $$(echo "$$MLFLOW_TRACKING_URI" | sed 's|//[^/@]*@|//|')" ;; \
	  *) echo "MLflow takes up to a minute to answer; Ctrl-C ends it (what it prints then is no error)"; \
	     '$(PY)' -m replication pages 'http://$(if $(findstring :,$(HOST)),[$(HOST)],$(HOST)):$(PORT)'; \
	     set -x; mlflow ui --workers 1 --host '$(HOST)' --port '$(PORT)' --backend-store-uri "$${MLFLOW_TRACKING_URI:-sqlite:///$(CURDIR)/mlflow.db}" ;; \
	esac

lint: setup  ## style, format and types
	ruff check .
	ruff format --check .
	mypy

format: setup  ## put the code into the agreed format
	ruff check --fix .
	ruff format .

lock: setup  ## renew requirements.lock from pyproject.toml
	uv pip compile --universal --python-version 3.10 --generate-hashes --all-extras --no-emit-index-url --no-emit-find-links \
	  --no-header --upgrade --quiet pyproject.toml --output-file requirements.lock
	'$(PY)' scripts/check_lock.py requirements.lock

clean:  ## remove what is quickly made again; never data, runs or results
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist ./*.egg-info
	find replication scripts tests -name __pycache__ -type d -prune -exec rm -rf {} +
	cd paper && rm -f main.aux main.bbl main.blg main.fdb_latexmk main.fls main.log main.out main.toc
