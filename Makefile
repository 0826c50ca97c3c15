# make demo | make test | make serve STUDIES=dir | make evaluate IMAGES=dir | make weights DATA=dir ... Each creates .venv
# when needed.
PYTHON      ?= $(shell command -v python3.11 || command -v python3)
VENV        ?= .venv
CONSTRAINTS ?= constraints.txt
# For a machine without GPU: PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu" saves about 6 GB.
PIP_ARGS    ?=

APP  := apps/sam3d_adapter
PY   := $(VENV)/bin/python
DONE := $(VENV)/.installed
TYPED := $(filter-out $(APP)/lib/__pycache__/,$(wildcard $(APP)/lib/*/))
PYTEST_ARGS ?=

# Given as NAME=value, handed on as --name=value.
SEED    ?=
STUDIES ?=
IMAGE   ?=
CLICK   ?=
PRESET  ?=
HOST    ?=
PORT    ?=
IMAGES  ?=
LABELS  ?=
MANIFEST ?=
MODEL   ?=
BASE    ?=
DATA    ?=
PARENT  ?=
MINUTES ?=
DEVICE  ?=
STEPS   ?=
SIZE    ?=
# Not empty: few volumes and steps, to see in a few minutes that everything runs.
TRIAL   ?=
MODES   ?=
# Not from the environment, where others use this name for something else.
VERSION :=
LEARNING_DIR ?=
OUT     ?=
option = $(if $($(1)),--$(2)='$($(1))')

# A current OHIF beside the one that MONAI Label brings; the tests that need it find it by SAM3D_OHIF.
OHIF_VERSION := 3.13.2
OHIF_SHA512  := 5997719a9986eeba85816f5924b71b82bdd70ad2e2d4a0cd3e831a798e4f3deea3e06e1f8c48e393271933a0ba664d85f3b04ac457e9abe8dde715d907d13c10
OHIF_FOLDER  ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/sam3d_adapter/ohif-$(OHIF_VERSION)
export SAM3D_OHIF ?= $(wildcard $(OHIF_FOLDER)/dist)

.DEFAULT_GOAL := help
.PHONY: help venv demo serve ohif evaluate weights test test-slow test-e2e lint format clean

help:  ## list the commands
	@grep -hE '^[a-z0-9-]+:.*  ## ' $(MAKEFILE_LIST) | awk -F':.*  ## ' '{printf "  make %-10s %s\n", $$1, $$2}'

venv: $(DONE)  ## create .venv with everything (about 4 minutes, 9 GB)

$(DONE): $(APP)/requirements.txt requirements-dev.txt $(CONSTRAINTS)
	@"$(PYTHON)" -c 'import sys; v = sys.version_info[:2]; sys.exit(None if v == (3, 11) else \
	  f"Python 3.11 is needed, {sys.executable} is {v[0]}.{v[1]} (MONAI Label 0.8.5 cannot run on newer ones). Set PYTHON=...")'
	@test -x "$(PY)" || "$(PYTHON)" -m venv "$(VENV)" || { echo "Cannot create $(VENV): on Debian, apt install python3-venv" >&2; exit 1; }
	@echo "Installing the requirements into $(VENV): about 4 minutes and 9 GB, once."
	@"$(PYTHON)" -c 'import shutil; free = shutil.disk_usage(".").free / 1e9; free < 13 and print( \
	  f"Warning: {free:.0f} GB are free on this disk; 9 GB stay, and 4 GB more are taken while it installs.")'
	"$(PY)" -m pip install --disable-pip-version-check --progress-bar off $(PIP_ARGS) \
	  $(if $(CONSTRAINTS),-c $(CONSTRAINTS)) -r requirements-dev.txt
	@touch "$@"

demo: $(DONE)  ## a click on a phantom through the real server; or STUDIES=dir IMAGE=id CLICK=i,j,k PRESET=ct
	@"$(PY)" -m demo.run $(call option,STUDIES,studies) $(call option,IMAGE,image) $(call option,CLICK,click) \
	  $(call option,PRESET,preset) $(call option,PORT,port) $(call option,SEED,seed)

serve: $(DONE)  ## real use on this machine: STUDIES=dir or http://.../dicom-web [PORT=8000] [PRESET=ct,mr]
	@test -n '$(STUDIES)' || { echo "Give STUDIES=, a folder of images or http://.../dicom-web" >&2; exit 1; }
	@"$(PY)" -m sam3d serve $(call option,STUDIES,studies) $(call option,PORT,port) $(call option,HOST,host) \
	  $(call option,PRESET,preset)

ohif: $(OHIF_FOLDER)/dist  ## fetch OHIF 3.13.2 from npm (50 MB, 204 MB on disk) for `sam3d serve --ohif`; prints its folder
	@echo "$(OHIF_FOLDER)/dist"

$(OHIF_FOLDER)/dist:
	@rm -rf "$(OHIF_FOLDER)" && mkdir -p "$(OHIF_FOLDER)"
	@cd "$(OHIF_FOLDER)" && npm pack --silent "@ohif/app@$(OHIF_VERSION)" > /dev/null \
	  && echo "$(OHIF_SHA512)  ohif-app-$(OHIF_VERSION).tgz" | sha512sum --check --quiet \
	  && tar -xzf "ohif-app-$(OHIF_VERSION).tgz" && rm "ohif-app-$(OHIF_VERSION).tgz" && mv package/dist .

evaluate: $(DONE)  ## how good a preset is: IMAGES=dir LABELS=dir PRESET=ct OUT=dir [VERSION=id|shipped] [MODEL=file [BASE=file]] [MODES=centre|all]
	@test -n '$(IMAGES)$(MANIFEST)' -a -n '$(PRESET)' -a -n '$(OUT)' || \
	  { echo "Give IMAGES=, LABELS= (folders) or MANIFEST= (a file), PRESET= and OUT= (a folder outside of them)" >&2; exit 1; }
	@"$(PY)" -m sam3d evaluate $(call option,IMAGES,images) $(call option,LABELS,labels) $(call option,MANIFEST,manifest) \
	  $(call option,PRESET,preset) $(call option,OUT,out) $(call option,MODEL,model) $(call option,BASE,base) \
	  $(call option,VERSION,version) $(call option,LEARNING_DIR,learning-dir) $(call option,MODES,modes)

weights: $(DONE)  ## train small weights anew: DATA=dir [SIZE=tiny|micro] [OUT=trained] [MINUTES=600] [PARENT="base weights"] [DEVICE=cpu|cuda]
	@test -n '$(DATA)' || { echo "Give DATA=, the folder of volumes that docs/weights.md describes" >&2; exit 1; }
	@"$(PY)" -m sam3d weights --held-out=benchmarks/held_out.txt $(call option,DATA,data) $(call option,OUT,out) \
	  $(call option,MINUTES,minutes) $(if $(PARENT),--parent $(PARENT)) $(call option,DEVICE,device) $(if $(TRIAL),--trial) $(call option,STEPS,steps) \
	  $(call option,SIZE,size)

# A file a process: fixtures of a module are made once. One thread each, for small models only wait for each other.
test: $(DONE)  ## the fast tests, on two processes
	OMP_NUM_THREADS=1 "$(PY)" -m pytest -n 2 --dist loadfile $(PYTEST_ARGS)

test-slow: $(DONE)  ## the slow tests, on two processes
	OMP_NUM_THREADS=1 "$(PY)" -m pytest -m slow -n 2 --dist loadfile --timeout 600 $(PYTEST_ARGS)

test-e2e: $(DONE)  ## real server, Orthanc, OHIF in Chromium
	"$(PY)" -m pytest -m e2e --timeout 600 $(PYTEST_ARGS)

lint: $(DONE)  ## style, format, types
	"$(VENV)/bin/ruff" check .
	"$(VENV)/bin/ruff" format --check .
	"$(VENV)/bin/oxlint" $(APP)/ohif $(APP)/tests/ohif
	$(if $(TYPED),"$(VENV)/bin/mypy" $(TYPED),@echo "mypy: nothing to check yet")

format: $(DONE)  ## let ruff put the code in form
	"$(VENV)/bin/ruff" check --fix .
	"$(VENV)/bin/ruff" format .

clean:  ## remove caches and what the demo wrote (not .venv)
	rm -rf demo/out demo/studies ci-logs .pytest_cache .mypy_cache .ruff_cache .hypothesis
