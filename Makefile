# Posterior Collapse, Reproduced. `make help` lists the targets.
#
# PYTHON  the interpreter that makes .venv (3.11 or later)
# JOBS    how many things run at once
# GRID    the grid of `make batch`
# ARGS    more arguments of `make batch`, such as --dry-run, and of `make prune`: --remove
# PAGE    the page of `make why`, such as notebooks/lagging/text.ipynb
# FROM    the store of another machine, for `make merge`
# DATASET a data set for `make fetch`; without one, all are listed
# SCALE   smoke, quick, medium, large or paper: replaces the scale of every page of `make book`
# RECIPE  recipes of `make reference`; empty for all
# DEVICE  auto, cpu, cuda or mps: where `make reference` computes
# SEEDS   such as [0,1]: replaces the seeds of every page of `make book`

PYTHON ?= python3
JOBS ?= 2
GRID ?= batch.yml
ARGS ?=
PAGE ?=
FROM ?=
DATASET ?=
SCALE ?=
RECIPE ?=
DEVICE ?= auto
SEEDS ?=

# One thread per process: two threads for each of two jobs on two cores are many times slower.
export OMP_NUM_THREADS ?= 1
# glibc hands freed memory back after every training step and faults it in again on the next one;
# keeping it makes a step 1.1 to 1.2 times faster (bench/bench_training_step.py).
export MALLOC_TRIM_THRESHOLD_ ?= 268435456
export MALLOC_MMAP_THRESHOLD_ ?= 33554432
export PYTHONUNBUFFERED := 1
# Some shells and images forbid compiled modules. uv compiles none while it installs, so every process
# would compile torch anew: 15 s of a core each.
export PYTHONDONTWRITEBYTECODE :=
ifneq ($(SCALE),)
export POSTERIOR_COLLAPSE_SCALE := $(SCALE)
endif

ifneq ($(SEEDS),)
export POSTERIOR_COLLAPSE_SEEDS := $(SEEDS)
endif

BIN := .venv/bin
SITE := _build/html/index.html

.DEFAULT_GOAL := help
.PHONY: help env assets runs book pdf test lint format lock batch batch-book why merge prune fetch reference clean

help: ## list the targets
	@echo "usage: make TARGET [PYTHON=python3] [JOBS=2] [GRID=batch.yml] [SCALE=quick] [RECIPE=text-yelp]"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

env: ## create .venv, or refresh it when the lock has changed
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed, but %s is %s; name another one: make PYTHON=python3.11" % (sys.executable, sys.version.split()[0]))'
	@$(PYTHON) -I book/companion/build/environment.py

assets: env ## fetch the scripts that the site serves itself (needs npm)
	@$(BIN)/python -m companion.build.assets

runs: env ## train what the pages ask for and execute the pages
	@$(BIN)/python -m companion.build.batch book --jobs $(JOBS)

book: assets runs ## the whole book: environment, training, pages, site
	@$(BIN)/python -m companion.build.current || { \
	  $(BIN)/jupyter-book build . --all -W -n --keep-going && \
	  $(BIN)/python -m companion.build.current --note; }
	@echo "[book] open $(SITE)"

pdf: env ## print the pages of the built site as PDF files (needs Chromium)
	@$(BIN)/python -m companion.build.pdf

test: assets lint ## the whole test suite, lint included
	@# in the order of collection: tests/conftest.py puts the longest files first
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

lint: env ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: env ## let ruff rewrite what lint would refuse
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

lock: env ## resolve requirements.in again into requirements.lock
	@$(BIN)/uv pip compile requirements.in --config-file uv.toml --python-version 3.11 --universal \
	  --generate-hashes --no-emit-package torch --no-annotate --quiet \
	  --custom-compile-command "make lock" -o requirements.lock > /dev/null
	@echo "[lock] requirements.lock is up to date; the next target rebuilds .venv if it changed"

batch: env ## run a grid of notebooks and parameters: make batch GRID=batch.yml JOBS=2
	@$(BIN)/python -m companion.build.batch grid $(GRID) --jobs $(JOBS) $(ARGS)

batch-book: env ## a book of a grid's pages, with a comparison: make batch-book GRID=batch.yml
	@$(BIN)/python -m companion.build.grid_book $(GRID) $(ARGS)

why: env ## say what has to run for a page of the book, and why: make why PAGE=notebooks/x/y.ipynb
	@$(BIN)/python -m companion.build.batch book --dry-run --page $(PAGE)

merge: env ## take finished runs of another machine's store, checked: make merge FROM=folder
	@$(BIN)/python -m companion.build.merge $(FROM)

prune: env ## show stored runs and pages that nothing asks for: make prune [ARGS=--remove]
	@$(BIN)/python -m companion.build.prune $(addprefix --grid ,$(GRID)) $(ARGS)

fetch: env ## download a data set, checked, into POSTERIOR_COLLAPSE_DATA: make fetch DATASET=mnist
	@$(BIN)/python -m companion.build.fetch $(DATASET)

reference: env ## compute missing reference results (hours); RECIPE=text-yelp limits it
	@$(BIN)/python -m companion.claims.reference --jobs $(JOBS) --device $(DEVICE) $(addprefix --recipe ,$(RECIPE))

clean: ## remove the site and batch outputs; stored runs and .venv stay
	rm -rf _build _batch
