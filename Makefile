# The commands of this project. CI calls the same ones (.ci/run).
PYTHON ?= python3
# The Python of the host that the service runs with; one below a home directory it could not see.
HOST_PYTHON ?= /usr/bin/python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed-$(shell cat pyproject.toml mockcollector/pyproject.toml scripts/requirements.lock 2>/dev/null | sha256sum | cut -c1-16)
# Tests that need neither containers, nor a systemd, nor a browser.
HERE := not e2e and not systemd and not browser and not fleet
PARALLEL := --numprocesses=auto --dist=worksteal

.DEFAULT_GOAL := help
.PHONY: help setup native run test proofs soak soak-fleet cards check fix architecture mutants test-e2e test-fleet test-browser test-systemd bench install uninstall deb wheel image mock-floors lock check-native clean docs site

help:  ## this list
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(STAMP)  ## make .venv with everything, from the lock with hashes

$(STAMP): pyproject.toml mockcollector/pyproject.toml scripts/requirements.lock scripts/setup
	@scripts/setup "$(PYTHON)" "$(VENV)"
	@rm -f $(VENV)/installed-*
	@touch $@

native: $(STAMP)  ## build the native pass into .venv; needs cargo
	@$(BIN)/python scripts/native_pass.py

.PHONY: native-if-possible
native-if-possible: $(STAMP)
	@$(BIN)/python scripts/native_pass.py --optional

run: native-if-possible  ## relay, mock collector, one test trace, until Ctrl-C (CONFIG=FILE: your own)
	@CONFIG="$(CONFIG)" exec $(BIN)/python scripts/run.py

test: native-if-possible  ## the tests, on all cores (ARGS="-k name": some of them)
	$(BIN)/python -m pytest tests -m "$(HERE) and not proofs" $(PARALLEL) $(ARGS)

proofs: $(STAMP)  ## tests that need minutes of trials, and property tests with all examples
	$(BIN)/python -m pytest tests -m "$(HERE) and (proofs or hypothesis)" \
		--hypothesis-profile=full $(PARALLEL) $(ARGS)

soak: $(STAMP)  ## trials of "nothing is lost" for SECONDS=1800; needs root for a small ext4
	$(BIN)/python -m tests.soak --seconds $(or $(SECONDS),1800) $(ARGS)

soak-fleet: $(STAMP)  ## relays and brokers of a fleet die for SECONDS=300; then the table of what was lost (Java, Maven)
	$(BIN)/python -m tests.soak.fleet --seconds $(or $(SECONDS),300) $(ARGS)

test-e2e: $(STAMP)  ## the installed wheel with real Jaeger, Collector and exporters; needs Docker
	@scripts/docker
	@scripts/proxies
	@$(BIN)/python -m tests.e2e.images
	@$(BIN)/python -m tests.e2e.fleet_compose
	@$(BIN)/python -m tests.e2e.sender_builds
	@$(BIN)/python -m tests.e2e.phoenix
	@$(BIN)/python scripts/wheel.py
	$(BIN)/python -m pytest tests/e2e $(ARGS)

test-fleet: $(STAMP)  ## several relays on real Kafka brokers, killed and frozen; needs Java 17, Maven and Go
	@$(BIN)/python -m tests.support.kafka
	@$(BIN)/python -m tests.fleet.collectors
	$(BIN)/python -m pytest tests/fleet $(ARGS)

cards: $(STAMP)  ## docs/cards anew: stock exporters through `mockcollector check` (ARGS="go --jobs 2")
	@$(BIN)/python -m tests.e2e.sender_builds
	$(BIN)/python -m tests.e2e.cards $(ARGS)

test-browser: $(STAMP)  ## web exporters in a real Chromium; needs Node.js and npm
	@scripts/chromium
	$(BIN)/python -m pytest tests/browser $(ARGS)

test-systemd: $(STAMP)  ## the package as a service on a real systemd; needs root on Debian
	@scripts/test-systemd $(BIN)/python $(ARGS)

install: $(STAMP)  ## as a service of this host, in /opt/otlp-relay (root; HOST_PYTHON=/usr/bin/python3)
	@scripts/install install "$(HOST_PYTHON)"

uninstall:  ## take that off again; configuration and state are kept
	@scripts/install uninstall

deb: $(STAMP)  ## dist/otlp-relay_VERSION_ARCH.deb, for `apt install ./…deb`, and what it is made of
	@$(BIN)/python scripts/deb.py --python "$(HOST_PYTHON)"
	@$(BIN)/python scripts/sbom.py

wheel: $(STAMP)  ## dist/*.whl of the relay and of the mock collector, for pip, pipx and uv, and what the first is made of
	@$(BIN)/python -m hatchling build --target wheel --directory dist
	@cd mockcollector && ../$(BIN)/python -m hatchling build --target wheel --directory ../dist
	@$(BIN)/python scripts/sbom.py

mock-floors: $(STAMP)  ## the mock collector's tests beside the oldest and the newest packages it takes
	@$(BIN)/python scripts/mock_floors.py $(ARGS)

image: $(STAMP)  ## the container image otlp-relay, and what it is made of; needs Docker
	docker build --tag otlp-relay .
	@$(BIN)/python scripts/sbom.py --image otlp-relay

check: $(STAMP)  ## lint, format and types; changes nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fix: $(STAMP)  ## what ruff can mend by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

mutants: $(STAMP)  ## does a test notice? 100 random changes in the core, below 20 minutes (ARGS="--seed 7")
	@$(BIN)/python -m tests.mutants $(ARGS)

docs: $(STAMP)  ## write the pages made of data and commands: docs/cli.md, senders, destinations; man pages in dist/man
	@scripts/preset-pages
	@$(BIN)/python -m scripts.command_pages
	@$(BIN)/python -m scripts.command_pages --man dist/man

site:  ## dist/site, the documentation as pages; a misspelt word or a broken link fails
	@scripts/site "$(PYTHON)"

architecture: $(STAMP)  ## draw the picture in docs/architecture.md anew
	@$(BIN)/python scripts/architecture.py

bench: $(STAMP)  ## CPU, speed and memory beside the Collector and rotel (ARGS="--rows 1,2 --runs 3")
	$(BIN)/python -m tests.bench $(ARGS)

lock:  ## renew scripts/requirements.lock (needs uv)
	scripts/lock --upgrade

check-native: $(STAMP)  ## the native pass alone: its own tests, clippy, format
	@scripts/check-native

clean:  ## remove .venv, dist, caches and the state of `make run`
	rm -rf $(VENV) dist native/target .mypy_cache .ruff_cache .pytest_cache .hypothesis .otlp-relay
