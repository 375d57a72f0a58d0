//! What stands behind Envoy: mosquitto, and a sink that costs next to nothing; and HAProxy beside Envoy.

use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::eventually;
use crate::ports::free_port;
use crate::process::{Process, program};

/// A mosquitto on a port of its own, with nothing persistent.
#[derive(Debug)]
pub struct Mosquitto {
    /// The process, for its log and its end.
    pub process: Process,
    port: u16,
}

impl Mosquitto {
    /// One that takes anybody.
    pub fn start() -> Result<Self> {
        Self::builder().start()
    }

    /// One with settings.
    #[must_use]
    pub fn builder() -> MosquittoBuilder {
        MosquittoBuilder { users: Vec::new(), settings: Vec::new(), port: None, directory: None }
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// What it logged so far: with each packet in and out.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.stderr()
    }

    /// Whether it logged a connection of this client.
    #[must_use]
    pub fn has_seen(&self, client_id: &str) -> bool {
        // "New client connected from 127.0.0.1:5 as abc (p2, c1, k60)."
        self.log().contains(&format!(" as {client_id} ("))
    }
}

/// A mosquitto about to be started.
#[derive(Debug)]
pub struct MosquittoBuilder {
    users: Vec<(String, String)>,
    settings: Vec<String>,
    port: Option<u16>,
    directory: Option<PathBuf>,
}

impl MosquittoBuilder {
    /// Takes nobody but users named so.
    #[must_use]
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.users.push((name.to_owned(), password.to_owned()));
        self
    }

    /// A line for its configuration file.
    #[must_use]
    pub fn setting(mut self, line: &str) -> Self {
        self.settings.push(line.to_owned());
        self
    }

    /// A certain port; else a free one.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Keeps its sessions in this directory when it is told to end, and finds them there when it starts.
    #[must_use]
    pub fn persistent_in(mut self, directory: &Path) -> Self {
        self.directory = Some(directory.to_owned());
        self
    }

    /// Starts it and waits until it listens.
    pub fn start(self) -> Result<Mosquitto> {
        let port = self.port.map_or_else(free_port, Ok)?;
        let mut process = Process::start("mosquitto", &program("mosquitto")?, |dir| {
            let mut config = vec![
                format!("listener {port} 127.0.0.1"),
                format!("persistence {}", self.directory.is_some()),
                "log_dest stderr".into(),
                "log_type all".into(),
                "connection_messages true".into(),
                // Else it hands packets to Nagle's algorithm, and a latency test measures that.
                "set_tcp_nodelay true".into(),
                format!("allow_anonymous {}", self.users.is_empty()),
            ];
            // Started by root it would become another user, who may not read our files.
            if rustix::process::geteuid().is_root() {
                config.push("user root".into());
            }
            if !self.users.is_empty() {
                let file = dir.join("passwords");
                let lines: Vec<String> =
                    self.users.iter().map(|(name, word)| format!("{name}:{word}\n")).collect();
                fs::write(&file, lines.concat())?;
                hash_passwords(&file)?;
                config.push(format!("password_file {}", file.display()));
            }
            if let Some(directory) = &self.directory {
                config.push(format!("persistence_location {}/", directory.display()));
            }
            config.extend(self.settings);
            let file = dir.join("mosquitto.conf");
            fs::write(&file, config.join("\n") + "\n")?;
            Ok(vec!["-c".into(), file.to_string_lossy().into_owned()])
        })?;
        wait_until_listening(&mut process, port)?;
        Ok(Mosquitto { process, port })
    }
}

fn hash_passwords(file: &std::path::Path) -> Result<()> {
    let output = std::process::Command::new(program("mosquitto_passwd")?)
        .arg("-U")
        .arg(file)
        .output()
        .context("mosquitto_passwd")?;
    anyhow::ensure!(output.status.success(), "mosquitto_passwd: {output:?}");
    Ok(())
}

/// HAProxy with its own MQTT checks in front of one server: the nearest thing to this project elsewhere.
#[derive(Debug)]
pub struct HaProxy {
    /// The process, for its memory.
    pub process: Process,
    port: u16,
}

impl HaProxy {
    /// Starts it in front of `server`.
    pub fn start(server: SocketAddr) -> Result<Self> {
        let port = free_port()?;
        let mut process = Process::start("haproxy", &program("haproxy")?, |dir| {
            // One thread, as Envoy has one worker. It waits for a CONNECT, refuses what is not one, and reads a field of
            // it, as one does to be sticky by client identifier.
            let config = format!(
                "global
  nbthread 1
  maxconn 9000
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
frontend mqtt
  bind 127.0.0.1:{port}
  tcp-request inspect-delay 10s
  tcp-request content reject unless {{ req.payload(0,0),mqtt_is_valid }}
  default_backend broker
backend broker
  stick-table type string len 64 size 100k expire 1h
  stick on req.payload(0,0),mqtt_field_value(connect,client_identifier)
  server broker {server}
"
            );
            let file = dir.join("haproxy.cfg");
            fs::write(&file, config)?;
            Ok(vec!["-db".into(), "-f".into(), file.to_string_lossy().into_owned()])
        })?;
        wait_until_listening(&mut process, port)?;
        Ok(Self { process, port })
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }
}

fn wait_until_listening(process: &mut Process, port: u16) -> Result<()> {
    eventually("a listener", || {
        process.expect_running()?;
        match TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => Ok(Some(())),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(None),
            Err(error) => Err(error.into()),
        }
    })
}

/// A broker reduced to what a load test needs: it accepts every CONNECT and throws away all that follows. So it is never
/// the bottleneck. It lives in a thread of this process.
#[derive(Debug)]
pub struct Sink {
    address: SocketAddr,
    received: Arc<AtomicU64>,
    sessions: Arc<AtomicU64>,
}

impl Sink {
    /// Starts one that says CONNACK in MQTT 3.1.1, or in 5.0 to those who speak it.
    pub fn start() -> Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, free_port()?))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let received = Arc::new(AtomicU64::new(0));
        let sessions = Arc::new(AtomicU64::new(0));
        let (bytes, count) = (Arc::clone(&received), Arc::clone(&sessions));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        std::thread::spawn(move || {
            runtime.block_on(async move {
                let Ok(listener) = TcpListener::from_std(listener) else { return };
                loop {
                    // An error here is a client that was gone again at once.
                    if let Ok((stream, _)) = listener.accept().await {
                        tokio::spawn(swallow(stream, Arc::clone(&bytes), Arc::clone(&count)));
                    }
                }
            });
        });
        Ok(Self { address, received, sessions })
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes received so far after the CONNECT packets, over all sessions.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Sessions open now.
    #[must_use]
    pub fn sessions(&self) -> u64 {
        self.sessions.load(Ordering::Relaxed)
    }
}

async fn swallow(
    mut stream: tokio::net::TcpStream,
    received: Arc<AtomicU64>,
    sessions: Arc<AtomicU64>,
) {
    let _ = stream.set_nodelay(true);
    sessions.fetch_add(1, Ordering::Relaxed);
    // A session ends in one way: somebody closes it. How is of no interest here.
    let _ = swallow_all(&mut stream, &received).await;
    sessions.fetch_sub(1, Ordering::Relaxed);
}

async fn swallow_all(
    stream: &mut tokio::net::TcpStream,
    received: &AtomicU64,
) -> std::io::Result<()> {
    const DISCONNECT: u8 = 0xE0;
    // A CONNECT of a load test is shorter than 128 bytes: one byte of length.
    let mut head = [0; 2];
    stream.read_exact(&mut head).await?;
    let [_, length] = head;
    let mut connect = vec![0; usize::from(length)];
    stream.read_exact(&mut connect).await?;
    let version_5 = connect.get(6) == Some(&5);
    let connack: &[u8] = if version_5 { &[0x20, 3, 0, 0, 0] } else { &[0x20, 2, 0, 0] };
    stream.write_all(connack).await?;

    // Small while nothing comes: thousands of idle sessions share this process.
    let mut buffer = vec![0; 256];
    loop {
        let count = stream.read(&mut buffer).await?;
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else {
            return Ok(());
        };
        received.fetch_add(count as u64, Ordering::Relaxed);
        // On its own it can only be the packet; elsewhere the byte may be payload.
        if matches!(bytes, [DISCONNECT, 0]) {
            return Ok(());
        }
        if count == buffer.len() && count < 256 * 1024 {
            buffer.resize(256 * 1024, 0);
        }
    }
}
