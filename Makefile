# The one place to start: `make run` serves a real model, `make test` tests. See README.md.
# Every target installs what it needs first (tools/setup); JOBS bounds parallel compiling.
.DEFAULT_GOAL := help
SHELL := /bin/bash

PRESET ?= release
JOBS   ?= $(shell nproc)
MODEL  ?=
ARGS   ?=
ARCHITECTURES ?=
BIN    := build/$(PRESET)/bin

.PHONY: help setup build run demo test test-long bench cuda format lint clean

help:           ## Show this list
	@grep -E '^[a-z-]+: *.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

setup:          ## Install what the build needs (apt packages, Rust)
	@tools/setup

build: setup    ## Build the binaries (PRESET=release)
	@tools/build $(PRESET) $(JOBS)

run: build      ## Serve the demo model, or MODEL=path; ARGS="--flag value" go to the server
	@tools/run_server $(BIN) "$(MODEL)" $(ARGS)

demo: build     ## Serve the demo model, ask it one question, stop
	@tools/demo $(BIN) "$(MODEL)"

test: setup     ## The release tests, and the ASan+UBSan build of everything that parses input
	@tools/run_tests

test-long:      ## Second compiler, whole ASan and TSan presets, long fuzz runs and simulations
	@tools/setup --tests
	@tools/run_tests --long

bench: build    ## Measure this machine's ceilings and the demo model beside them
	@tools/run_bench $(BIN) "$(MODEL)"

cuda: setup     ## Compile the CUDA backend for cards (ARCHITECTURES=90-real; default: all supported)
	@tools/build_cuda "$(ARCHITECTURES)" $(JOBS)

format:         ## clang-format everything of ours
	@git ls-files '*.h' '*.cc' '*.cu' | grep -v third_party | xargs clang-format -i

lint:           ## clang-format in check mode, clang-tidy over the release build
	@tools/lint

clean:          ## Remove the build folder
	rm -rf build
