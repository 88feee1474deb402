# Short commands for daily work. Each is one line that you can also type yourself;
# CONTRIBUTING.md describes them. `make gate` is what CI runs.

.PHONY: build test race lint fmt bench fuzz ratios floors crash interop structure api gate

build: ## build all packages
	go build ./...

test: ## run all tests
	go test ./...

race: ## run all tests with the race detector
	go test -race ./...

lint: ## check the format, go vet and staticcheck
	.ci/run gofmt vet staticcheck

fmt: ## format all files
	gofmt -w .

bench: ## run all benchmarks
	go test ./... -run '^$$' -bench .

fuzz: ## run every fuzz target (FUZZTIME=30s for longer)
	.ci/run fuzz

ratios: ## compare with paho.golang
	.ci/run ratios

floors: ## measure the log and compare it with other stores
	.ci/run floors "other stores"

crash: ## open a million crash states and kill 300 processes
	go test ./persistence -count=1 -v -run 'TestCrashStates$$|TestKill$$' -crash.states 1000000 -crash.kills 300 -timeout 60m

interop: ## run the interop matrix and write docs/interop.md
	go test ./internal/interop -count=1 -run TestMatrix -update-docs

structure: ## print the figures of the structure and check their limits
	go run ./internal/structure -check

api: ## write the exported API to docs/api
	go run ./internal/apicheck -write

gate: ## run everything, as CI does
	.ci/run
