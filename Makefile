# The commands of this repository; `make help` lists them. Everything they download or make lands in .build/, dist/ and
# target/, all of them ignored by git.

# The filters: each is a crate filter-<name>-wasm, built to dist/<name>.wasm.
FILTERS := mqtt coap dns

# What runs as wasm in the tests too: crates that need no host.
WASM_TESTED := codec-mqtt codec-coap codec-dns codec-capsule bridge filter-config policy filter-mqtt websocket filter-coap \
  coap-http coap-egress http-server tunnels dns-cache dns-cookies dns-doh dns-limits filter-dns codec-modbus filter-modbus

# What is measured beside other crates.
BENCHED_CODECS := mqtt coap dns

# The integration tests start an Envoy and brokers each, and wait a lot: on two cores more of them at once than this only make
# each other slow.
TEST_THREADS ?= 3

CARGO ?= cargo
TARGET_DIR = $${CARGO_TARGET_DIR:-target}

.DEFAULT_GOAL := help
.PHONY: help demo test wasm example envoy certs bench bench-mqtt bench-coap bench-dns bench-codecs bench-scale bench-compare bench-page soak faults reference dashboards images manifests versions release deny fuzz fmt lint clean

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: wasm certs ## brokers, CoAP and DNS servers, Envoys and real clients on 127.0.0.1, until Ctrl-C (ONCE=1: once through, then exit)
	@scripts/deps demo
	@envoy=$$(scripts/envoy) && $(CARGO) build --release -p programs --bin demo && \
	  ENVOY="$$envoy" exec $(TARGET_DIR)/release/demo

# The workspace is tested in one go: with other packages Cargo chooses other features, and compiles what they share again.
test: ## everything: format, lints, tests inside wasm, unit tests, integration tests against the real Envoy
	@scripts/deps test
	@$(MAKE) --no-print-directory lint
	@scripts/test-wasm $(WASM_TESTED)
	@$(MAKE) --no-print-directory wasm example certs
	@envoy=$$(scripts/envoy) && ENVOY="$$envoy" scripts/test-workspace --test-threads=$(TEST_THREADS)

wasm: ## every filter: dist/mqtt.wasm, dist/coap.wasm, dist/dns.wasm
	@scripts/cargo-wasm build --profile wasm $(FILTERS:%=-p filter-%-wasm)
	@mkdir -p dist
	@for filter in $(FILTERS); do \
	  cp "$(TARGET_DIR)/wasm32-wasip1/wasm/$$filter.wasm" dist/ && ls -l "dist/$$filter.wasm" | awk '{print $$NF, $$5, "bytes"}'; \
	done

# Not optimized: it reuses what the tests inside wasm have compiled, and nobody measures it.
example: ## the filter of docs/adding-a-protocol.md: dist/modbus.wasm
	@scripts/cargo-wasm build -p filter-modbus-wasm
	@mkdir -p dist && cp "$(TARGET_DIR)/wasm32-wasip1/debug/modbus.wasm" dist/

images: wasm certs ## the filters as OCI images in dist/images, and the images of compose.yaml: pulled, or stand-ins where no registry is reached
	@scripts/images

envoy: ## the pinned Envoy; the last line printed is its path
	@scripts/envoy

certs: ## a development CA with server and client certificates in .build/certs
	@scripts/dev-certs

# One program for all of them.
BENCH = envoy=$$(scripts/envoy) && $(CARGO) build --quiet --release -p programs --bin bench && \
  ENVOY="$$envoy" exec $(TARGET_DIR)/release/bench

bench: wasm certs ## every comparison in one go: docs/benchmarks.md; writes .build/bench/<date>.json and .md (BENCH_ARGS=--quick: short samples, three rounds)
	@scripts/deps test bench bench-coap bench-dns
	@environment=$$(scripts/wasm-target) && eval "$$environment" && $(BENCH) all $(BENCH_ARGS)

bench-mqtt: wasm ## direct, tcp_proxy, HAProxy, observe and bridge side by side, and what rules cost; also writes .build/bench/mqtt.json
	@scripts/deps bench
	@$(BENCH) mqtt $(BENCH_ARGS)

bench-coap: wasm certs ## direct, udp_proxy, the filter, libcoap's proxy and aiocoap's side by side; also writes .build/bench/coap.json
	@scripts/deps bench-coap
	@$(BENCH) coap $(BENCH_ARGS)

bench-dns: wasm ## direct, udp_proxy, dnsdist, unbound and the filter side by side; also writes .build/bench/dns.json
	@scripts/deps bench-dns
	@$(BENCH) dns $(BENCH_ARGS)

bench-scale: wasm ## 10,000 MQTT sessions with 100,000 subscriptions through one Envoy, for ten minutes; also writes .build/bench/scale.json
	@scripts/deps bench
	@$(BENCH) scale $(BENCH_ARGS)

bench-compare: ## what differs between two files of results: make bench-compare OLD=a.json NEW=b.json
	@$(CARGO) run --quiet --release -p programs --bin bench -- compare "$(OLD)" "$(NEW)"

bench-page: ## docs/benchmarks.md and its plots, from files of results: make bench-page RESULTS="a.json scale.json"
	@$(CARGO) run --quiet --release -p programs --bin bench -- page $(RESULTS)

bench-codecs: ## the codecs beside other crates, native and in wasm (V8)
	@scripts/deps test
	@environment=$$(scripts/wasm-target) && eval "$$environment" && for codec in $(BENCHED_CODECS); do \
	  echo "$$codec" && protocol-codecs/bench/run $$codec $(BENCH_ARGS) || exit; \
	done

soak: wasm certs ## an hour (SOAK_SECONDS) of all three protocols through an Envoy each: does memory stay where it is? Also writes .build/soak
	@scripts/deps demo
	@envoy=$$(scripts/envoy) && $(CARGO) build --quiet -p programs --bin soak && \
	  ENVOY="$$envoy" exec $(TARGET_DIR)/debug/soak

# Modules that trap when a client says so are no filters of ours: they go to dist/trap, not optimized.
faults: wasm certs ## what goes wrong, one fault after the other, under load (FAULTS="backends traps …": some of them); also writes .build/faults
	@scripts/deps demo
	@scripts/cargo-wasm build --quiet $(FILTERS:%=-p filter-%-wasm) --features "$(FILTERS:%=filter-%-wasm/trap)"
	@mkdir -p dist/trap
	@for filter in $(FILTERS); do cp "$(TARGET_DIR)/wasm32-wasip1/debug/$$filter.wasm" dist/trap/ || exit; done
	@envoy=$$(scripts/envoy) && $(CARGO) build --quiet -p programs --bin faults && \
	  ENVOY="$$envoy" exec $(TARGET_DIR)/debug/faults $(FAULTS)

manifests: ## the Kubernetes manifests against the CRDs in a folder: make manifests CRDS=<folder>
	@scripts/deps manifests
	@scripts/check-manifests "$(CRDS)" envoy-configs/istio/*.yaml envoy-configs/gateway-api/*.yaml

versions: wasm example certs ## the integration tests against several versions of Envoy, of VERSIONS="1.36.4 1.38.2 …" or all
	@scripts/deps test
	@TEST_THREADS=$(TEST_THREADS) scripts/versions $(VERSIONS)

release: ## dist/release: modules, images, SBOMs, licences, schemas and configurations, with checksums
	@scripts/release

deny: ## licences, sources and versions of all dependencies, and their known vulnerabilities, with cargo-deny
	@scripts/deny

reference: ## docs/reference, from the types that read the configuration
	@$(CARGO) run --quiet -p reference

dashboards: ## deploy/grafana/dashboards, from tools/dashboards
	@sdk=$$(scripts/grafana-sdk) && PYTHONPATH="$$sdk" python3 -B tools/dashboards/generate.py

fuzz: ## every fuzz target for SECONDS_EACH=60 seconds, one after another, and a table (TARGETS="dns websocket": those alone; KEEP=1: keep what is new)
	@scripts/fuzz $(TARGETS)

fmt: ## format all code
	$(CARGO) fmt --all

lint: ## rustfmt and clippy, warnings are errors
	$(CARGO) fmt --all --check
	@scripts/check-tests
	$(CARGO) clippy --workspace --all-targets -- -D warnings

clean: ## remove what was built and downloaded
	rm -rf target dist .build
