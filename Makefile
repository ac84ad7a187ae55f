# Every command makes its own environment on first use, from this folder's files alone.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test soak check school clean

demo: .venv/ready  ## Render, embed, search and measure a gallery; writes demo/index.html
	$(BIN)/cies demo

# Two processes of one thread each: most tests would leave the second core idle.
# The pages are opened in a browser; without Chromium, Chrome or Edge those tests are skipped.
test: .venv/ready  ## All tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

soak: .venv/ready  ## The long tests of durability: kills, power cuts, full disks, 100,000 pictures
	$(BIN)/python -m pytest --soak -rs tests/indexes/test_kills.py tests/indexes/test_durable.py \
	  tests/indexes/test_random_histories.py tests/indexes/test_power.py tests/ingest/test_scale.py \
	  tests/ingest/test_side_by_side.py tests/eval/test_bench_ingest.py

check: .venv/ready  ## Lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

school: .venv/ready  ## Train the built-in models again from nothing, a few hours on 2 cores
	$(BIN)/python -m eval.training school

.venv/ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[cpu,dev]'
	touch $@

clean:
	rm -rf .venv demo
