# The journeys a person makes. Each target sets up what it needs in .venv; nothing is installed outside it.
.DEFAULT_GOAL := help
SHELL := /bin/sh
MAKEFLAGS += --no-print-directory

# The first Python that is new enough, unless one is named: make PYTHON=python3.12 smoke
ifndef PYTHON
PYTHON := $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
endif
VENV  ?= .venv
TORCH ?= auto
PY    := $(VENV)/bin/python

SCALE   ?=
SEEDS   ?= 0 1 2
METHODS ?= linear lora-r8*
PYTEST_ARGS ?=
FUZZ_ARGS ?=
# Processes of the tests, one thread each.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(min(os.cpu_count(), 8))')

# Two threads on two busy cores are often slower than one; matplotlib must not look for a display.
test test-all fuzz lint: export OMP_NUM_THREADS = 1
export MPLBACKEND = Agg
# Packages are installed without bytecode; without this, some machines would compile them at every start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup data-setup fuzz smoke smoke-grid micro tables test test-all test-setup slurm-setup slurm-install slurm-test slurm-grid lint lint-setup format hooks lock clean distclean check-python

help:  ## what each target does
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' Makefile

check-python:
	@$(if $(PYTHON),$(PYTHON),false) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	{ echo "error: Python 3.11 or newer is needed$(if $(PYTHON), and '$(PYTHON)' is not); name one: make PYTHON=/path/to/python3.12" >&2; exit 2; }

setup: check-python  ## create .venv with the pinned versions (again: under a second)
	@$(PYTHON) requirements/setup_env.py --venv $(VENV) --extras suite,test --torch $(TORCH)

data-setup: check-python  ## setup, and TensorFlow Datasets for `data_prep prepare --source tfds`
	@$(PYTHON) requirements/setup_env.py --venv $(VENV) --extras suite,test,data --torch $(TORCH)

# The tests need peft and TFDS, the suite does not. An environment keeps what earlier calls asked for.
test-setup: check-python
	@$(PYTHON) requirements/setup_env.py --venv $(VENV) --extras suite,test,peft,data,slurm,trainers --torch $(TORCH)

slurm-setup: check-python  ## setup, and submitit for `python -m slurm`
	@$(PYTHON) requirements/setup_env.py --venv $(VENV) --extras suite,test,slurm --torch $(TORCH)

lint-setup: check-python
	@$(PYTHON) requirements/setup_env.py --venv $(VENV) --extras suite,test,dev --torch $(TORCH)

# Three cells that are trained for real, at the scale micro. They have folders of their own: the records that
# are committed stay what they are.
ONE_TASK := vtab1k/vit_micro/svhn
ONE      := work/smoke/one-task
THREE    := '$(ONE_TASK)/lora-r8/0' '$(ONE_TASK)/lora-r8+control/0' '$(ONE_TASK)/lora-r8+linear/0'
IN_ONE   := --scale micro --results $(ONE)/results

# Of what times steps: one method with all penalties, and all methods. `speed` starts many processes, and is left out.
COVERED  := 'vtab1k/*' 'fewshot/*' 'flickr30k/*' 'msrvtt/*' 'cost/*/cpu-fp32/lora-r2' 'method_cost/*/cpu-fp32'

# The three train beside the rest, each run in one process: what takes long is to import torch.
smoke: setup  ## everything once: data, 79 cells, tables, figures; ends with a result
	@$(PY) -m data_prep prepare vtab1k/svhn
	@mkdir -p $(ONE); trap 'kill $$one 2>/dev/null' EXIT; trap 'exit 130' INT TERM; \
	echo "three cells of $(ONE_TASK) train in the background, log: $(ONE)/log"; \
	$(PY) -m benchmarks run $(THREE) $(IN_ONE) --work $(ONE) --device cpu --jobs 1 >$(ONE)/log 2>&1 & one=$$!; \
	$(PY) -m data_prep prepare fewshot/food101 || exit; \
	$(PY) -m data_prep prepare flickr30k || exit; \
	$(PY) -m data_prep prepare msrvtt --first 24 || exit; \
	ran=0; $(PY) -m benchmarks run $(COVERED) --cover --scale smoke --jobs 1 || ran=$$?; \
	case $$ran in 0|1) ;; *) exit $$ran;; esac; \
	$(PY) -m reports build --scale smoke >$(ONE)/tables.log || [ $$? -eq 3 ] || { cat $(ONE)/tables.log; exit 1; }; \
	wait $$one || { code=$$?; cat $(ONE)/log; exit $$code; }; \
	$(call end_of_smoke); exit $$ran

define end_of_smoke
	echo; echo "One task at the scale micro: the digit in the middle of an image, 800 training images, seed 0."; \
	$(PY) -m benchmarks show '$(ONE_TASK)/lora-r8*/0' $(IN_ONE) --done || exit; \
	echo; echo "redundancy: mean squared cosine between the activations of two subspaces."; \
	echo "+linear and +control start from lora-r8's checkpoint and train as long, with the penalty and without."; \
	echo "One task and one seed are no finding: reports/RESULTS.md has the mean of 19 tasks and 3 seeds."; \
	echo; echo "all tables and figures of the smoke cells (differences there mean nothing):"; \
	echo "  file://$(CURDIR)/reports/tables/smoke/index.html"; \
	echo "next:"; \
	echo "  $(PY) -m benchmarks show $(ONE_TASK)/lora-r8+linear/0 $(IN_ONE)"; \
	echo "      each setting of the last row, where it comes from, and its record"; \
	echo "  $(PY) -m benchmarks run '$(ONE_TASK)/moslora-r8*/0' $(IN_ONE)"; \
	echo "      another method on this task, two minutes"; \
	echo "  make micro METHODS='lora-r8 lora-r8+control lora-r8+linear'"; \
	echo "      all 19 tasks and three seeds; cells with a record in results/micro are not run again"
endef

smoke-grid: setup  ## every cell of the smoke scale, 1,688: half an hour, for a release or a cluster
	@$(PY) -m data_prep prepare vtab1k
	@$(PY) -m data_prep prepare fewshot
	@$(PY) -m data_prep prepare flickr30k
	@$(PY) -m data_prep prepare msrvtt
	@$(call run_and_report,smoke,'vtab1k/*' 'fewshot/*' 'flickr30k/*' 'msrvtt/*' 'cost/*/cpu-*' 'method_cost/*/cpu-*')

micro: setup  ## the embedded world at a larger budget: SEEDS="0 1" METHODS="linear lora-r8*"
	@$(PY) -m data_prep prepare vtab1k
	@$(call run_and_report,micro,$(foreach m,$(METHODS),$(foreach s,$(SEEDS),'vtab1k/vit_micro/*/$(m)/$(s)')))

# Tables are built from whatever finished, also when some cells failed; the run's verdict is the last word.
# Exit codes of the suite: 0 done, 1 some cells failed, 2 usage, 3 incomplete (holes in a table are no error).
define run_and_report
	ran=0; $(PY) -m benchmarks run $(2) --scale $(1) || ran=$$?; \
	case $$ran in 0|1) ;; *) exit $$ran;; esac; \
	$(PY) -m reports build --scale $(1) || [ $$? -eq 3 ] || exit 1; \
	echo; $(PY) -m reports show table2 --scale $(1) || [ $$? -eq 3 ] || exit 1; \
	echo; echo "tables and figures: reports/tables/$(1)/   records: results/$(1)/"; \
	exit $$ran
endef

tables: setup  ## all tables and figures from the records; of one scale: make tables SCALE=micro
	@$(PY) -m reports build $(if $(SCALE),--scale $(SCALE)) || [ $$? -eq 3 ]

# A file's tests stay in one process, since they share what its fixtures made; in the order of tests/conftest.py.
PYTEST = $(PY) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test: test-setup  ## the tests but the slow ones: make test PYTEST_ARGS=tests/resora
	@$(PYTEST) -m 'not slow' $(PYTEST_ARGS)

test-all: test-setup  ## all tests, as CI runs them
	@$(PYTEST) $(PYTEST_ARGS)

fuzz: setup  ## damage files at random: make fuzz FUZZ_ARGS='--seconds 60 --seed 0'
	@$(PY) tests/fuzz.py $(FUZZ_ARGS)

# Debian's packages; needs root, or sudo, to install what is missing. The cluster itself runs as any user.
SLURM_PACKAGES := slurmctld slurmd slurm-client munge slurmdbd mariadb-server-core mariadb-client-core
AS_ROOT := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

slurm-install:
	@dpkg -s $(SLURM_PACKAGES) >/dev/null 2>&1 || { $(AS_ROOT) apt-get update -q && \
	$(AS_ROOT) apt-get install -yq --no-install-recommends $(SLURM_PACKAGES); }

slurm-test: slurm-setup slurm-install  ## start a real Slurm of three nodes on this machine, and test on it
	@SLURM_TESTS=1 OMP_NUM_THREADS=1 $(PY) -m pytest tests/slurm $(PYTEST_ARGS)

slurm-grid: slurm-setup slurm-install  ## the smoke grid on that Slurm, against a run without (1.5 hours; SLURM_GRID names less)
	@SLURM_TESTS=grid OMP_NUM_THREADS=1 $(PY) -m pytest tests/slurm/test_whole_grid.py -s $(PYTEST_ARGS)

lint: lint-setup  ## ruff and mypy, as CI runs them
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy

format: lint-setup  ## let ruff fix and format
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

hooks: lint-setup  ## run ruff and mypy before each commit (pre-commit)
	@$(PY) -m pre_commit install

lock: setup  ## resolve requirements/lock.txt anew (needs the network)
	@$(PY) requirements/make_lock.py

clean:  ## remove caches and all of the smoke scale; keep .venv, data, other records
	@rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis results/smoke work/smoke reports/tables/smoke
	@find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +

distclean: clean  ## clean, and remove .venv, embedded data, checkpoints; keep real data and weights
	@rm -rf $(VENV) data/embedded work
