# Two commands are enough on a fresh machine with Python >= 3.11, git and make:
#   make demo    forget a person, with table, figures and report
#   make test    the tests
.PHONY: demo paper-demo baselines robustness rates search test test-fast test-slow test-release smoke lint reference docs docs-serve plan status bench clean help
.DELETE_ON_ERROR:

PYTHON ?= python3
# UV=uv sets up in a fifth of pip's time; uv has settings of its own for mirrors and proxies
UV ?=
OWN_PYTHON = "$$($(PYTHON) -c 'import sys; print(sys.executable)')"
VENV = $(if $(UV),UV_VENV_CLEAR=1 $(UV) venv --quiet --seed --python $(OWN_PYTHON),$(PYTHON) -m venv)
WITH_PIP = $(@D)/bin/pip install --quiet --disable-pip-version-check
INSTALL = $(if $(UV),$(UV) pip install --quiet --python $(@D)/bin/python,$(WITH_PIP))
TARGETS ?=
METHODS ?=
ARGS ?=
SNAKEMAKE = .venv/bin/snakemake
DEMO = $(SNAKEMAKE) --profile workflow/profiles/demo
BASELINES = $(DEMO) --configfile workflow/configs/demo.yaml workflow/configs/baselines.yaml
SHOW = echo; cat results/tables/main.md; echo; echo "All numbers: results/tables/main.csv   \
Figures: results/figures/   Report: $(CURDIR)/results/report.html"; echo
# silences the theme's notice about its successor, which is no fault of a page
MKDOCS = NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs
SMOKE = tests/test_settings.py tests/test_grids.py tests/test_docs.py
WORKERS = --numprocesses auto --dist worksteal
ifneq ($(TARGETS),)
DEMO += --config "targets=$(TARGETS)"
endif

help:
	@echo "make demo [TARGETS=all | TARGETS=id,id]   forget a person on this machine"
	@echo "make paper-demo                           every experiment of the paper in miniature"
	@echo "make baselines                            ten methods side by side on the demo's model, two people"
	@echo "make robustness                           the same ten under seven attacks: does it stay forgotten?"
	@echo "make rates                                the grids that the baselines' learning rates were chosen from"
	@echo "make search [METHODS=name,name] [ARGS=...] equally many settings of eleven methods, on two dev targets: hours"
	@echo "make test                                 run the tests that start no cluster: about ten minutes on two cores"
	@echo "make test-fast                            run the tests that start no program: a minute or two"
	@echo "make test-slow                            a whole run on a real Slurm, and one on the real model"
	@echo "make test-release                         a cluster's faults, a full disk, published tables, attacks: an hour"
	@echo "make reference                            write docs/configuration.md and the config's schema from its models"
	@echo "make docs                                 build the documentation into site/, in a separate environment"
	@echo "make docs-serve                           show the documentation while you write"
	@echo "make smoke                                a little of lint and the fast tests, for a machine that is too slow for more"
	@echo "make lint                                 ruff, snakefmt, mypy, codespell, snakemake --lint"
	@echo "make plan [ARGS='--profile slurm ...']    what a run would do: jobs, GPU-hours, memory, disk"
	@echo "make status                               what the last run has done, what failed, how much time is left"
	@echo "make bench                                time single steps against the released code (after make demo)"
	@echo "make clean                                remove results, logs, downloads and the site"

.venv/ready: envs/requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(VENV) $(@D)
	$(INSTALL) --requirement envs/requirements.txt --editable .
	touch $@

demo: .venv/ready
	$(DEMO)
	$(DEMO) --report results/report.html --quiet all
	@$(SHOW)

paper-demo: .venv/ready
	$(if $(TARGETS),$(error TARGETS: experiments have targets of their own, in workflow/configs/demo.yaml))
	$(DEMO) paper
	$(DEMO) paper --report results/report.html --quiet all
	@cat results/experiments/main_table/tables/main.md
	@echo; echo "Tables and figures: results/experiments/   Report: $(CURDIR)/results/report.html"; echo

baselines: .venv/ready
	$(BASELINES)
	$(BASELINES) --report results/report.html --quiet all
	@$(SHOW)
	@cat results/tables/matched.md

robustness: .venv/ready
	$(if $(TARGETS),$(error TARGETS: experiments have targets of their own, in workflow/configs/demo.yaml))
	$(DEMO) robustness
	@cat results/experiments/robustness/tables/robustness.md results/experiments/robustness/tables/text_scores.md

search: .venv/ready
	$(if $(TARGETS),$(error TARGETS: settings are searched on the two dev targets alone))
	$(DEMO) search --configfile workflow/configs/demo.yaml workflow/configs/search.yaml \
	    $(if $(METHODS),--config 'experiments={search: {methods: [$(METHODS)]}}') $(ARGS)
	@cat results/experiments/search/tables/learning_rates.csv

rates: .venv/ready
	$(BASELINES) workflow/configs/rates.yaml
	@cat results/tables/learning_rates.csv

test: .venv/ready
	.venv/bin/pytest -m "not slow and not release" $(WORKERS)

test-fast: .venv/ready
	.venv/bin/pytest -m fast $(WORKERS)

test-slow: .venv/ready
	.venv/bin/pytest -m slow

test-release: .venv/ready
	.venv/bin/pytest -m release

smoke: .venv/ready
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/codespell
	.venv/bin/pytest -m fast $(SMOKE) $(WORKERS)

lint: .venv/ready
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/snakefmt --check .
	.venv/bin/mypy
	.venv/bin/codespell
	$(SNAKEMAKE) --lint

reference: .venv/ready
	PYTHONPATH=workflow .venv/bin/python -m atu_pipeline.settings.reference

.venv-docs/ready: envs/docs.txt
	$(VENV) $(@D)
	$(INSTALL) --requirement envs/docs.txt
	touch $@

docs: reference .venv-docs/ready
	$(MKDOCS) build

docs-serve: reference .venv-docs/ready
	$(MKDOCS) serve

bench: .venv/ready
	PYTHONPATH=workflow .venv/bin/python benchmarks/steps.py
	PYTHONPATH=workflow .venv/bin/python benchmarks/evaluation.py

plan: .venv/ready
	@.venv/bin/atu plan $(ARGS)

status: .venv/ready
	@.venv/bin/atu status

clean:
	rm -rf results resources logs .snakemake site
