# Each target works from a bare clone: it makes the environment first.
PYTHON ?= python3
PORT ?= 8501
PY := .venv/bin/python
READY := .venv/.ready
export WANDB_MODE := disabled
export HF_HUB_DISABLE_TELEMETRY := 1
export DO_NOT_TRACK := 1
export TOKENIZERS_PARALLELISM := false

.PHONY: setup run check test bench browser docs zoo findings lock clean

$(READY): requirements.txt constraints.txt
	test -x $(PY) || $(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt -c constraints.txt
	touch $(READY)

setup: $(READY)

run: $(READY)
	$(PY) -m streamlit run app.py --server.port $(PORT)

check: $(READY)
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m pyright
	.venv/bin/lint-imports --no-cache
	$(PY) -m tests.sizes

test: $(READY)
	$(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

browser: $(READY)
	$(PY) -m pytest -m browser

bench: $(READY)
	$(PY) -m benchmarks.patching
	$(PY) -m benchmarks.scrubbing
	$(PY) -m benchmarks.fit

docs: $(READY)
	$(PY) -m docs.build

zoo: $(READY)
	$(PY) -m zoo $(MODEL)

findings: $(READY)
	$(PY) -m zoo.findings

lock: $(READY)
	$(PY) -m pip freeze --exclude-editable | sed 's/+cpu//' > constraints.txt

clean:
	rm -rf .venv build .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
