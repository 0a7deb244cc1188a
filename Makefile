# Vogeler. `make` lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
ARCH ?= $(shell uname -m)
TARGET := $(or $(CARGO_TARGET_DIR),target)

# Where the built programs are. One that is given is taken as it is, and nothing is built for it.
ifeq ($(origin BINDIR),undefined)
BINDIR := $(TARGET)/release
BUILT := build
endif

MANUALS ?= $(TARGET)/manuals

DESTDIR ?=
PREFIX ?= /usr
SYSCONFDIR ?= /etc
ROLE ?= all

# More arguments for the test run, as in: make test TEST_ARGS='-p vogeler-store conflict'
TEST_ARGS ?=
RUN := $(TARGET)/services/run
# Not written out in the recipe: make runs a line with MAKE in it even when told -n.
SELF := $(MAKE) --no-print-directory

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

.PHONY: build
build: ## the programs, for release, in target/release, and their man pages and completions in target/manuals
	cargo build --release --locked -p vogeler-runner -p vogeler-server -p vogeler-standalone
	@$(SELF) agent
	cargo run --quiet --locked -p vogeler-manuals -- $(MANUALS)

# The agent is built by a profile of its own and stands beside the others.
.PHONY: agent
agent:
	cargo build --profile agent --locked -p vogeler-client
	ln -f $(TARGET)/agent/vogeler-client $(TARGET)/release/vogeler-client

# ---- test ---------------------------------------------------------------------------------

.PHONY: test
test: ## the whole suite, against a RabbitMQ and a CouchDB of its own (or VOGELER_TEST_COUCHDB_URL)
	tests/services.sh install
	tests/services.sh with $(RUN) $(SELF) suite

# Needs the services' addresses in the environment, so it is `make test` that people call.
.PHONY: suite
suite:
	@[ -n "$${VOGELER_TEST_AMQP_URL:-}" ] || { echo "no services: run make test, or source the env of tests/services.sh start DIR" >&2; exit 1; }
	cargo build --workspace --locked
	@outcome=0; \
	if cargo nextest --version >/dev/null 2>&1; then \
		cargo nextest run --workspace --no-fail-fast $(TEST_ARGS) || outcome=1; \
		cargo test --workspace --doc || outcome=1; \
	else \
		echo "cargo-nextest is not here; cargo test serves as well (cargo install cargo-nextest --locked gets it)"; \
		cargo test --workspace --no-fail-fast $(TEST_ARGS) || outcome=1; \
	fi; \
	tests/plugins.sh || outcome=1; \
	met=$$(cargo nextest list -p vogeler-tests --message-format oneline 2>/dev/null | grep -c -v -E 'memory|::help' || true); \
	echo "$$met of the tests ran against $${VOGELER_TEST_VERSIONS:-services whose versions nobody told}"; \
	exit $$outcome

.PHONY: torture
torture: ## every fault at its full volume, with a table of what was lost (nothing); wants a CouchDB, and half an hour
	@[ -n "$${VOGELER_TEST_COUCHDB_URL:-}" ] || { echo "make torture wants a real CouchDB; the stand-in of make test is too small: VOGELER_TEST_COUCHDB_URL=http://login:password@host:port make torture" >&2; exit 1; }
	tests/services.sh install
	tests/services.sh with $(RUN) $(SELF) torture-suite

# The fault stories by their files; what they hold is the same as in `make test`, at other volumes.
FAULTS := broker database dead delivery gauntlet killed moved poison volume
TABLE := $(TARGET)/services/torture.tsv

.PHONY: torture-suite
torture-suite:
	@cargo nextest --version >/dev/null 2>&1 || { echo "make torture needs cargo-nextest; to get it: cargo install cargo-nextest --locked" >&2; exit 1; }
	cargo build --workspace --locked
	@rm -f $(TABLE); outcome=0; \
	VOGELER_TORTURE_TABLE=$(abspath $(TABLE)) cargo nextest run -p vogeler-tests $(FAULTS:%=--test %) \
		--run-ignored all --no-fail-fast $(TEST_ARGS) || outcome=1; \
	awk -F '\t' 'BEGIN { printf "\n%-62s %5s %8s %8s %6s %5s\n", "fault", "times", "sent", "stored", "dead", "lost" } \
		{ printf "%-62s %5d %8d %8d %6d %5d\n", $$1, $$2, $$3, $$4, $$5, $$6; lost += $$6 } \
		END { printf "\n%d faults, %d results lost, against $(or $(VOGELER_TEST_VERSIONS),services whose versions nobody told)\n", NR, lost }' \
		<(sort $(TABLE)); \
	[ $$outcome -eq 0 ] || echo "some stories have failed, and are not in the table; what they say stands above" >&2; \
	exit $$outcome

# Seeds as VOGELER_SIMULATE_SEEDS says (17, or 0..1000); with so many nodes as VOGELER_SIMULATE_NODES says.
.PHONY: simulate simulate-fleet
simulate: ## a thousand seeds of the simulation (VOGELER_SIMULATE_SEEDS=17 for one); a seed that fails is told, and how to see it again
	VOGELER_SIMULATE_SEEDS=$${VOGELER_SIMULATE_SEEDS:-0..1000} cargo test -p vogeler-tests --test simulate promises -- --nocapture

simulate-fleet: ## 100,000 virtual nodes asked at once, all of it stored; prints time and memory. A release build, 5 GiB free
	cargo test --release -p vogeler-tests --test simulate fleet -- --ignored --nocapture

.PHONY: bench
bench: ## what a broker and a database hold on this machine, and how near the server comes to it; wants a CouchDB, and half an hour
	@[ -n "$${VOGELER_TEST_COUCHDB_URL:-}" ] || { echo "make bench wants a real CouchDB; figures of a stand-in say nothing: VOGELER_TEST_COUCHDB_URL=http://login:password@host:port make bench" >&2; exit 1; }
	cargo build --release --locked -p vogeler-blowout -p vogeler-runner
	@$(SELF) agent
	tests/services.sh install
	VOGELER_SERVICES_AS_SHIPPED=yes tests/services.sh with $(RUN) bench/run.sh $(TARGET)/release $(TARGET)/bench

.PHONY: fuzz
fuzz: ## each fuzz target for a minute (FUZZ_SECONDS), or those of FUZZ_TARGETS; needs nightly Rust and cargo-fuzz
	tests/fuzz/run.sh $(FUZZ_TARGETS)

.PHONY: clean-services
clean-services: ## stop what a killed test run left, and remove its files and downloads
	tests/services.sh stop $(RUN)
	rm -rf $(TARGET)/services

# ---- check --------------------------------------------------------------------------------

.PHONY: check
check: check-tools ## formatting, lints, documentation, licences, shell scripts
	cargo fmt --all --check
	cargo fmt --manifest-path tests/fuzz/Cargo.toml --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --no-deps --workspace
	cargo deny check bans licenses sources
	shellcheck -x $$({ git ls-files -co --exclude-standard '*.sh'; git ls-files -zco --exclude-standard | xargs -0 \
		awk 'FNR == 1 && /^#!.*[\/ ](ba|da)?sh( |$$)/ {print FILENAME} {nextfile}'; } | sort -u)

.PHONY: check-tools
check-tools:
	@missing=; \
	need() { "$${@:3}" >/dev/null 2>&1 || { echo "make check needs $$1, which is not here; to get it: $$2" >&2; missing=yes; }; }; \
	need rustfmt 'rustup component add rustfmt' cargo fmt --version; \
	need clippy 'rustup component add clippy' cargo clippy --version; \
	need cargo-deny 'cargo install cargo-deny --locked' cargo deny --version; \
	need shellcheck 'apt-get install shellcheck' shellcheck --version; \
	[ -z "$$missing" ]

# ---- demo ---------------------------------------------------------------------------------

.PHONY: demo demo-down
demo: ## a whole Vogeler under .demo/: broker, database, server, three nodes, one run
	tests/demo.sh up

demo-down: ## stop it
	tests/demo.sh down

# ---- install ------------------------------------------------------------------------------

.PHONY: install
install: ## what `make build` built, as ROLE (all, client, server, runner, standalone), below DESTDIR, PREFIX, SYSCONFDIR
	DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' SYSCONFDIR='$(SYSCONFDIR)' BINDIR='$(BINDIR)' MANUALS='$(MANUALS)' packaging/install.sh $(ROLE)

ROLES := client server runner
COMMON_FILES := packaging/install.sh packaging/vogeler.yaml packaging/vogeler-node.yaml $(wildcard README.md CHANGELOG.md docs/EXPRESSIONS.md)
client_FILES := plugins packaging/systemd/vogeler-client.service packaging/supervisord packaging/runit packaging/kickstart
server_FILES := design-docs packaging/systemd/vogeler-server.service packaging/rabbitmq
runner_FILES := packaging/systemd/vogeler-runner@.service packaging/systemd/vogeler-runner@.timer packaging/cron
TARBALLS := $(foreach role,$(ROLES),dist/vogeler-$(role)-$(VERSION)-$(ARCH).tar.gz)

# The same files make the same tarball, byte for byte.
EPOCH := $(or $(SOURCE_DATE_EPOCH),$(shell git log -1 --format=%ct 2>/dev/null),0)
TAR := tar --sort=name --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX --mtime=@$(EPOCH)

.PHONY: dist
dist: $(TARBALLS) ## a tarball a role, and their SHA-256 sums, in dist/
	cd dist && sha256sum $(notdir $(TARBALLS)) >SHA256SUMS && cat SHA256SUMS

.PHONY: $(TARBALLS)
$(TARBALLS): dist/vogeler-%-$(VERSION)-$(ARCH).tar.gz: $(BUILT)
	@name=vogeler-$*-$(VERSION)-$(ARCH); \
	rm -rf dist/stage/$$name; mkdir -p dist/stage/$$name/bin; \
	cp -p $(BINDIR)/vogeler-$* dist/stage/$$name/bin/; \
	cp -p --parents -R $(COMMON_FILES) $($*_FILES) dist/stage/$$name/; \
	mkdir -p dist/stage/$$name/manuals; \
	if [ -d $(MANUALS) ]; then (cd $(MANUALS) && cp -p --parents man/man1/vogeler-$*[.-]* completions/*/*vogeler-$** $(abspath dist/stage)/$$name/manuals/); fi; \
	$(TAR) -C dist/stage -cf - $$name | gzip -9n >$@; \
	rm -rf dist/stage/$$name; rmdir dist/stage 2>/dev/null || true; \
	echo $@
