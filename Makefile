.PHONY: demo test test-long train-smoke faults check clean

PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed
# two threads on two busy cores are slower than one: parallel tests and workers get one each
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS=1

demo: $(STAMP)
	$(VENV)/bin/python -m workflows demo

# three workers on two cores: whole services wait for each other a good part of their time
PYTEST := $(ONE_THREAD) $(VENV)/bin/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

test: $(STAMP)
	$(PYTEST) -m "not slow"

test-long: $(STAMP)
	$(PYTEST)

# every training from data to a verified bundle, on tiny data: a minute or two
train-smoke: $(STAMP)
	$(ONE_THREAD) $(VENV)/bin/python -m training.smoke

# kills every part of a department's service at random moments; some twenty minutes
faults: $(STAMP)
	$(ONE_THREAD) $(VENV)/bin/python -m tests.faults

check: $(STAMP)
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

$(STAMP): pyproject.toml constraints.txt
	@echo "Installing into $(VENV): a few minutes, some GB …"
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt --editable ".[dev]"
	# pip compiles on one core what all can; what libraries keep for other Pythons does not compile, and need not
	$(VENV)/bin/python -m compileall -qq -j 0 $(VENV)/lib || true
	touch $(STAMP)

clean:
	rm -rf $(VENV) demo
