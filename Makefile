# Each target builds the environment it needs in .venv; nothing but Python 3.11+ and make is assumed.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
PEERS := .venv-bench/ready
COMPUTING := tests/analysis tests/protocols tests/registries tests/docs tests/contracts/codecs tests/firmware_sim/signals \
	$(addprefix tests/lab_api/,evidence protocols report routes test_evaluation.py test_evaluation_properties.py \
		test_planning.py)

.PHONY: demo test test-bluez soak check bench bench-signals format lock clean

demo: $(READY)  ## the main job end to end; ONCE=1 exits after the verdicts
	@$(BIN)/lab demo $(if $(ONCE),--once) $(if $(SPEED),--speed $(SPEED))

test: $(READY)  ## all tests: those that only compute on all cores, those that keep time one by one; or ARGS alone
ifdef ARGS
	$(BIN)/pytest -q $(ARGS)
else
	$(BIN)/pytest -q -n auto --dist worksteal $(COMPUTING)
	$(BIN)/pytest -q $(addprefix --ignore=,$(COMPUTING)) tests
endif

test-bluez: $(READY)  ## bleak's own BlueZ backend against a pretended Bluetooth daemon; Linux, needs dbus-daemon
	$(BIN)/pytest -q tests/bluez $(ARGS)

soak: $(READY)  ## processes killed, wires cut, disks filled, clocks set; KILLS=200 of them; half an hour
	$(BIN)/python -m tests.system.faults.campaign --kills $(or $(KILLS),200) $(ARGS)

check: $(READY)  ## format, lint, types and import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: bench-signals $(READY)  ## one line per figure, each a ratio within one run; half an hour
	@status=0; for name in codecs spool store chain drain ble sync reconnect cohort oximetry_study; do \
	  PYTHONPATH=. $(BIN)/python benchmarks/$$name.py || status=1; done; exit $$status

bench-signals: $(PEERS)  ## accuracy on the recordings and speed, beside public packages
	@status=0; for name in qrs ecg_morphology ecg_rhythm pulses motion saturation hrv respiration pressure gait \
	  alignment glucose agreement regression; do \
	  PYTHONPATH=. .venv-bench/bin/python benchmarks/$$name.py || status=1; done; exit $$status

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock:  ## resolve the dependencies anew; needs uv
	uv pip compile --quiet --universal --python-version 3.11 --upgrade --generate-hashes --no-emit-index-url \
	  --no-header --no-annotate --all-extras --group dev pyproject.toml --output-file requirements.lock
	uv pip compile --quiet --universal --python-version 3.11 --upgrade --generate-hashes --no-emit-index-url \
	  --no-header --no-annotate benchmarks/requirements.txt \
	  --output-file benchmarks/requirements.lock

clean:
	rm -rf .venv .venv-bench .venv-interop

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Living Lab needs Python 3.11 or newer; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "Python's venv module is missing; on Debian or Ubuntu: apt-get install python3-venv"; exit 1; }
	@echo "Building the environment in .venv (once; about a minute)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

$(PEERS): benchmarks/requirements.lock
	@echo "Building the peers' environment in .venv-bench (once; two minutes)"
	@$(PYTHON) -m venv .venv-bench
	@.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r benchmarks/requirements.lock
	@touch $@
