//! The benchmark is in `benches/compare.rs`; `../../bench/run` runs it natively and as wasm.
