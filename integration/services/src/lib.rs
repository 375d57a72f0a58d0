//! The services that the Envoys of `envoy-configs/recipes` ask. Each is a program of its own, in `src/bin`, to try a recipe
//! by hand; the tests run them in a thread.

pub mod acl;
pub mod authorizer;
pub mod limiter;
pub mod recorder;

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use tokio::net::TcpListener;

/// What is to be served, on the listener it is given.
pub trait Service: Send + 'static {
    /// Serves until an error.
    fn serve(self, listener: TcpListener) -> impl Future<Output = Result<()>>;
}

/// Serves in a thread of this process, on this port of 127.0.0.1, until the process ends.
pub fn start(service: impl Service, port: u16) -> Result<()> {
    // Bound before this returns, so that nobody comes too early.
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    listener.set_nonblocking(true)?;
    let runtime = runtime()?;
    std::thread::spawn(move || {
        let served =
            runtime.block_on(async { service.serve(TcpListener::from_std(listener)?).await });
        if let Err(error) = served {
            eprintln!("a service on port {port} ended: {error:#}");
        }
    });
    Ok(())
}

/// Serves in the foreground.
pub fn run(service: impl Service, address: SocketAddr) -> Result<()> {
    runtime()?.block_on(async {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address}"))?;
        println!("listening on {address}");
        service.serve(listener).await
    })
}

/// The arguments of a program: the address to listen on, and a file, whose text this returns.
pub fn address_and_file(usage: &str) -> Result<(SocketAddr, String)> {
    let mut args = std::env::args().skip(1);
    let (Some(address), Some(file), None) = (args.next(), args.next(), args.next()) else {
        anyhow::bail!("usage: {usage}");
    };
    let address = address.parse().with_context(|| format!("{address:?} is not an address"))?;
    let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;
    Ok((address, text))
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}
