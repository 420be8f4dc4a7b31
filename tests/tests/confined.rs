//! System calls, files and ports of the running processes: what they are held to, and that they need all of it.
//!
//! In: the real tap and receiving facility, watched from outside (strace); a process that gives up what the lists do not have.
//! Out: each rule that a run made use of, and what becomes of a call, a file or a port outside.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{ErrorKind, Read as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, dup2_stderr, fork, pipe};
use serde_json::Value;
use tap_tests::deployment::{Deployment, Plan, SERVER_NAME, rule};
use tap_tests::lab::traffic::{Rate, UdpLoad};
use tap_tests::lab::{DOMESTIC4, FOREIGN4, Host, Lab, Process, wait_until};
use tap_tests::{gwtap, need};
use tap_userspace::privilege::capabilities::Keep;
use tap_userspace::privilege::{Calls, Needs, Privilege, Reach, confine, syscalls};

const PATIENCE: Duration = Duration::from_secs(30);
/// Where nobody listens: a notice is tried, and tried again.
const COMMISSION: &str = "127.0.0.1:8443";
/// Entries of a tile (C2SP tlog-tiles).
const TILE_ENTRIES: usize = 256;
const METRICS: &str = "127.0.0.1:9465";

fn plan() -> Plan {
    let set = |port| vec![rule("beacon", "198.51.100.0/24", "destination-port", port, "udp")];
    Plan { sets: vec![set(5000), set(5001)], ..Plan::default() }
}

#[test]
fn every_listed_system_call_is_made() {
    if need::root() && need::tool("tc").is_some() && need::tool("strace").is_some() {
        every_rule().unwrap();
    }
}

fn every_rule() -> Result<()> {
    let lab = Lab::new()?;
    let deployment = Deployment::new(plan())?;
    with_notices(&deployment)?;
    let traces = deployment.file("traces");
    std::fs::create_dir(&traces)?;
    let mut receiver = traced(&deployment, &lab.receiving, &traces, "receive")?;
    let mut agent = traced(&deployment, &lab.mirror, &traces, "run")?;
    ready(&deployment, &mut agent)?;
    lab.start_mirror()?;
    let to = SocketAddr::new(DOMESTIC4.parse()?, 5000);
    let from = (&lab.foreign, FOREIGN4.parse()?);
    let load = UdpLoad::start(from, 0, 64, (&lab.domestic, to), b"beacon", Rate::new(200_000))?;
    wait_until("stored records", PATIENCE, || deployment.records().is_ok_and(|records| !records.is_empty()))?;
    deployment.load(2)?;
    deployment.metrics(&lab.mirror)?;
    // A tile of the log becomes whole, and its parts are no more needed.
    for _ in 0..TILE_ENTRIES / 2 {
        deployment.gwtap(["stop", "--reason", "laboratory", "--socket", "control.sock"])?;
        deployment.gwtap(["resume", "--reason", "laboratory", "--socket", "control.sock"])?;
    }
    // A second agent finds what the first one has pinned, spooled and logged.
    agent.kill()?;
    let mut agent = traced(&deployment, &lab.mirror, &traces, "run")?;
    ready(&deployment, &mut agent)?;
    load.stop()?;
    agent.terminate(PATIENCE)?;
    receiver.terminate(PATIENCE)?;

    let made = Made::read(&traces)?;
    for list in Calls::ALL {
        made.hold_against(list)?;
    }
    Ok(())
}

fn with_notices(deployment: &Deployment) -> Result<()> {
    let file = deployment.file("receive.toml");
    let mut text = std::fs::read_to_string(&file)?;
    write!(
        text,
        "\n[metrics]\nlisten = \"{METRICS}\"\n\n[notices]\nname = \"receiving-1\"\nkey_file = \"keys/facility.key\"\n\
         endpoint = \"{COMMISSION}\"\nserver_name = \"{SERVER_NAME}\"\nca_file = \"tls/ca.pem\"\n\
         commission_key_file = \"keys/commission.pub\"\n"
    )?;
    Ok(std::fs::write(&file, text)?)
}

/// A verb under strace, which traces from beside: the process has its own number, signals and parent.
fn traced(deployment: &Deployment, host: &Host, traces: &Path, verb: &str) -> Result<Process> {
    let mut command = host.command("strace");
    command
        .args(["-D", "-ff", "-qq", "-s", "4096", "-e", "signal=none", "-e", "raw=!execve", "-o"])
        .arg(traces.join("trace"));
    command.arg(gwtap::binary()?).arg(verb).arg("--config");
    command.arg(deployment.file(if verb == "run" { "gwtap.toml" } else { "receive.toml" }));
    let log = deployment.file(&format!("{verb}.log"));
    let mut process = Process::start(verb, command, &log)?;
    if verb == "receive" {
        process.wait_until("listening socket", PATIENCE, || {
            std::fs::read_to_string(&log).is_ok_and(|said| said.contains("listening on"))
        })?;
    }
    Ok(process)
}

fn ready(deployment: &Deployment, agent: &mut Process) -> Result<()> {
    agent.wait_until("live lease", PATIENCE, || {
        deployment.status().is_ok_and(|status| status.measures.iter().all(|measure| measure.lease.live))
    })
}

/// A system call: its name and its arguments, as the kernel got them.
type Call = (String, Vec<u64>);

/// The calls that the processes of each list made after they had given up all others.
struct Made(BTreeMap<&'static str, BTreeSet<Call>>);

impl Made {
    fn read(traces: &Path) -> Result<Self> {
        let mut threads = BTreeMap::new();
        for entry in std::fs::read_dir(traces)? {
            let path = entry?.path();
            let id: u64 = path.extension().and_then(|id| id.to_str()).context("a thread")?.parse()?;
            threads.insert(id, std::fs::read_to_string(path)?);
        }
        let mut made = Self(BTreeMap::new());
        for text in threads.values() {
            for (verb, list) in [("run", "agent"), ("loader", "loader"), ("receive", "receive")] {
                let program = format!("\", \"{verb}\", ");
                if text.lines().any(|line| line.starts_with("execve(") && line.contains(&program)) {
                    let after = text.rfind("\nseccomp(").with_context(|| format!("{list} gives nothing up"))?;
                    made.add(list, text.get(after + 1..).unwrap_or_default(), &threads)?;
                }
            }
        }
        ensure!(made.0.len() == Calls::ALL.len(), "processes seen: {:?}", made.0.keys());
        Ok(made)
    }

    /// One thread's calls, and those of the threads that it starts.
    fn add(&mut self, list: &'static str, text: &str, threads: &BTreeMap<u64, String>) -> Result<()> {
        for line in text.lines().filter(|line| !line.starts_with("seccomp(")) {
            let Some((call, result)) = parse(line) else { continue };
            if call.0 == "clone"
                && let Some(thread) = threads.get(&result)
            {
                self.add(list, thread, threads)?;
            }
            // Addresses and lengths say nothing; the first three arguments are all that a rule looks at.
            let shown = call.1.into_iter().take(3).collect();
            self.0.entry(list).or_default().insert((call.0, shown));
        }
        Ok(())
    }

    /// Every rule was made use of, and every call has a rule.
    fn hold_against(&self, list: Calls) -> Result<()> {
        let text: Value = serde_json::from_str(list.text())?;
        let rules = text.pointer(&format!("/{}/filter", list.name())).and_then(Value::as_array).context("rules")?;
        let made = self.0.get(list.name()).context("a process")?;
        let rare = |rule: &Value| rule["comment"].as_str().is_some_and(|comment| comment.starts_with(syscalls::RARE));
        let unneeded: Vec<_> =
            rules.iter().filter(|rule| !rare(rule) && !made.iter().any(|call| allows(rule, call))).collect();
        ensure!(unneeded.is_empty(), "{}: nothing needs {unneeded:#?}", list.name());
        let unlisted: Vec<_> = made.iter().filter(|call| !rules.iter().any(|rule| allows(rule, call))).collect();
        ensure!(unlisted.is_empty(), "{}: made, and not listed: {unlisted:#x?}", list.name());
        Ok(())
    }
}

/// `name(0x1, 0x2) = 0x3` and what may follow it.
fn parse(line: &str) -> Option<(Call, u64)> {
    let (name, rest) = line.split_once('(')?;
    let (arguments, rest) = rest.split_once(')')?;
    let number = |text: &str| u64::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok();
    let arguments = arguments.split(',').filter_map(number).collect();
    let result = rest.trim().strip_prefix('=').and_then(|result| number(result.split_whitespace().next()?));
    name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_').then_some(())?;
    Some(((name.to_owned(), arguments), result.unwrap_or_default()))
}

/// Whether a rule lets a call through, read again from the rule's text.
fn allows(rule: &Value, (name, arguments): &Call) -> bool {
    let condition = |condition: &Value| {
        let place = condition["index"].as_u64().and_then(|index| usize::try_from(index).ok());
        let argument = place.and_then(|place| arguments.get(place)).copied().unwrap_or_default();
        let argument = if condition["type"] == "dword" { argument & u64::from(u32::MAX) } else { argument };
        let mask = condition.pointer("/op/masked_eq").and_then(Value::as_u64).unwrap_or(u64::MAX);
        Some(argument & mask) == condition["val"].as_u64()
    };
    rule["syscall"] == name.as_str() && rule["args"].as_array().is_none_or(|all| all.iter().all(condition))
}

/// Runs `inside` in a process of its own that keeps what `needs` has and nothing else. Out: its exit code, and what it said.
fn confined(needs: &Needs, inside: impl FnOnce() -> Result<()>) -> Result<(i32, String)> {
    let (heard, said) = pipe()?;
    // SAFETY: the child shares no lock with this test's thread: it allocates (glibc makes that safe after fork), works and ends.
    match unsafe { fork() }? {
        ForkResult::Child => {
            let done = dup2_stderr(&said).map_err(anyhow::Error::from).and_then(|()| {
                confine(&Privilege::default(), needs)?;
                inside()
            });
            if let Err(error) = &done {
                // Not what the test's own thread prints, which is kept.
                let _unsaid = nix::unistd::write(std::io::stderr(), format!("{error:#}").as_bytes());
            }
            // SAFETY: ends this process alone; nothing of the test's is run or flushed twice.
            unsafe { libc::_exit(if done.is_ok() { 0 } else { 9 }) }
        }
        ForkResult::Parent { child } => {
            drop(said);
            let mut text = String::new();
            std::fs::File::from(heard).read_to_string(&mut text)?;
            let ended = waitpid(child, None)?;
            let WaitStatus::Exited(_, code) = ended else { bail!("{ended:?}: {text}") };
            Ok((code, text))
        }
    }
}

fn needs(calls: Calls, reach: Reach) -> Needs {
    Needs { capabilities: Keep::Nothing, reach, calls }
}

#[test]
fn a_call_outside_the_list_ends_the_process_and_is_named() {
    if !need::root() {
        return;
    }
    for (calls, number, make) in [
        (Calls::Agent, libc::SYS_execve, exec as fn() -> Result<()>),
        (Calls::Receive, libc::SYS_execve, exec),
        (Calls::Agent, libc::SYS_bpf, bpf),
        (Calls::Agent, libc::SYS_socket, packets),
        (Calls::Loader, libc::SYS_socket, internet),
        (Calls::Loader, libc::SYS_rename, rename),
    ] {
        let (code, said) = confined(&needs(calls, Reach::default().system("/")), make).unwrap();
        assert_eq!(code, 1, "{calls:?} {number}: {said}");
        assert!(said.contains(&format!("system call {number:>4} is not in")), "{calls:?} {number}: {said}");
    }
    // The same makes no difference to a process that is not held to a list of others.
    let (code, said) = confined(&needs(Calls::Agent, Reach::default().system("/")), internet).unwrap();
    assert_eq!(code, 0, "{said}");
}

fn exec() -> Result<()> {
    let never = nix::unistd::execv(c"/bin/true", &[c"true"])?;
    match never {}
}

fn bpf() -> Result<()> {
    // SAFETY: an unknown command with no attributes, which the kernel refuses if it gets to it.
    ensure!(unsafe { libc::syscall(libc::SYS_bpf, 999, 0, 0) } == 0);
    Ok(())
}

fn socket(family: i32) -> Result<()> {
    // SAFETY: no pointers.
    ensure!(unsafe { libc::socket(family, libc::SOCK_STREAM, 0) } >= 0, "{family}");
    Ok(())
}

fn packets() -> Result<()> {
    socket(libc::AF_PACKET)
}

fn internet() -> Result<()> {
    socket(libc::AF_INET)
}

fn rename() -> Result<()> {
    Ok(std::fs::rename("/nowhere/a", "/nowhere/b")?)
}

#[test]
fn threads_start_and_no_memory_can_be_executed() {
    if !need::root() {
        return;
    }
    let inside = || {
        ensure!(std::thread::spawn(|| 1).join().is_ok_and(|one| one == 1), "a thread");
        let page = std::num::NonZeroUsize::new(4_096).context("a page")?;
        let protection = nix::sys::mman::ProtFlags::PROT_READ | nix::sys::mman::ProtFlags::PROT_EXEC;
        // SAFETY: a new mapping that nothing refers to.
        let mapped =
            unsafe { nix::sys::mman::mmap_anonymous(None, page, protection, nix::sys::mman::MapFlags::MAP_PRIVATE) };
        ensure!(mapped == Err(nix::errno::Errno::EACCES), "{mapped:?}");
        Ok(())
    };
    for calls in Calls::ALL {
        let (code, said) = confined(&needs(calls, Reach::default().system("/")), inside).unwrap();
        assert_eq!(code, 0, "{calls:?}: {said}");
    }
}

#[test]
fn files_and_ports_outside_are_out_of_reach() {
    if !need::root() || need::tool("ip").is_none() {
        return;
    }
    // This thread's own network, with nothing but a loopback.
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
    let folder = tempfile::tempdir().unwrap();
    let [documents, own, other] = ["documents", "own", "other"].map(|name| folder.path().join(name));
    std::fs::create_dir(&documents).unwrap();
    std::fs::create_dir(&other).unwrap();
    std::fs::write(documents.join("order.note"), "order").unwrap();
    std::fs::write(other.join("key"), "key").unwrap();
    let [open, shut] = [0; 2].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    let [open, shut] = [&open, &shut].map(|listener| listener.local_addr().unwrap());
    let reach = Reach::default().file(&documents.join("order.note")).own(&own).connect(&open.to_string());
    let held = ports_are_held();
    let program = std::env::current_exe().unwrap();
    let inside = || {
        let denied = |result: std::io::Result<()>, what: &str| {
            let kind = result.as_ref().err().map(std::io::Error::kind);
            ensure!(kind == Some(ErrorKind::PermissionDenied), "{what}: {result:?}");
            Ok(())
        };
        ensure!(std::fs::read(documents.join("order.note"))? == b"order", "a document");
        // As it is done with every file that may change while the program runs.
        std::fs::write(own.join("state.new"), "state")?;
        std::fs::rename(own.join("state.new"), own.join("state"))?;
        denied(std::fs::write(documents.join("order.note"), "").map(drop), "writing a document")?;
        denied(std::fs::read(other.join("key")).map(drop), "a file elsewhere")?;
        denied(std::fs::read(&program).map(drop), "a file of the system")?;
        denied(std::fs::read_dir("/").map(drop), "what is there")?;
        denied(std::fs::rename(own.join("state"), other.join("state")), "a file to elsewhere")?;
        denied(std::fs::create_dir(other.join("new")), "a directory elsewhere")?;
        TcpStream::connect(open)?;
        if held {
            denied(TcpStream::connect(shut).map(drop), "another port")?;
            denied(TcpListener::bind("127.0.0.1:0").map(drop), "listening")?;
        } else {
            TcpStream::connect(shut)?;
        }
        Ok(())
    };
    let (code, said) = confined(&needs(Calls::Agent, reach), inside).unwrap();
    assert_eq!(code, 0, "{said}");
}

/// Whether this kernel holds ports too: Landlock's fourth version, Linux 6.7.
fn ports_are_held() -> bool {
    const CREATE_RULESET: i64 = 444;
    const VERSION: i64 = 1;
    // SAFETY: with this flag the call takes no pointer and returns a number (landlock_create_ruleset(2)).
    unsafe { libc::syscall(CREATE_RULESET, 0, 0, VERSION) >= 4 }
}
