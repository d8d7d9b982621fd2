# psvit: `make demo` and `make test` set up .venv themselves; both need only Python and make.

# Processes that run tests, and threads for each: two of one, for a machine with two cores.
JOBS ?= 2
PYTHON ?=

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input -qq

# The first Python that is new enough and can make a virtual environment. Looked for only when
# .venv has to be made; $(error) so that exactly one line says what is missing.
FIT = import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
FOUND = $(shell for p in $(PYTHON) python3.13 python3.12 python3.11 python3; do \
	$$p -c '$(FIT)' >/dev/null 2>&1 && { echo $$p; break; }; done)
NEED = psvit needs Python 3.11 or newer with its venv module (Debian: apt install python3-venv); \
or name one: make PYTHON=/path/to/python3

.PHONY: setup demo test test-thorough check format

setup: .venv/.done

demo: .venv/.done
	@$(BIN)/psvit demo

test: .venv/.done
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadgroup -m "not thorough" $(ARGS)

# The rest: each law on every model, and the published models at T = 4.
test-thorough: .venv/.done
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadgroup -m thorough $(ARGS)

check: .venv/.done
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: .venv/.done
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(BIN)/python:
	@$(or $(FOUND),$(error $(NEED))) -m venv --clear .venv

# SpikingJelly is installed without its declared dependencies: among them are torchvision,
# torchaudio, matplotlib and tensorboard, which psvit never imports and which can pull in another
# torch. Its neurons, layers and models import only h5py, loguru and tqdm besides torch and numpy, its
# exchange nir and nirtorch.
.venv/.done: pyproject.toml constraints.txt | $(BIN)/python
	@echo "setting up .venv (the first time this takes some minutes)"
	@$(PIP) install -c constraints.txt -e '.[digits,data,einops,finetune,hub,datasets,openvino,dev]' h5py loguru tqdm nir nirtorch
	@$(PIP) install -c constraints.txt --no-deps spikingjelly
	@touch $@
