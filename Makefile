# `make` says what there is. The first target that needs Python sets up .venv; an interrupted set-up heals.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
VENV := .venv
PYTHON := $(VENV)/bin/python
READY := $(VENV)/.ready
PORT ?= 8000
# What a user types reaches a command as one word, whatever stands in it; DRY=0 is as no DRY.
export RUN SET GPUS SPEED CASES CHAPTER PORT
yes = $(filter-out 0 no false,$(1))

.PHONY: help book zip test lint format serve lab run plan bench bench-gpu times clean

help: ## what there is
	@echo "make TARGET, where TARGET is one of:"
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-10s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): requirements.txt pyproject.toml
	@command -v python3 >/dev/null || { echo "python3 is missing: install Python 3.11 or newer."; exit 2; }
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; python3 is `python3 -V`."; exit 2; }
	@python3 -c 'import venv, ensurepip' 2>/dev/null || { echo "Python's venv is missing: on Debian or Ubuntu, apt-get install python3-venv."; exit 2; }
	@$(PYTHON) -m pip --version >/dev/null 2>&1 || { rm -rf $(VENV); python3 -m venv $(VENV); }
	@echo "Installing into $(VENV): a few minutes and about 6.5 GB, most of it PyTorch."
	$(PYTHON) -m pip install --disable-pip-version-check -r requirements.txt
	$(PYTHON) -m pip install --disable-pip-version-check --quiet --no-deps --editable .
	@touch $@

book: $(READY) ## build the book into _build/html; quick where nothing changed
	@$(PYTHON) book/build.py

zip: book ## the built book as one file, to be read offline: _build/book.zip
	@$(PYTHON) -c "import shutil; print(shutil.make_archive('_build/book', 'zip', '_build/html'))"

test: $(READY) ## all tests; ARGS="-m 'not browser' -k name" chooses
	exec $(PYTHON) -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(READY) ## style of code and notebooks, spelling; no outputs and no machine's paths in them
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m codespell_lib book ict_lib runs README.md CONTRIBUTING.md tests/README.md
	$(PYTHON) tests/lint_notebooks.py

format: $(READY) ## put code and notebooks into the one style, and write the page of the references
	$(PYTHON) book/references.py
	$(PYTHON) -m ruff check --fix-only .
	$(PYTHON) -m ruff format .

serve: $(READY) ## build the book and serve it on this machine; PORT=8000
	@$(PYTHON) book/serve.py "$$PORT"

lab: $(READY) ## open the chapters in JupyterLab, and what runs have left
	$(VENV)/bin/jupyter lab --ServerApp.root_dir="$(CURDIR)" book/introduction.ipynb

run: $(READY) ## run one experiment: make run RUN=digits/ict SET="seeds=[0] recipe.dropout=0.1"; DRY=1 tries it in 3 steps, ANEW=1 starts anew; CHAPTER=weighting: with that technique and without
	@test -n "$$RUN" || { echo "Say which: make run RUN=digits/ict"; exit 2; }
	@exec $(PYTHON) -m ict_lib run "$$RUN" $(if $(call yes,$(DRY)),--dry) $(if $(call yes,$(ANEW)),--anew) $(if $(CHAPTER),--chapter="$$CHAPTER") "$$SET"

plan: $(READY) ## what a run takes, before it is run: make plan RUN=cifar10/ict GPUS=8; SPEED=700: images a second of a device
	@test -n "$$RUN" || { echo "Say which: make plan RUN=cifar10/ict GPUS=8"; exit 2; }
	@exec $(PYTHON) -m ict_lib plan "$$RUN" $(if $(GPUS),--devices="$$GPUS") $(if $(SPEED),--images-per-second="$$SPEED") "$$SET"

bench: $(READY) ## measure speed and memory on this CPU, into runs/bench, 6 minutes; CASES="ceiling mlp" chooses
	@exec $(PYTHON) -m ict_lib bench cpu --limit 340 $$CASES

bench-gpu: $(READY) ## the same at the paper's size on a CUDA device, 9 minutes; once more goes on
	@exec $(PYTHON) -m ict_lib bench gpu --limit 520 $$CASES

times: $(READY) ## measure how long the cells of each page take, into book/times.json, when nothing else runs
	rm -rf _build/.jupyter_cache _build/executed_from.json runs/preview
	@$(PYTHON) book/build.py
	@$(PYTHON) book/times.py

clean: ## delete what was built and installed; data and runs stay
	rm -rf _build node_modules $(VENV) .pytest_cache .ruff_cache
