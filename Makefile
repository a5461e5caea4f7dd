.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
UV := .venv-boot/bin/uv
RUN := .venv/bin
export UV_PYTHON_DOWNLOADS := never
export PYTHONDONTWRITEBYTECODE :=

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-13s %s\n", $$1, $$2}'

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit("backtest_assets needs Python 3.11 to 3.13; set PYTHON=python3.11" if not (3, 11) <= sys.version_info < (3, 14) else 0)'
	$(PYTHON) -m venv .venv-boot
	.venv-boot/bin/pip install --quiet --disable-pip-version-check uv==0.13.9

.venv/.synced: $(UV) pyproject.toml uv.lock
	$(UV) sync --quiet --frozen --python $(PYTHON)
	@touch .venv/.synced

setup: .venv/.synced ## Make .venv with the locked packages

fmt: setup ## Format and fix
	$(RUN)/ruff format .
	$(RUN)/ruff check --fix .

lint: setup ## Style, format and import laws
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/lint-imports

types: setup ## Types: strict for the package, standard for the tests
	$(RUN)/basedpyright
	$(RUN)/basedpyright -p backtest_assets_tests/pyrightconfig.json

graph: setup ## Load and validate the Dagster definitions
	@home=$$(mktemp -d) && mkdir $$home/data && DAGSTER_HOME=$$home BACKTEST_DATA_ROOT=$$home/data $(RUN)/dagster definitions validate -m backtest_assets.definitions 2>&1 | tail -n 3; code=$${PIPESTATUS[0]}; rm -rf $$home; exit $$code

test: setup ## Run the tests
	$(RUN)/pytest -q -n 2 --dist loadfile --no-loadscope-reorder # the long files are few and early: none may start last

test-slow: setup ## Run the tests that take minutes
	$(RUN)/pytest -q -m slow

demo: setup ## Run the whole chain on the embedded synthetic market
	$(RUN)/backtest-assets demo

ui: setup ## Open Dagster's webserver and daemon on 127.0.0.1:3000
	$(RUN)/backtest-assets ui

bench: setup ## CPU seconds and peak memory per stage of a run on the embedded market
	$(RUN)/python -m backtest_assets_tests.benches.bench_run

bench-market: setup ## CPU seconds of the market layer by table, Dagster's share and the law of growth
	$(RUN)/python -m backtest_assets_tests.benches.bench_market $(ARGS)

bench-events: setup ## CPU seconds and memory of the event stage against its bars, and the law of growth
	$(RUN)/python -m backtest_assets_tests.benches.bench_events $(ARGS)

bench-hypotheses: setup ## CPU seconds of discovery after the event stage against its bar, gates included, and the law of growth
	$(RUN)/python -m backtest_assets_tests.benches.bench_hypotheses $(ARGS)

truth: setup ## Known truth: drift, recall and precision of events; size and power of the inference
	$(RUN)/python -m backtest_assets_tests.truth.measure $(ARGS)

promise: setup ## Null markets, planted edges and shuffled real events through the whole chain, written to docs/evidence
	$(RUN)/python -m backtest_assets_tests.truth.promise $(ARGS)

.venv-peers/%/.synced: backtest_assets_tests/peers/%.txt $(UV)
	$(UV) venv --quiet --clear --python $(PYTHON) .venv-peers/$*
	$(UV) pip install --quiet --python .venv-peers/$*/bin/python -r $<
	@touch $@

.PRECIOUS: .venv-peers/%/.synced

peers: setup .venv-peers/vectorbt/.synced .venv-peers/nautilus/.synced ## Trade for trade beside vectorbt and nautilus_trader, written to docs/evidence/peers.md
	$(RUN)/python -m backtest_assets_tests.peers.record

check: lint types graph test ## Everything CI does

clean: ## Remove environments and caches; data stay
	rm -rf .venv .venv-boot .venv-peers .pytest_cache .ruff_cache .hypothesis .import_linter_cache build *.egg-info

.PHONY: help setup fmt lint types graph test test-slow demo ui bench bench-market bench-events bench-hypotheses truth promise peers check clean
