# Every target sets up its own environment on first use, in .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test soak families check docs release train clean

demo: .venv/ready  ## Render, embed, search and measure a gallery; writes demo/index.html
	$(BIN)/cies demo

# Two processes of one thread each, because most tests use one core only.
# Tests of pages open them in a browser; without Chromium, Chrome or Edge they are skipped.
test: .venv/ready  ## All tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

families: .venv/ready  ## Measure every tiny model against transformers; write the family table
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n0 --families tests/ingest/encoders/test_family_table.py

soak: .venv/ready  ## Long durability tests: kills, power cuts, full disks, 100,000 pictures
	$(BIN)/python -m pytest --soak -m soak
	$(BIN)/python -m pytest --soak -rs tests/indexes/test_kills.py tests/indexes/test_durable.py \
	  tests/indexes/test_random_histories.py tests/indexes/test_power.py \
	  tests/indexes/test_any_damage.py tests/indexes/test_commit_cost.py tests/ingest/test_scale.py \
	  tests/ingest/test_side_by_side.py tests/eval/test_bench_ingest.py

check: .venv/ready  ## Lint, format and types, of the code and of the tests' helpers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: .venv/docs-ready  ## The documentation site, in site/; warnings are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# Each file is installed with its dependencies in an environment of its own, which runs the demo;
# a program that uses the package is checked by mypy and pyright there.
release: .venv/release-ready  ## Build wheel and sdist, check them, install each and run the demo
	rm -rf dist
	$(BIN)/python -m build --outdir dist
	$(BIN)/python -m twine check --strict dist/*
	for file in dist/*.whl dist/*.tar.gz; do \
	  rm -rf dist/try && $(PYTHON) -m venv dist/try && \
	  dist/try/bin/python -m pip install --quiet -c constraints.txt torch && \
	  dist/try/bin/python -m pip install --quiet -c constraints.txt "cies[cpu] @ file://$(CURDIR)/$$file" && \
	  (cd dist/try && bin/cies --version && bin/cies demo -n 60) && \
	  $(BIN)/python tests/support/consumer.py --check dist/try || exit 1; \
	done
	rm -rf dist/try

train: .venv/ready  ## Train the built-in models again from random weights, a few hours on 2 cores
	$(BIN)/python -m eval.training trained

.venv/ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[cpu,dev]'
	touch $@

.venv/docs-ready: .venv/ready
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[docs]'
	touch $@

.venv/release-ready: .venv/ready
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[release]'
	touch $@

clean:
	rm -rf .venv demo site dist
