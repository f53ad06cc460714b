//! Two nodes on this machine: a directory, two disks, and daemons of this very program.

use super::nbd::Volume;
use crate::cli::say;
use crate::ctl::client::Client;
use crate::ctl::status::Resource;
use crate::error::{Error, Kind, Result};
use std::fs::File;
use std::net::TcpListener;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Names of the nodes.
pub(super) const NODES: [&str; 2] = ["a", "b"];
/// Name of the resource.
const RESOURCE: &str = "demo";
/// Between two looks at something that is waited for.
const POLL: Duration = Duration::from_millis(50);

/// The directory and the processes. Dropping it ends the daemons and, unless told to keep it, removes
/// the directory.
pub(super) struct Lab {
    dir: PathBuf,
    program: PathBuf,
    daemons: [Option<Child>; 2],
    keep: bool,
    /// Set by SIGINT and SIGTERM.
    interrupted: Arc<AtomicBool>,
}

impl Lab {
    /// Makes the directory, two sparse disks of `bytes` bytes, and the configuration.
    pub(super) fn new(keep: bool, bytes: u64) -> Result<Lab> {
        let program = std::env::current_exe()
            .map_err(|error| Error::io("Cannot find the program itself", error))?;
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&interrupted))
                .map_err(|error| Error::io("Cannot watch for signals", error))?;
        }
        let dir = new_directory()?;
        let daemons = [None, None];
        let lab = Lab { dir, program, daemons, keep, interrupted };
        lab.fill(bytes).map_err(|error| Error::io("Cannot set up the demo", error))?;
        Ok(lab)
    }

    fn fill(&self, bytes: u64) -> std::io::Result<()> {
        // Bound at the same time, so that they differ, and released for the daemons.
        let ports = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
        let mut config =
            format!("[resource]\nname = \"{RESOURCE}\"\n\n[net]\nsecurity = \"none\"\n");
        for (node, port) in ports.iter().enumerate() {
            File::create_new(self.disk(node))?.set_len(bytes)?;
            config += &format!(
                "\n[[node]]\nname = \"{}\"\naddress = \"{}\"\ndisk = {}\n",
                NODES[node],
                port.local_addr()?,
                toml::Value::from(self.disk(node).to_string_lossy().into_owned())
            );
        }
        std::fs::write(self.dir.join("demo.toml"), config)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The disk of a node.
    pub(super) fn disk(&self, node: usize) -> PathBuf {
        self.dir.join(format!("{}.disk", NODES[node]))
    }

    fn run_dir(&self, node: usize) -> PathBuf {
        self.dir.join(format!("{}.run", NODES[node]))
    }

    fn log(&self, node: usize) -> PathBuf {
        self.dir.join(format!("{}.log", NODES[node]))
    }

    fn nbd_socket(&self, node: usize) -> PathBuf {
        self.dir.join(format!("{}.nbd", NODES[node]))
    }

    /// `rblk VERB demo` as a node, its output in the node's log.
    fn command(&self, node: usize, verb: &str) -> Result<Command> {
        let open = || -> std::io::Result<(File, File)> {
            let log = File::options().create(true).append(true).open(self.log(node))?;
            Ok((log.try_clone()?, log))
        };
        let (out, err) = open().map_err(|error| Error::io("Cannot write a log", error))?;
        let mut command = Command::new(&self.program);
        command.arg(verb).arg(RESOURCE).arg("--config").arg(self.dir.join("demo.toml"));
        command.arg("--node").arg(NODES[node]).arg("--run-dir").arg(self.run_dir(node));
        // A group of its own: Ctrl-C reaches us alone, and we end the daemons.
        command.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0);
        Ok(command)
    }

    /// Creates the metadata of both nodes.
    pub(super) fn create(&self) -> Result<()> {
        for node in 0..NODES.len() {
            self.run(node, "create", &["--in-sync"])?;
        }
        Ok(())
    }

    /// Runs a verb to its end.
    fn run(&self, node: usize, verb: &str, options: &[&str]) -> Result<()> {
        let what = format!("`rblk {verb}` on node {} has failed", NODES[node]);
        match self.command(node, verb)?.args(options).status() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(Error::new(Kind::Refused, what).why(status.to_string())),
            Err(error) => Err(Error::io(what, error)),
        }
    }

    /// Starts a daemon.
    pub(super) fn attach(&mut self, node: usize, primary: bool) -> Result<()> {
        let mut command = self.command(node, "attach")?;
        command.arg("--front").arg(format!("nbd=unix:{}", self.nbd_socket(node).display()));
        if primary {
            command.arg("--primary");
        }
        let child = command
            .spawn()
            .map_err(|error| Error::io(format!("Cannot start node {}", NODES[node]), error))?;
        self.daemons[node] = Some(child);
        Ok(())
    }

    /// Ends a daemon as a power cut would.
    pub(super) fn kill(&mut self, node: usize) -> Result<()> {
        if let Some(mut child) = self.daemons[node].take() {
            let ended = child.kill().and_then(|()| child.wait());
            ended.map_err(|error| Error::io(format!("Cannot kill node {}", NODES[node]), error))?;
        }
        Ok(())
    }

    /// Ends a daemon in good order.
    pub(super) fn detach(&mut self, node: usize) -> Result<()> {
        self.run(node, "detach", &[])?;
        let Some(mut child) = self.daemons[node].take() else {
            return Ok(());
        };
        let what = format!("The daemon of node {} did not end well", NODES[node]);
        match child.wait() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(Error::new(Kind::Refused, what).why(status.to_string())),
            Err(error) => Err(Error::io(what, error)),
        }
    }

    /// Waits until the status of a node is as wanted, and returns it.
    pub(super) fn wait(
        &mut self,
        node: usize,
        wanted: &str,
        patience: Duration,
        reached: impl Fn(&Resource) -> bool,
    ) -> Result<Resource> {
        let run_dir = self.run_dir(node);
        let goal = format!("Node {} is not {wanted}", NODES[node]);
        self.until(&goal, patience, || {
            let status = Client::connect(&run_dir, RESOURCE).and_then(|mut c| c.status()).ok()?;
            reached(&status).then_some(status)
        })
    }

    /// Opens the volume of node a.
    pub(super) fn open_volume(&mut self, patience: Duration) -> Result<Volume> {
        let socket = self.nbd_socket(0);
        self.until("The volume does not open", patience, || Volume::open(&socket).ok())
    }

    /// Tries until it gives something, the time is over, a daemon dies or the user has had enough.
    fn until<T>(
        &mut self,
        goal: &str,
        patience: Duration,
        mut attempt: impl FnMut() -> Option<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + patience;
        loop {
            if self.interrupted.load(Ordering::SeqCst) {
                return Err(Error::new(Kind::Refused, "The demo was interrupted"));
            }
            if let Some(found) = attempt() {
                return Ok(found);
            }
            for (node, child) in self.daemons.iter_mut().enumerate() {
                let ended = child.as_mut().and_then(|child| child.try_wait().ok().flatten());
                if let Some(status) = ended {
                    *child = None;
                    let what = format!("The daemon of node {} has ended", NODES[node]);
                    return Err(Error::new(Kind::NotRunning, what).why(status.to_string()));
                }
            }
            if Instant::now() >= deadline {
                let why = format!("not within {} s", patience.as_secs());
                return Err(Error::new(Kind::Io, goal).why(why));
            }
            std::thread::sleep(POLL);
        }
    }

    /// Prints the last lines of both logs.
    pub(super) fn show_logs(&self) {
        for (node, name) in NODES.iter().enumerate() {
            let text = std::fs::read_to_string(self.log(node)).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let last = &lines[lines.len().saturating_sub(20)..];
            say(&format!("--- end of the log of {name}\n{}", last.join("\n")));
        }
    }

    /// Ends what still runs and cleans up.
    pub(super) fn end(self) {
        // The work is in `drop`, so that it is done on every way out.
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for child in self.daemons.iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if self.keep {
            say(&format!("Kept: {}", self.dir.display()));
        } else {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

/// A new directory that is ours alone.
fn new_directory() -> Result<PathBuf> {
    let base = std::env::temp_dir();
    let what = || format!("Cannot make a directory in {}", base.display());
    let mut number = [0; 4];
    getrandom::fill(&mut number).map_err(|error| Error::new(Kind::Io, what()).source(error))?;
    // Short: paths of sockets have at most 107 bytes.
    let dir = base.join(format!("rblk-demo-{:08x}", u32::from_le_bytes(number)));
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(&dir)
        .map_err(|error| Error::io(what(), error).remedy("set TMPDIR to a writable directory"))?;
    Ok(dir)
}
