# make install   .venv with the program in it
# make run       install, then the demo: a carrier that suspends, a PBX that overloads, the gate between them
# make test      everything: set-up, test programs, checks, tests (what .ci/run calls)
# make check     style, types, imports between the rooms
# make fuzz      rubbish for the reader of SIP and the whole core, for FUZZ_SECONDS (default 60)
# PYTHON=python3.12 chooses the interpreter; DEMO="--seconds 5" goes to the demo, TESTS="tests/config" to pytest
# (in one process; without it tools/test.sh runs the whole suite in several); EXAMPLES=20 tries each promise with
# twenty times as many examples.

PYTHON ?= python3
VENV := .venv
CONFIG := config/callgate.yaml
FUZZ_SECONDS ?= 60
export PYTHON VENV

.PHONY: install dev programs run test check fuzz format clean

install:
	@tools/install.sh

dev:
	@tools/install.sh dev

programs:
	@tools/test-programs.sh

run: install
	@$(VENV)/bin/callgate demo $(DEMO)
	@printf '%s\n' '' '$(CONFIG) works as it stands; edit it for your own PBX and trunk. The program is' \
	  '$(VENV)/bin/callgate; `. $(VENV)/bin/activate` puts it on the PATH of this shell.'

check: dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

test: dev programs
	@tools/test.sh $(TESTS)

# Led by coverage where atheris can be had (it has no wheel for every Python), else by seeds alone.
fuzz: dev
	-@$(VENV)/bin/python -c "import atheris" 2>/dev/null || $(VENV)/bin/python -m pip install -q --only-binary=:all: "atheris>=2.3"
	$(VENV)/bin/python -m tests.fuzz.run --seconds $(FUZZ_SECONDS)

format: dev
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean:
	rm -rf $(VENV) .fuzz build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	rm -rf src/*.egg-info
	find src -name '*.so' -delete
	find src tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
