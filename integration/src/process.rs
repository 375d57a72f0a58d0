//! Child processes that never outlive the test that started them.
//!
//! Dropping a [`Process`] kills it. A test binary that is killed itself runs no destructor: for that case the kernel is
//! asked, with `setpriv --pdeathsig`, to kill the child when its parent ends. The kernel means the parent *thread*, and
//! a test's threads come and go; so all children are started by one thread that lives as long as the program.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, Signal};
use rustix::thread::CpuSet;

/// What a child may allocate, in bytes: a leak under test has to end the test, not the machine.
const MEMORY_LIMIT: u64 = 4 << 30;

/// A running program whose output is kept in files.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    dir: PathBuf,
}

impl Process {
    /// Starts `program` in the repository's root, with a folder of its own for its files: `args` is told which.
    pub fn start(
        name: &str,
        program: &Path,
        args: impl FnOnce(&Path) -> Result<Vec<String>>,
    ) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        if number == 0 {
            remove_leftovers();
        }
        let dir = run_dir().join(format!("{number}-{name}"));
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let args = args(&dir)?;

        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--", "prlimit"])
            .arg(format!("--data={MEMORY_LIMIT}"))
            .arg("--")
            .arg(program)
            .args(args)
            .current_dir(crate::root())
            .stdin(Stdio::null())
            .stdout(File::create(dir.join("stdout"))?)
            .stderr(File::create(dir.join("stderr"))?);
        let child = spawn(command).with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name: name.to_owned(), child, dir })
    }

    /// The process identifier: `setpriv` and `prlimit` replace themselves with the program.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The folder with the process's files.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What it wrote to standard output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        read_lossy(&self.dir.join("stdout"))
    }

    /// What it wrote to standard error so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        read_lossy(&self.dir.join("stderr"))
    }

    /// The exit status, if it has ended.
    pub fn exit_status(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// An error with the end of its log, if it has ended.
    pub fn expect_running(&mut self) -> Result<()> {
        match self.exit_status()? {
            None => Ok(()),
            Some(status) => {
                bail!("{} ended with {status}; its log ends with:\n{}", self.name, self.log_tail())
            }
        }
    }

    /// Waits for it to end by itself.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.exit_status()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                bail!("{} was still running after {limit:?}", self.name);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends it at once, as a crash would.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| anyhow!("{} has no usable process identifier", self.name))?;
        Ok(rustix::process::kill_process(pid, signal)?)
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|rest| rest.split_whitespace().next());
        let kib: u64 = kib.context("no VmRSS in /proc/<pid>/status")?.parse()?;
        Ok(kib * 1024)
    }

    /// Open file descriptors.
    pub fn descriptors(&self) -> Result<u64> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.pid()))?.count() as u64)
    }

    /// CPU time used so far, user and system, in seconds.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        // The second field, the command's name in parentheses, may contain blanks.
        let (_, rest) = stat.rsplit_once(") ").context("unexpected /proc/<pid>/stat")?;
        let ticks: u64 =
            rest.split_whitespace().skip(11).take(2).filter_map(|f| f.parse::<u64>().ok()).sum();
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52 ticks")]
        Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
    }

    /// For how long its threads could have run and others did, in seconds. Threads that have ended do not count.
    pub fn waited_seconds(&self) -> Result<f64> {
        let mut nanos = 0;
        for thread in fs::read_dir(format!("/proc/{}/task", self.pid()))? {
            let text = fs::read_to_string(thread?.path().join("schedstat"))?;
            let waited = text.split_whitespace().nth(1).context("unexpected schedstat")?;
            nanos += waited.parse::<u64>()?;
        }
        Ok(Duration::from_nanos(nanos).as_secs_f64())
    }

    /// Has all its threads, and those they start, run on this core.
    pub fn pin(&self, core: usize) -> Result<()> {
        for entry in fs::read_dir(format!("/proc/{}/task", self.pid()))? {
            let name = entry?.file_name();
            let thread = name.to_str().and_then(|name| Pid::from_raw(name.parse().ok()?));
            rustix::thread::sched_setaffinity(thread, &only(core))?;
        }
        Ok(())
    }

    fn log_tail(&self) -> String {
        let both = format!("{}{}", self.stdout(), self.stderr());
        let lines: Vec<&str> = both.lines().collect();
        lines.get(lines.len().saturating_sub(120)..).unwrap_or_default().join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; either way it is gone afterwards.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            // Not stderr directly: the test harness shows this with the failing test only.
            eprintln!("--- log of {} ---\n{}\n--- end ---", self.name, self.log_tail());
        }
        let _ = fs::remove_dir_all(&self.dir);
        // Succeeds for the last one only.
        let _ = fs::remove_dir(run_dir());
    }
}

/// Has the calling thread, and those it starts, run on this core.
pub fn pin_this_thread(core: usize) -> Result<()> {
    Ok(rustix::thread::sched_setaffinity(None, &only(core))?)
}

fn only(core: usize) -> CpuSet {
    let mut set = CpuSet::new();
    set.set(core);
    set
}

fn run_dir() -> PathBuf {
    crate::root().join(".build").join("run").join(std::process::id().to_string())
}

/// Removes the files of programs that were killed and could not do it themselves.
fn remove_leftovers() {
    let Ok(entries) = fs::read_dir(crate::root().join(".build").join("run")) else { return };
    for entry in entries.flatten() {
        if !Path::new("/proc").join(entry.file_name()).exists() {
            // Another program may be doing the same.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn read_lossy(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

type Request = (Command, mpsc::Sender<std::io::Result<Child>>);

/// Starts `command` from the thread that outlives all others.
pub(crate) fn spawn(command: Command) -> Result<Child> {
    static SPAWNER: OnceLock<mpsc::Sender<Request>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, requests) = mpsc::channel::<Request>();
        std::thread::spawn(move || {
            for (mut command, answer) in requests {
                // The asker waits for the answer; it cannot be gone.
                let _ = answer.send(command.spawn());
            }
        });
        sender
    });
    let (answer, child) = mpsc::channel();
    spawner.send((command, answer)).map_err(|_| anyhow!("the spawning thread is gone"))?;
    Ok(child.recv()??)
}

/// Where `name` is installed; daemons live in /usr/sbin, which is not on every user's PATH.
pub fn program(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
        .with_context(|| format!("{name} is not installed; `scripts/deps` installs it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropping_a_process_ends_it() {
        let process = Process::start("sleep", Path::new("sleep"), |_| Ok(vec!["60".into()]));
        let process = process.unwrap();
        let proc_dir = PathBuf::from(format!("/proc/{}", process.pid()));
        assert!(proc_dir.exists());
        drop(process);
        assert!(!proc_dir.exists());
    }

    #[test]
    fn a_pinned_process_has_one_core() {
        let process = Process::start("sleep", Path::new("sleep"), |_| Ok(vec!["60".into()]));
        let process = process.unwrap();
        process.pin(0).unwrap();
        let status = fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
        assert!(status.contains("Cpus_allowed_list:\t0\n"), "{status}");
    }

    #[test]
    fn a_process_outlives_the_thread_that_asked_for_it() {
        let thread = std::thread::spawn(|| {
            Process::start("sleep", Path::new("sleep"), |_| Ok(vec!["60".into()])).unwrap()
        });
        let mut process = thread.join().unwrap();
        std::thread::sleep(Duration::from_millis(100));
        process.expect_running().unwrap();
    }
}
