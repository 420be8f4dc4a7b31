//! What the running processes may do, read from the kernel, and what becomes of their memory.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tap_tests::deployment::{Deployment, Plan, rule};
use tap_tests::gwtap;
use tap_tests::lab::{Lab, Process, wait_until};
use tap_tests::need;

/// How long things may take that take a moment.
const PATIENCE: Duration = Duration::from_secs(20);
/// Somebody without rights (the user `nobody`).
const NOBODY: u32 = 65_534;

/// Bits of `CAP_NET_ADMIN`, `CAP_PERFMON` and `CAP_BPF` (include/uapi/linux/capability.h).
const TAP_CAPABILITIES: u64 = 1 << 12 | 1 << 38 | 1 << 39;
/// Bit of `CAP_IPC_LOCK`.
const LOCK: u64 = 1 << 14;

fn plan() -> Plan {
    Plan { sets: vec![vec![rule("beacon", "198.51.100.0/24", "destination-port", 5000, "udp")]], ..Plan::default() }
}

/// A field of `/proc/PID/status`.
fn status(pid: u32, field: &str) -> Result<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    Ok(line.with_context(|| format!("{field} of {pid}"))?.trim().to_owned())
}

/// A capability set of every thread of a process; they must agree.
fn capabilities(pid: u32, set: &str) -> Result<u64> {
    let mut found = None;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let id: u32 = thread?.file_name().to_string_lossy().parse()?;
        let value = u64::from_str_radix(&status(id, set)?, 16)?;
        ensure!(*found.get_or_insert(value) == value, "{set} differs between threads of {pid}");
    }
    found.context("a thread")
}

/// What every process of the program has given up, whatever else it does.
fn hardened(pid: u32, kept: u64) -> Result<()> {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits"))?;
    let limit = |name: &str| limits.lines().find_map(|line| line.strip_prefix(name)).context("a limit");
    // Where this machine's root may not raise the limit, the capability stays in its place.
    let unlimited = limit("Max locked memory")?.split_whitespace().next() == Some("unlimited");
    let kept = if unlimited { kept } else { kept | LOCK };
    for set in ["CapEff", "CapPrm", "CapBnd"] {
        let held = capabilities(pid, set)?;
        ensure!(held == kept, "{set} of {pid} is {held:x}, not {kept:x}");
    }
    for set in ["CapInh", "CapAmb"] {
        ensure!(capabilities(pid, set)? == 0, "{set} of {pid}");
    }
    ensure!(status(pid, "NoNewPrivs")? == "1", "it could gain rights");
    let cores: Vec<_> = limit("Max core file size")?.split_whitespace().collect();
    ensure!(cores == ["0", "0", "bytes"], "{cores:?}");
    let locked = |text: &str| text.split_whitespace().next().and_then(|kb| kb.parse::<u64>().ok()).unwrap_or(0);
    let [locked, resident] = [locked(&status(pid, "VmLck")?), locked(&status(pid, "RssAnon")?)];
    ensure!(locked >= resident && resident > 0, "{locked} kB are locked, {resident} kB are in use");
    Ok(())
}

#[test]
fn running_processes_hold_what_they_need_and_leave_no_memory_behind() {
    if need::root() && need::tool("tc").is_some() {
        running().unwrap();
    }
}

fn running() -> Result<()> {
    let lab = Lab::new()?;
    let deployment = Deployment::new(plan())?;
    let mut receiver = deployment.start_receiver(&lab.receiving)?;
    let mut agent = deployment.start_agent(&lab.mirror)?;
    hardened(receiver.pid(), 0).context("gwtap receive")?;
    hardened(agent.pid(), TAP_CAPABILITIES).context("gwtap run")?;
    agent.terminate(PATIENCE)?;
    receiver.terminate(PATIENCE)?;
    Ok(())
}

/// `command` as [`NOBODY`], with leave to lock memory and no other.
fn as_nobody(command: &str, words: &[&str]) -> Command {
    let mut nobody = Command::new("setpriv");
    nobody.args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")]);
    nobody.args(["--clear-groups", "--inh-caps=+ipc_lock", "--ambient-caps=+ipc_lock", command]).args(words);
    nobody
}

/// Whether [`NOBODY`] may look into the memory of a process: the kernel asks for this file what it asks of a tracer.
fn may_look(pid: u32) -> Result<bool> {
    Ok(gwtap::of(&mut as_nobody("cat", &[&format!("/proc/{pid}/environ")]))?.code == Some(0))
}

#[test]
fn a_process_of_the_same_user_cannot_look_into_the_memory() {
    if need::root() && need::tool("setpriv").is_some() {
        same_user().unwrap();
    }
}

fn same_user() -> Result<()> {
    let deployment = Deployment::new(plan())?;
    let file = deployment.file("receive.toml");
    let text = std::fs::read_to_string(&file)?;
    let listening = text.lines().find(|line| line.starts_with("address")).context("an address")?;
    std::fs::write(&file, text.replace(listening, "address = \"127.0.0.1:0\""))?;
    gwtap::of(Command::new("chown").args(["-R", &NOBODY.to_string()]).arg(deployment.path()))?;
    // Somebody else's folders may stand above the program.
    let program = deployment.file("gwtap");
    std::fs::copy(gwtap::binary()?, &program)?;

    let command = as_nobody(&program.to_string_lossy(), &["receive", "--config", &file.to_string_lossy()]);
    let log = deployment.file("receive.log");
    let mut receiver = Process::start("gwtap receive", command, &log)?;
    receiver.wait_until("listening socket", PATIENCE, || {
        std::fs::read_to_string(&log).is_ok_and(|said| said.contains("listening on"))
    })?;
    let mut other = Process::start("sleep", as_nobody("sleep", &["60"]), &deployment.file("sleep.log"))?;
    wait_until("the other process", PATIENCE, || may_look(other.pid()).unwrap_or(false))?;
    ensure!(!may_look(receiver.pid())?, "the memory of gwtap receive is open to its own user");
    receiver.terminate(PATIENCE)?;
    other.kill()
}

#[test]
fn exceptions_are_read_and_must_have_a_reason() {
    let deployment = Deployment::new(plan()).unwrap();
    let file = deployment.file("gwtap.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("\"allowed: laboratory\"", "\"allowed:\"")).unwrap();
    let outcome = gwtap::outcome(deployment.path(), ["run", "--config", "gwtap.toml"]).unwrap();
    assert_ne!(outcome.code, Some(0));
    assert!(outcome.stderr.contains("\"allowed: REASON\""), "{}", outcome.stderr);
}
