# Berth needs Go, and gcc for the small program that starts inside each sandbox. `make` lists what can be made.

GO ?= go
INIT := sandbox/namespace/init/build.sh
# Tests of one package run for this long at most.
TEST_TIMEOUT ?= 25m
FUZZ_TIME ?= 30s
# The tests of destinations take moto_server where there is one, and else the services below.
MOTO ?= 5.2.1
SERVICES := e2e/services/node_modules

.DEFAULT_GOAL := help
.PHONY: help build init demo test unit e2e lint vet staticcheck gofmt bench bench-micro fuzz deps services moto npm clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## (.*)/  \1|\2/' | column -t -s '|' 2>/dev/null || \
		grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST)

build: init ## build bin/berth
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/berth ./cmd/berth

init: ## build the static program that starts inside each sandbox
	sh $(INIT)

demo: deps build ## show it: a throwaway server, three functions, versions and weights
	@CGO_ENABLED=0 $(GO) build -trimpath -tags lambda.norpc -ldflags "-s -w" -o /dev/null ./examples/go-hello
	@bin/berth demo

test: deps services init lint ## everything that must hold: vet, staticcheck, gofmt, all tests with the race detector
	$(GO) test -race -timeout $(TEST_TIMEOUT) ./...

unit: init ## the tests without the end-to-end ones, without the race detector: quick
	$(GO) test -short ./...

e2e: deps services init ## the end-to-end tests only
	$(GO) test -count 1 -timeout $(TEST_TIMEOUT) -v ./e2e

lint: init vet staticcheck gofmt ## vet, staticcheck, gofmt

vet:
	$(GO) vet ./...

staticcheck:
	$(GO) tool staticcheck ./...

gofmt:
	@unformatted="$$(gofmt -l .)"; if [ -n "$$unformatted" ]; then echo "not as gofmt has it: $$unformatted" >&2; exit 1; fi

bench: deps build ## measure a real server beside a bare one: JSON lines and a table
	$(GO) build -trimpath -o bin/bench ./bench
	bin/bench $(BENCH)

# The steps of a call, each with its time and garbage, beside those of the last run that was kept.
BENCHSTAT ?= golang.org/x/perf/cmd/benchstat@v0.0.0-20260908200009-22c9c6c9d4da
bench-micro: init ## time each step of a call into bench/micro.new.txt, and compare with bench/micro.txt by benchstat
	@{ $(GO) test -run '^$$' -bench '^BenchmarkVerify$$' -benchmem -count 6 -benchtime 0.3s ./auth; \
	$(GO) test -run '^$$' -bench '^Benchmark(Frames|HTTP|HTTPGo)$$' -benchmem -count 6 -benchtime 0.3s ./runtimeapi; \
	$(GO) test -run '^$$' -bench '^BenchmarkInvoke$$' -benchmem -count 6 -benchtime 0.3s ./worker ./apiserver; \
	$(GO) test -run '^$$' -bench '^BenchmarkAcquireAndIdle$$' -benchmem -count 6 -benchtime 0.3s ./manager; \
	$(GO) test -run '^$$' -bench '^BenchmarkAttach$$' -count 6 -benchtime 50x ./sandbox/namespace; } | tee bench/micro.new.txt
	$(GO) run $(BENCHSTAT) bench/micro.txt bench/micro.new.txt || echo "benchstat is not here and could not be fetched; compare the two files by hand"

fuzz: init ## each fuzz target for 30 seconds
	@grep -rnoE '^func Fuzz[A-Za-z0-9_]+' --include='*_test.go' . | sed -E 's|^(.*)/[^/]*:[0-9]+:func (.*)|\1 \2|' | sort -u | \
	while read -r package target; do \
		echo "fuzzing $$package $$target"; \
		$(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZ_TIME) "$$package" || exit 1; \
	done

deps: ## install what tests and demo need from the system's packages, or say what is missing
	@scripts/deps

services: $(SERVICES) ## install the SQS, SNS and S3 that the tests of destinations start

$(SERVICES): e2e/services/package-lock.json
	@npm ci --prefix e2e/services --ignore-scripts --no-audit --no-fund --silent && touch $@ || \
		echo "note: npm could not install $<: the tests of SQS, SNS and S3 are left out" >&2

moto: ## install under bin/moto what the tests of destinations take for SQS, SNS and S3
	python3 -m venv bin/moto
	bin/moto/bin/pip install --quiet 'moto[server]==$(MOTO)'

npm: ## install under bin/npm what the tests of npm packages take, aws-lambda-ric compiled (minutes)
	@scripts/npm

clean: ## remove what was built
	rm -rf bin $(SERVICES)
