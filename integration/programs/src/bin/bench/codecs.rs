//! The codecs beside other crates, natively and in wasm: runs `protocol-codecs/bench/run`, and keeps what it measured.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use integration::bench::results::Results;
use integration::bench::{Options, Run, check_stop, codecs, stop_on_interrupt};
use integration::root;

const USAGE: &str = "usage: bench codecs [--rounds N] [--quick] [--only mqtt,coap,dns]";

const CODECS: [&str; 3] = ["mqtt", "coap", "dns"];

pub(crate) fn main(args: &[String]) -> Result<()> {
    let options = Options::parse(args, USAGE)?;
    stop_on_interrupt()?;
    let run = Run::begin(options.quick);
    let mut reports = Vec::new();
    for codec in CODECS.into_iter().filter(|codec| options.wants(codec)) {
        check_stop()?;
        let dir = Results::dir().join("codecs").join(codec);
        fs::create_dir_all(&dir)?;
        // Criterion's times: as long as the script says, or as short as says something.
        let times = if options.quick { ("0.1", "0.2") } else { ("0.2", "1") };
        let status = Command::new(root().join("protocol-codecs/bench/run"))
            .arg(codec)
            .env("ROUNDS", options.rounds.to_string())
            .env("WARM_UP_TIME", times.0)
            .env("MEASUREMENT_TIME", times.1)
            .env("RESULTS", &dir)
            .status()
            .context("protocol-codecs/bench/run")?;
        ensure!(status.success(), "protocol-codecs/bench/run {codec}: {status}");
        let read = |target: &str| fs::read_to_string(dir.join(target));
        let conditions = [
            "the median of each round's samples, by Criterion; each round first natively, then as wasm32-wasip1 in V8 (Node)",
            "what each contender has to do: protocol-codecs/<codec>/bench/benches/compare.rs",
        ];
        reports.extend(codecs::report(codec, &read("native")?, &read("wasm")?, &conditions));
    }
    run.publish("codecs", reports)
}
