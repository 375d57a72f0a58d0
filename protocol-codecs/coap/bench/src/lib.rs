//! The benchmark is in `benches/compare.rs`; `./run` runs it natively and as wasm.
