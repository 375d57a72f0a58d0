//! The services that the Envoys of `envoy-configs` ask. Each is a program of its own, in `src/bin`, to try a recipe
//! by hand; the tests run them in a thread.

pub mod acl;
pub mod authorizer;
pub mod limiter;
pub mod recorder;
pub mod web;

use std::net::{Ipv4Addr, SocketAddr};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// What is to be served, on the listener it is given.
pub trait Service: Send + 'static {
    /// Serves until an error.
    fn serve(self, listener: TcpListener) -> impl Future<Output = Result<()>> + Send;
}

/// A service in a thread of this process; dropping it ends the service and its connections.
#[derive(Debug)]
#[must_use = "it ends when this is dropped"]
pub struct Running {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // That the other end is gone is what is waited for.
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Serves in a thread of this process, on this port of 127.0.0.1.
pub fn start(service: impl Service, port: u16) -> Result<Running> {
    // Bound before this returns, so that nobody comes too early.
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    listener.set_nonblocking(true)?;
    let runtime = runtime()?;
    let (stop, stopped) = oneshot::channel();
    let thread = std::thread::spawn(move || {
        runtime.spawn(async move {
            let served = async { service.serve(TcpListener::from_std(listener)?).await };
            if let Err(error) = served.await {
                eprintln!("the service on port {port} ended: {error:#}");
            }
        });
        // Dropping the runtime ends all that runs in it.
        let _ = runtime.block_on(stopped);
    });
    Ok(Running { stop: Some(stop), thread: Some(thread) })
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
