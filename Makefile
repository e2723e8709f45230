# The two commands that matter:
#   make train   set up .venv, train Cartpole with GI-PPO, say where curve, checkpoint, rollout lie
#   make test    set up .venv, run all tests
# Beside them make docs builds the documentation into site/, refusing dead links, and make test-gpu
# runs the tests that need a GPU, on a machine that has one, and make test-lowest some tests with the
# lowest versions that pyproject.toml admits (WARP=warp: of Warp, too, which builds all kernels anew).
# Variables (make train EPOCHS=50 SEED=1):
#   PYTHON   the interpreter that .venv is made with, 3.10 or newer
#   TORCH    what pip installs first, see below
#   VENV, ENV, ALGO, SEED, EPOCHS, DEVICE, RUN_DIR, PYTEST_ARGS

PYTHON ?= python3
VENV ?= .venv
ENV ?= cartpole
ALGO ?= gippo
SEED ?= 0
EPOCHS ?= 500
DEVICE ?= cpu
RUN_DIR ?= runs/$(ENV)_$(ALGO)_seed$(SEED)_$(shell date +%Y%m%d-%H%M%S)
PYTEST_ARGS ?=
WARP ?=
LOWEST ?= $(VENV)-lowest

# torch goes in first and pinned, so that nothing else chooses its build. Which build this is depends
# on the platform's default: with an NVIDIA GPU on Linux it is the CUDA one. To choose another, name
# it with its index: make train TORCH="torch==2.13.0 --index-url URL".
TORCH ?= torch==2.13.0

# What draws, records, reads USD and meets Gymnasium, and a training from end to end.
LOWEST_TESTS := $(addprefix tests/,gippo/test_api.py gippo/runs/test_plots.py \
    gippo/runs/test_metrics.py gippo/runs/test_recording.py warp_envs/test_gymnasium.py \
    warp_envs/usd/test_loader.py)

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help train test test-gpu test-lowest lint docs format types clean
.DEFAULT_GOAL := help

help:
	@sed -n 's/^#\( \{0,1\}\)//p;/^$$/q' Makefile

# Made again when the requirements or the choice of torch change; otherwise nothing is done.
$(STAMP): pyproject.toml Makefile
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or newer is needed" if sys.version_info < (3, 10) else 0)'
	@echo "Setting up $(VENV): $(TORCH) and the project (minutes the first time, then never again)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq $(TORCH)
	@$(BIN)/python -m pip install -qq --editable '.[dev]'
	@if command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; then \
	    $(BIN)/python -c 'import torch; ok = torch.cuda.is_available(); print("GPU: torch", torch.__version__, "sees it; train on it with DEVICE=cuda" if ok else "does not see it: see TORCH in the Makefile")'; \
	fi
	@touch $@

train: $(STAMP)
	$(BIN)/gippo train env=$(ENV) algo=$(ALGO) seed=$(SEED) num_epochs=$(EPOCHS) \
	    device=$(DEVICE) run_dir=$(RUN_DIR)

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist worksteal $(PYTEST_ARGS)

test-gpu: $(STAMP)
	@$(BIN)/python -c 'import sys, torch; sys.exit(None if torch.cuda.is_available() else "torch sees no GPU here")'
	$(BIN)/python -m pytest -m gpu $(PYTEST_ARGS)

# The lowest versions come first on the path, everything else from $(VENV): torch is there once.
$(LOWEST)/.installed: $(STAMP) pyproject.toml .ci/lowest.py
	@echo "Setting up $(LOWEST): $$($(BIN)/python .ci/lowest.py $(WARP) | tr '\n' ' ')"
	@$(BIN)/python -m venv --clear $(LOWEST)
	@$(LOWEST)/bin/python -m pip install -qq --no-deps $$($(BIN)/python .ci/lowest.py $(WARP))
	@$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	    > "$$($(LOWEST)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/rest.pth"
	@touch $@

test-lowest: $(LOWEST)/.installed
	$(LOWEST)/bin/python -m pytest -n 2 -m "not slow" $(LOWEST_TESTS) $(PYTEST_ARGS)

lint: $(STAMP)
	@status=0; \
	for check in "ruff check ." "ruff format --check ." "pyright --pythonpath $(BIN)/python"; do \
	    echo "$$check"; $(BIN)/$$check || status=1; \
	done; \
	exit $$status

docs: $(STAMP)
	$(BIN)/zensical build --clean --strict

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(LOWEST) build dist site .cache .pytest_cache .ruff_cache
