# The door for a fresh machine (Debian 12 or newer, Ubuntu 24.04 or newer; run as root).
# Every target installs what it lacks; nothing else needs to be set up by hand.

SHELL := /bin/bash
export CARGO_TARGET_DIR ?= $(HOME)/.cache/rswarm/target
BIN := $(CARGO_TARGET_DIR)/debug

# Every cargo call links the RocksDB that scripts/rocksdb built once, apart from cargo's own directories.
WITH_ROCKSDB := export ROCKSDB_LIB_DIR="$$(scripts/rocksdb)" ROCKSDB_STATIC=1;

.PHONY: all build setup demo test test-vm verify bench clean

all: build

setup:
	@scripts/setup

# All targets at once: one set of features, so nothing is compiled twice.
build: setup
	@$(WITH_ROCKSDB) cargo build --locked --workspace --all-targets

# Three hosts, a replicated service, one host lost: see it with your own eyes.
demo: build
	@scripts/demo $(BIN)

# Every check and every test: formatting, lints, house rules, unit, property, simulation, kernel
# and cluster tests. Tests that need several hosts make them as namespaces on this machine.
test: build
	@$(WITH_ROCKSDB) cargo xtask verify
	@$(WITH_ROCKSDB) scripts/test

# The main job across three real virtual machines (emulated: minutes, not seconds).
test-vm: build
	RSWARM_BIN_DIR=$(BIN) tests/vm/run
	RSWARM_BIN_DIR=$(BIN) tests/vm/run --encryption
	RSWARM_BIN_DIR=$(BIN) tests/vm/run --encryption --ipv6
	RSWARM_BIN_DIR=$(BIN) tests/vm/run --ipvlan --machines 2

verify: setup
	@$(WITH_ROCKSDB) cargo xtask verify

bench: build
	@$(WITH_ROCKSDB) cargo xtask bench cluster
	@$(WITH_ROCKSDB) cargo xtask bench plan

clean:
	cargo clean
