//! The worked example of `docs/adding-a-protocol.md`: `examples/modbus/envoy.yaml` with mbpoll, a client on libmodbus,
//! and the servers of pymodbus.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may fail by panicking"
)]

use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;

use integration::envoy::{Config, Envoy};
use integration::ports::free_port;
use integration::process::{Process, program};
use integration::setup::expect_healthy;
use integration::{eventually, root};

const LISTENER: u16 = 1502;
const PRESS: u16 = 21_502;
const OVEN: u16 = 21_503;

/// A server whose registers have this value, and its port.
fn server(value: u16) -> (Process, u16) {
    let provided = Command::new(root().join("scripts/pymodbus")).output().unwrap();
    assert!(provided.status.success(), "scripts/pymodbus: {provided:?}");
    let path = format!("PYTHONPATH={}", String::from_utf8(provided.stdout).unwrap().trim());
    let port = free_port().unwrap();
    let script = "integration/tests/modbus_server.py";
    let args = [path, "python3".into(), script.into(), port.to_string(), value.to_string()];
    let env = program("env").unwrap();
    let mut process = Process::start("pymodbus", &env, |_| Ok(args.to_vec())).unwrap();
    eventually("pymodbus", || {
        process.expect_running()?;
        Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok())
    })
    .unwrap();
    (process, port)
}

/// Polls holding register `address` of a unit once, or writes it; what mbpoll says.
fn mbpoll(envoy: &Envoy, unit: u8, address: u16, value: Option<u16>) -> String {
    let port = envoy.port(LISTENER).unwrap().to_string();
    let (unit, address) = (unit.to_string(), address.to_string());
    let mut command = Command::new(program("mbpoll").unwrap());
    command.args(["-1", "-0", "-o", "10", "-p", &port, "-a", &unit, "-r", &address, "127.0.0.1"]);
    command.args(value.map(|value| value.to_string()));
    let output = command.output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn requests_are_routed_by_unit_and_writes_are_authorized_by_address() {
    let ((_press, press), (mut oven, oven_port)) = (server(1000), server(2000));
    let config = Config::from_file("examples/modbus/envoy.yaml").unwrap();
    let mut envoy = config.port(PRESS, press).port(OVEN, oven_port).start().unwrap();
    let expect = |envoy: &Envoy, unit, address, value, wanted: &str| {
        let said = mbpoll(envoy, unit, address, value);
        assert!(said.contains(wanted), "unit {unit}, {address}: {said}");
    };

    // By unit; unit 9 is Envoy itself, and nobody has a route to unit 7.
    expect(&envoy, 1, 7, None, "[7]: \t1000");
    expect(&envoy, 2, 7, None, "[7]: \t2000");
    expect(&envoy, 9, 7, None, "[7]: \t42");
    expect(&envoy, 7, 7, None, "Gateway path unavailable");

    // By address: 100 to 199 may be written.
    expect(&envoy, 1, 150, Some(7), "Written 1 references.");
    expect(&envoy, 1, 150, None, "[150]: \t7");
    expect(&envoy, 2, 150, None, "[150]: \t2000");
    expect(&envoy, 1, 99, Some(7), "Illegal function");
    expect(&envoy, 1, 99, None, "[99]: \t1000");

    let refused = envoy.access_log_entry(|entry| entry["code"] == 403).unwrap();
    assert_eq!(refused["path"], "/1/write_single_register");
    assert_eq!((&refused["first"], &refused["last"]), (&"99".into(), &"99".into()));
    let labels = [("function", "write_single_register"), ("carry", "check")];
    let writes = eventually("the metric of two writes", || {
        Ok(envoy.metric("modbus_requests_total", &labels)?.filter(|writes| *writes >= 2.0))
    });
    assert!((writes.unwrap() - 2.0).abs() < f64::EPSILON);

    // A server that is gone is a failed target.
    oven.kill().unwrap();
    expect(&envoy, 2, 7, None, "Target device failed to respond");
    expect(&envoy, 1, 7, None, "[7]: \t1000");
    expect_healthy(&mut envoy).unwrap();
}
