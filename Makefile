# Everything here needs Go and, for the race detector, a C compiler; the nested module
# conformance also needs ZooKeeper, which it installs, as root on Debian, or asks for.
# `make check` is what CI runs.

SHELL       := bash
.SHELLFLAGS := -euo pipefail -c

LINT     := go tool -modfile=tools/go.mod golangci-lint
VULN     := go tool -modfile=tools/go.mod govulncheck
VULNDB   ?= https://vuln.go.dev
FUZZTIME ?= 20s
PACKAGES ?= ./...
ROUNDS   ?= 50
MINUTES  ?= 20
RESTARTS ?= 12
CUTS     ?= 1000
REPORT   ?= chaos.md
OPS      ?= 10000000
GRANTS   ?= 1000000
SEED     ?= 1
OPERATIONS ?= 200000
DURATION ?= 0
CONNS    ?= 86400

# Platforms that must compile and link. Only Linux is tested.
CROSS := linux/arm64 darwin/arm64 windows/amd64

# Nested modules with code of ours in them, however deep.
MODULES := $(filter-out tools,$(patsubst %/go.mod,%,$(shell find * -mindepth 1 -name go.mod | sort)))

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-16s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

.PHONY: check
check: ## all that CI runs, without installing anything
	@bash .ci/run --no-install

.PHONY: test
test: ## the tests, with the seeds of every fuzz target
	go test ./...

.PHONY: race
race: ## the tests under the race detector, with internal assertions on, in random order; the examples have their turn in `test`
	go test -race -shuffle=on -timeout 15m $$(go list ./... | grep -v -e /examples/ -e /internal/lint$$)

.PHONY: cover
cover: ## the tests, with a coverage profile in coverage.out
	go test -coverprofile=coverage.out ./...
	@go tool cover -func=coverage.out | tail -n 1

.PHONY: lint
lint: ## golangci-lint, at the version pinned in tools/go.mod; the first build takes minutes
	$(LINT) config verify
	$(LINT) run ./...

.PHONY: vuln
vuln: ## known vulnerabilities that the code can reach; asks VULNDB (https://vuln.go.dev), so CI does not run it
	@for m in . $(MODULES); do echo "govulncheck in $$m"; $(VULN) -db $(VULNDB) -C $$m ./...; done

.PHONY: fmt
fmt: ## format the code the way lint wants it
	$(LINT) fmt ./...

.PHONY: fuzz
fuzz: ## every fuzz target of PACKAGES (./...) for FUZZTIME (20s)
	@go test -list '^Fuzz' $(PACKAGES) \
		| awk '/^Fuzz/ {names[n++] = $$1} /^ok/ {for (i = 0; i < n; i++) print $$2, names[i]; n = 0}' \
		| while read -r pkg name; do \
			echo "== $$pkg $$name"; \
			go test "$$pkg" -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1s </dev/null; \
		done

.PHONY: cross
cross: ## compile and link for the other platforms, without cgo
	@for p in $(CROSS); do \
		echo "go build ./... for $$p"; \
		CGO_ENABLED=0 GOOS=$${p%/*} GOARCH=$${p#*/} go build ./...; \
	done

.PHONY: modules
modules: ## vet, build and test the nested modules
	@for m in $(MODULES); do \
		echo "module $$m"; \
		(cd $$m && go vet ./... && go build -o /dev/null ./... && go test ./...); \
	done

.PHONY: tidy
tidy: ## go mod tidy, in every module
	@for m in . tools $(MODULES); do (cd $$m && go mod tidy); done

.PHONY: tidy-check
tidy-check: ## fail if go mod tidy would change anything
	@for m in . tools $(MODULES); do echo "go mod tidy -diff in $$m"; (cd $$m && go mod tidy -diff); done

.PHONY: golden
golden: ## write test scripts and golden files anew; review the diff line by line
	go test . -run 'Script|Golden|Format' -rewrite -update
	git status --short testdata

.PHONY: crash
crash: ## kill and restart members ROUNDS (50) times and compare what they promised
	go test ./internal/crashtest -run TestCrash -crash.rounds=$(ROUNDS) -timeout 30m -v

.PHONY: rolling
rolling: ## restart members one after the other under load, RESTARTS (12) times, at half the CPU, and print the longest pause
	go test ./internal/crashtest -run '^TestRolling$$' -rolling.restarts=$(RESTARTS) -timeout 30m -v

.PHONY: power
power: ## cut the power at any moment and at every failpoint, CUTS (1000) times; takes minutes
	go test -tags failpoint ./internal/powertest -power.cuts=$(CUTS) -timeout 2h -v

.PHONY: chaos
chaos: ## run processes on a network with faults for MINUTES (20), from SEED (1) on, and write REPORT (chaos.md); needs root on Linux
	go test -tags failpoint ./internal/crashtest -run TestChaos -chaos.minutes=$(MINUTES) -crash.seed=$(SEED) -chaos.report=$(abspath $(REPORT)) -timeout 0 -v

# The simulator, such that a seed's runs are the same to the last event, if Go's sources
# are known; see docs/SIMULATION.md. The first build takes minutes.
SIMDIR   ?= $(or $(TMPDIR),/tmp)
SIMTEST  := $(SIMDIR)/coord-sim.test
SIMFLAGS  = -sim.seed=$(SEED) -sim.duration=$(DURATION) -test.timeout 24h -test.v

.PHONY: sim-build
sim-build:
	go run ./internal/deterministic/build -o $(SIMTEST) ./internal/sim

.PHONY: sim
sim: sim-build ## simulate OPS (10 million) operations under faults in virtual time, from SEED (1) on, at most for DURATION
	cd internal/sim && $(SIMTEST) -test.run '^TestSimulation$$' -sim.ops=$(OPS) $(SIMFLAGS)

.PHONY: sim-recipes
sim-recipes: sim-build ## simulate recipes under faults in virtual time until GRANTS (a million) were made, from SEED (1) on, at most for DURATION
	cd internal/sim && $(SIMTEST) -test.run '^TestRecipes$$' -sim.grants=$(GRANTS) $(SIMFLAGS)

.PHONY: sim-repeat
sim-repeat: sim-build ## prove that runs of SEED (1) and the next are the same in several processes
	cd internal/sim && $(SIMTEST) -test.run '^TestRepeat$$' -sim.repeat -sim.seed=$(SEED) -test.timeout 24h -test.v

.PHONY: sim-shrink
sim-shrink: sim-build ## make the run of SEED that fails small, of TEST (TestSimulation), into KEEP (shrunk.script)
	cd internal/sim && $(SIMTEST) -test.run '^TestShrink$$' -sim.shrink=$(or $(TEST),TestSimulation) -sim.seed=$(SEED) -sim.keep=$(abspath $(or $(KEEP),shrunk.script)) -test.timeout 24h -test.v

.PHONY: mutants
mutants: ## plant bugs, each in a copy, and have them caught; MUTANT for one of them
	go test ./internal/mutants -run '^TestHunt$$' -mutants.hunt -mutants.only=$(MUTANT) -timeout 24h -v

.PHONY: bench-engine
bench-engine: ## measure the engine on this machine
	cd bench && go run ./engine

.PHONY: bench-sessions
bench-sessions: ## measure what a million sessions cost; needs some 4 GB of memory and 2 minutes
	cd bench && go run ./sessions

.PHONY: bench-groups
bench-groups: ## measure what mounts cost and give; takes some 6 minutes
	cd bench && go run ./groups

.PHONY: bench-cache
bench-cache: ## measure a recipes.Cache of a million znodes; takes some 2 minutes
	cd bench && go run ./cache

.PHONY: bench-contention
bench-contention: ## measure a lock that many want beside one of etcd; takes some 7 minutes
	cd bench/contention && go run .

.PHONY: conformance
conformance: ## compare OPERATIONS (200000) random operations, from SEED (1) on, with a real ZooKeeper; installs it as root
	cd conformance && go test ./differ -run '^Test(Random|Scripts|Differences)$$' -operations=$(OPERATIONS) -seed=$(SEED) -timeout 0 -v
	cd conformance && go test ./programs -suite -timeout 30m -v

.PHONY: storm
storm: ## throw CONNS (86400, one a second for a day) hostile connections at a server of ZooKeeper's clients, from SEED (1) on; takes some 10 minutes
	go test ./zkserver -run '^TestStorm$$' -storm=$(CONNS) -storm.seed=$(SEED) -timeout 0 -v

.PHONY: bench-zookeeper
bench-zookeeper: ## measure coord beside a real ZooKeeper, by the same client; takes some 5 minutes
	cd conformance && go run ./bench

.PHONY: quickstart
quickstart: ## run the README's first program
	go run ./examples/quickstart
