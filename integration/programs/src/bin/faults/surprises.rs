//! Modules that trap, and clocks that are set.

use std::fs;
use std::io::Write;
use std::net::{TcpStream, UdpSocket};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integration::envoy::Envoy;
use integration::load::trio::{Trio, configs};
use integration::root;

use crate::scene::{Doors, Fault, LASTS, PROTOCOLS, Row, Servers, attempt, command, run, wait};

/// What `filters/host` has the word for, if it was built with the feature `trap`.
const COMMAND: &[u8] = b"trap on command";

/// With modules from `dist/trap`, which `make faults` builds.
pub(crate) fn traps() -> Result<Vec<Row>> {
    for name in ["mqtt", "coap", "dns"] {
        let shipped = fs::read(root().join(format!("dist/{name}.wasm")))?;
        let own = fs::read(root().join(format!("dist/trap/{name}.wasm"))).context("dist/trap")?;
        let has = |module: &[u8]| module.windows(COMMAND.len()).any(|window| window == COMMAND);
        ensure!(has(&own) && !has(&shipped), "dist/{name}.wasm must not trap, dist/trap has to");
    }
    let mut servers = Servers::start()?;
    let mut configs = configs()?;
    for (config, name) in configs.iter_mut().zip(["mqtt", "coap", "dns"]) {
        let from = format!("dist/{name}.wasm");
        *config = config.clone().replace(&from, &format!("dist/trap/{name}.wasm"))?;
    }
    let mut trio = Trio::start(configs, servers.addresses())?;
    let doors = Doors::of(&trio)?;
    let mut fault = Fault::of_all("each module traps five times within 6 s (FAIL_RELOAD)");
    fault.clean_log = false;
    fault.recovery = Duration::from_secs(30);
    let row = run(&fault, &mut trio, &mut servers, doors, |trio, _| {
        for _ in 0..5 {
            for address in [doors.mqtt, doors.coap_tcp, doors.dns_tcp] {
                // Whether it is still open when all was sent is not of interest.
                let _ = TcpStream::connect(address)?.write_all(COMMAND);
            }
            for address in [doors.coap_udp, doors.dns_udp] {
                UdpSocket::bind("127.0.0.1:0")?.send_to(COMMAND, address)?;
            }
            wait(LASTS / 5)?;
        }
        let mut reloads = Vec::new();
        for (envoy, protocol) in trio.envoys.iter().zip(PROTOCOLS) {
            let stats = envoy.get("/stats")?;
            let lines = stats.lines().filter_map(|line| line.split_once("vm_reload_success: "));
            let count: u64 = lines.filter_map(|(_, count)| count.parse::<u64>().ok()).sum();
            reloads.push(format!("{protocol} {count}"));
            ensure!(count > 0, "{protocol}: no VM was started again");
        }
        Ok(format!("VMs started again: {}", reloads.join(", ")))
    });
    Ok(vec![attempt(&fault.name, row)])
}

/// With `clock.c` between Envoy and the wall clock.
pub(crate) fn clocks() -> Result<Vec<Row>> {
    let dir = root().join(".build/faults");
    fs::create_dir_all(&dir)?;
    let (library, file) = (dir.join("clock.so"), dir.join("clock"));
    let source = root().join("integration/programs/src/bin/faults/clock.c");
    let paths = [&library, &source].map(|path| path.to_string_lossy().into_owned());
    let [library, source] = &paths;
    command("cc", &["-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", library, source])?;
    fs::write(&file, 0_i64.to_ne_bytes())?;
    // In place: Envoy has it mapped.
    let clock = fs::OpenOptions::new().write(true).open(&file)?;
    let set = |offset: i64| clock.write_all_at(&offset.to_ne_bytes(), 0);
    let configs = configs()?.map(|config| {
        config
            .environment("LD_PRELOAD", library)
            .environment("CLOCK_OFFSET", &file.to_string_lossy())
    });
    let mut servers = Servers::start()?;
    let mut trio = Trio::start(configs, servers.addresses())?;
    let doors = Doors::of(&trio)?;
    let mut fault =
        Fault::of_servers("the clock is set an hour ahead, two hours back, and right again");
    fault.harms = [false; 3];
    let row = run(&fault, &mut trio, &mut servers, doors, |trio, _| {
        let begin = Instant::now();
        let uptimes = trio.envoys.iter().map(uptime).collect::<Result<Vec<_>>>()?;
        let mut seen = Vec::new();
        for offset in [3600, -3600, 0] {
            set(offset)?;
            wait(LASTS)?;
            for (envoy, before) in trio.envoys.iter().zip(&uptimes) {
                seen.push(uptime(envoy)? - before - i64::try_from(begin.elapsed().as_secs())?);
            }
        }
        Ok(format!("by their uptime the Envoys' clocks were off by {seen:?} s"))
    });
    Ok(vec![attempt(&fault.name, row)])
}

/// Since an Envoy was started, in seconds, by the clock that is set.
fn uptime(envoy: &Envoy) -> Result<i64> {
    let info: serde_json::Value = serde_json::from_str(&envoy.get("/server_info")?)?;
    let text = info.get("uptime_all_epochs").and_then(serde_json::Value::as_str);
    Ok(text.context("no uptime")?.trim_end_matches('s').parse()?)
}
