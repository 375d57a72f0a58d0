# The commands of this repository; `make help` lists them. Everything they download or make lands in .build/, dist/ and
# target/, all of them ignored by git.

# The filters: each is a crate filter-<name>-wasm, built to dist/<name>.wasm.
FILTERS := mqtt coap

# What runs as wasm in the tests too: crates that need no host.
WASM_TESTED := codec-mqtt codec-coap codec-dns codec-capsule bridge filter-config policy filter-mqtt websocket filter-coap \
  coap-http coap-egress http-server tunnels

# What is measured beside other crates.
BENCHED_CODECS := mqtt coap dns

# The integration tests start an Envoy and brokers each: more of them at once than this only makes them slow.
TEST_THREADS ?= 2

CARGO ?= cargo
TARGET_DIR = $${CARGO_TARGET_DIR:-target}

.DEFAULT_GOAL := help
.PHONY: help demo test wasm envoy certs bench-mqtt bench-coap bench-codecs reference fmt lint clean

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: wasm certs ## brokers, CoAP servers, Envoys and real clients on 127.0.0.1, until Ctrl-C (ONCE=1: once through, then exit)
	@scripts/deps demo
	@envoy=$$(scripts/envoy) && $(CARGO) build --release -p integration --bin demo && \
	  ENVOY="$$envoy" exec $(TARGET_DIR)/release/demo

test: ## everything: format, lints, unit tests, tests inside wasm, integration tests against the real Envoy
	@scripts/deps test
	@$(MAKE) --no-print-directory lint
	$(CARGO) test --workspace --exclude integration
	scripts/cargo-wasm test $(WASM_TESTED:%=-p %) --lib --tests
	@$(MAKE) --no-print-directory wasm certs
	@envoy=$$(scripts/envoy) && set -x && \
	  ENVOY="$$envoy" $(CARGO) test -p integration -- --test-threads=$(TEST_THREADS)

wasm: ## every filter: dist/mqtt.wasm, dist/coap.wasm
	@scripts/cargo-wasm build --profile wasm $(FILTERS:%=-p filter-%-wasm)
	@mkdir -p dist
	@for filter in $(FILTERS); do \
	  cp "$(TARGET_DIR)/wasm32-wasip1/wasm/$$filter.wasm" dist/ && ls -l "dist/$$filter.wasm" | awk '{print $$NF, $$5, "bytes"}'; \
	done

envoy: ## the pinned Envoy; the last line printed is its path
	@scripts/envoy

certs: ## a development CA with server and client certificates in .build/certs
	@scripts/dev-certs

bench-mqtt: wasm ## direct, tcp_proxy, HAProxy, observe and bridge side by side, and what rules cost; also writes .build/bench/mqtt.json
	@scripts/deps bench
	@envoy=$$(scripts/envoy) && $(CARGO) build --quiet --release -p integration --bin bench-mqtt && \
	  ENVOY="$$envoy" exec $(TARGET_DIR)/release/bench-mqtt $(BENCH_ARGS)

bench-coap: wasm certs ## direct, udp_proxy, the filter, libcoap's proxy and aiocoap's side by side; also writes .build/bench/coap.json
	@scripts/deps bench-coap
	@envoy=$$(scripts/envoy) && $(CARGO) build --quiet --release -p integration --bin bench-coap && \
	  ENVOY="$$envoy" exec $(TARGET_DIR)/release/bench-coap $(BENCH_ARGS)

bench-codecs: ## the codecs beside other crates, native and in wasm (V8)
	@scripts/deps test
	@environment=$$(scripts/wasm-target) && eval "$$environment" && for codec in $(BENCHED_CODECS); do \
	  echo "$$codec" && protocol-codecs/bench/run $$codec $(BENCH_ARGS) || exit; \
	done

reference: ## docs/reference, from the types that read the configuration
	@$(CARGO) run --quiet -p reference

fmt: ## format all code
	$(CARGO) fmt --all

lint: ## rustfmt and clippy, warnings are errors
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

clean: ## remove what was built and downloaded
	rm -rf target dist .build
