//! What the running processes may do, read from the kernel, and what becomes of their memory.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use jiff::{SignedDuration, Timestamp};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tap_tests::deployment::{Deployment, MEASURE, Plan, rule};
use tap_tests::gwtap;
use tap_tests::lab::traffic::{Rate, UdpLoad};
use tap_tests::lab::{DOMESTIC4, FOREIGN4, Lab, Process, wait_until};
use tap_tests::need;
use tap_userspace::directive::{Directive, Kind};
use tap_userspace::keys::note::{self, SecretKey};
use tap_userspace::load::cap_policy;
use tap_userspace::order;

/// How long things may take that take a moment.
const PATIENCE: Duration = Duration::from_secs(20);
/// Somebody without rights (the user `nobody`).
const NOBODY: u32 = 65_534;

/// Bits of `CAP_NET_ADMIN`, `CAP_PERFMON` and `CAP_BPF` (include/uapi/linux/capability.h).
const TAP_CAPABILITIES: u64 = 1 << 12 | 1 << 38 | 1 << 39;
/// `SECCOMP_MODE_FILTER` (include/uapi/linux/seccomp.h).
const SECCOMP_FILTERED: &str = "2";
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
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let id: u32 = thread?.file_name().to_string_lossy().parse()?;
        ensure!(status(id, "Seccomp")? == SECCOMP_FILTERED, "thread {id} makes any system call");
    }
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
    hardened(agent.pid(), 0).context("the agent")?;
    let loader = loader_of(&agent)?;
    hardened(loader, TAP_CAPABILITIES).context("the loader")?;
    let files = |pid| -> Result<Vec<_>> {
        let entries = std::fs::read_dir(format!("/proc/{pid}/fd"))?;
        Ok(entries.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok()).collect())
    };
    let holds =
        |files: &[std::path::PathBuf], what: &str| files.iter().any(|file| file.to_string_lossy().contains(what));
    ensure!(holds(&files(loader)?, "bpf-prog"), "the loader holds the program");
    ensure!(!holds(&files(agent.pid())?, "bpf-prog"), "the agent holds a program");
    let sockets = |table: &str| std::fs::read_to_string(format!("/proc/{loader}/net/{table}"));
    let inodes: BTreeSet<_> = files(loader)?.iter().filter_map(|file| inode(&file.to_string_lossy())).collect();
    ensure!(inodes.len() == 2, "the loader has the agent's two sockets and no other: {inodes:?}");
    for table in ["tcp", "udp", "raw", "packet", "tcp6", "udp6", "raw6", "netlink"] {
        let Ok(table) = sockets(table) else { continue };
        ensure!(
            inodes.iter().all(|inode| !table.split_whitespace().any(|word| word == inode)),
            "a network socket: {table}"
        );
    }
    agent.terminate(PATIENCE)?;
    receiver.terminate(PATIENCE)?;
    Ok(())
}

/// The number in `socket:[NUMBER]`.
fn inode(file: &str) -> Option<String> {
    Some(file.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
}

/// The one process that an agent has started.
fn loader_of(agent: &Process) -> Result<u32> {
    let pid = agent.pid();
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    let children: Vec<u32> = children.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    let &[loader] = children.as_slice() else { bail!("{pid} has the children {children:?}") };
    Ok(loader)
}

#[test]
fn without_its_loader_the_agent_ends_and_the_kernel_stops_by_itself() {
    if need::root() && need::tool("tc").is_some() {
        without_loader().unwrap();
    }
}

fn without_loader() -> Result<()> {
    let lab = Lab::new()?;
    let deployment = Deployment::new(plan())?;
    let mut receiver = deployment.start_receiver(&lab.receiving)?;
    let mut agent = deployment.start_agent(&lab.mirror)?;
    kill(Pid::from_raw(i32::try_from(loader_of(&agent)?)?), Signal::SIGKILL)?;
    let ended = agent.wait(PATIENCE)?;
    ensure!(ended.code() == Some(1), "{ended:?}: {}", agent.output());
    ensure!(agent.output().contains("the loader is gone"), "{}", agent.output());

    // A successor takes over what both left; killed itself, it takes its loader with it.
    let mut agent = deployment.start_agent(&lab.mirror)?;
    let loader = loader_of(&agent)?;
    agent.kill()?;
    wait_until("the loader's end", PATIENCE, || !Path::new(&format!("/proc/{loader}")).exists())?;
    receiver.terminate(PATIENCE)?;
    Ok(())
}

/// The agent's ends of a loader's sockets, in the hands of somebody who may say what he likes.
struct Hostile {
    quick: OwnedFd,
    slow: OwnedFd,
    process: Process,
}

impl Hostile {
    fn start(deployment: &Deployment, lab: &Lab) -> Result<Self> {
        let pair = || socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC);
        let ((quick, its_quick), (slow, its_slow)) = (pair()?, pair()?);
        let mut command = lab.mirror.command(gwtap::binary()?);
        command.args(["loader", "--config"]).arg(deployment.file("gwtap.toml"));
        let process =
            Process::start_between("gwtap loader", command, (its_quick, its_slow), &deployment.file("loader.log"))?;
        Ok(Self { quick, slow, process })
    }

    /// One message, in the channel's form, and the reply.
    fn ask(end: &OwnedFd, message: &Value) -> Result<Value> {
        send(end.as_raw_fd(), &[b"\0", message.to_string().as_bytes()].concat(), MsgFlags::MSG_NOSIGNAL)?;
        let mut reply = vec![0; 1 << 16];
        let length = recv(end.as_raw_fd(), &mut reply, MsgFlags::empty())?;
        ensure!(length > 1, "no reply");
        Ok(serde_json::from_slice(reply.get(1..length).context("a reply")?)?)
    }

    fn quick(&self, message: &Value) -> Result<Value> {
        Self::ask(&self.quick, message)
    }

    fn slow(&self, message: &Value) -> Result<Value> {
        Self::ask(&self.slow, message)
    }
}

/// A generation of one measure, as the agent asks for it.
fn generation(work: &str, number: u64, (order, set, activation): (&str, &str, &str)) -> Value {
    let measures = json!([{"orders": [order], "set": set, "activation": activation}]);
    json!({work: {"generation": number, "seed": 7, "measures": measures}})
}

fn take(number: u64, (order, set, activation): (&str, &str, &str)) -> Value {
    let orders = [order.to_owned()];
    let measure = (&orders[..], activation, tap_userspace::keys::sha256(set.as_bytes()));
    json!({"Take": {"ticket": tap_userspace::loader::ticket(number, 7, [measure].into_iter())}})
}

/// What waits decides about nothing, and is taken by its ticket alone.
fn staged(loader: &Hostile, documents: (&str, &str, &str)) -> Result<()> {
    let (order, set, activation) = documents;
    let take = |number, activation: &str, set: &str| take(number, (order, set, activation));
    let forged = activation.replace("number = 1", "number = 2");
    refuses(loader.slow(&generation("Stage", 1, (order, set, &forged))), "signature")?;
    let is_none = |ticket: Value| -> Result<()> {
        done(loader.slow(&generation("Stage", 1, documents)))?;
        let reply = loader.slow(&ticket)?;
        ensure!(reply == "NotStaged", "{reply}");
        Ok(())
    };
    is_none(take(2, activation, set))?;
    is_none(take(1, &forged, set))?;
    is_none(take(1, activation, "{}"))?;
    // What is asked for by another name is dropped, too.
    let reply = loader.slow(&take(1, activation, set))?;
    ensure!(reply == "NotStaged", "{reply}");
    done(loader.slow(&generation("Stage", 1, documents)))?;
    let early = loader.quick(&json!({"Swap": {"generation": 1}}))?;
    ensure!(early.get("Failed").is_some(), "what waits was swapped in: {early}");
    done(loader.slow(&json!("Forget")))?;
    let reply = loader.slow(&take(1, activation, set))?;
    ensure!(reply == "NotStaged", "{reply}");
    done(loader.slow(&generation("Stage", 1, documents)))?;
    done(loader.slow(&take(1, activation, set)))
}

/// Whether a reply refuses, with these words.
fn refuses(reply: Result<Value>, words: &str) -> Result<()> {
    let reply = reply?;
    let reason = reply.pointer("/Refused/reason").and_then(Value::as_str);
    ensure!(reason.is_some_and(|reason| reason.contains(words)), "not refused for {words:?}: {reply}");
    Ok(())
}

fn done(reply: Result<Value>) -> Result<()> {
    let reply = reply?;
    ensure!(reply == "Done" || reply.get("Swapped").is_some() || reply.get("Opened").is_some(), "{reply}");
    Ok(())
}

#[test]
fn a_loader_believes_signatures_and_not_its_agent() {
    if need::root() && need::tool("tc").is_some() {
        hostile().unwrap();
    }
}

fn hostile() -> Result<()> {
    let lab = Lab::new()?;
    let deployment = Deployment::new(plan())?;
    let [order, set, activation] = ["order.note", "selectors-1.json", "activation-1.note"]
        .map(|name| std::fs::read_to_string(deployment.file(name)).unwrap_or_default());
    let host_key = deployment.host_key()?;
    let open = |host_key: &str, order: &str| json!({"Open": {"host_key": host_key, "orders": [[order]]}});
    let longer = order.replace("share_ppm = 300000", "share_ppm = 300001");
    ensure!(longer != order);
    {
        let loader = Hostile::start(&deployment, &lab)?;
        refuses(loader.quick(&open(&host_key, &longer)), "signature")?;
        refuses(loader.quick(&open(&"0".repeat(64), &order)), "facility.tap.host_key")?;
        done(loader.quick(&open(&host_key, &order)))?;
        refuses(
            loader.quick(&json!({"SetLease": {"slot": 0, "not_before_ns": 0, "deadline_ns": u64::MAX}})),
            "not in force",
        )?;

        let prepare = |order: &str, set: &str, activation: &str| generation("Prepare", 1, (order, set, activation));
        let other = set.replace("5000", "5001");
        ensure!(other != set);
        refuses(loader.slow(&prepare(&order, &other, &activation)), "activation")?;
        refuses(loader.slow(&prepare(&longer, &set, &activation)), "signature")?;
        refuses(loader.slow(&prepare(&order, &set, &activation.replace("number = 1", "number = 2"))), "signature")?;
        staged(&loader, (&order, &set, &activation))?;
        done(loader.slow(&prepare(&order, &set, &activation)))?;
        let other = loader.quick(&json!({"Swap": {"generation": 2}}))?;
        ensure!(other.get("Failed").is_some(), "another number than the program's was taken: {other}");
        done(loader.slow(&prepare(&order, &set, &activation)))?;
        done(loader.quick(&json!({"Swap": {"generation": 1}})))?;

        let highest = cap_policy(1_000_000_000, 300_000)?;
        let cap = |slot: Value, more: u64| {
            let bytes = highest.epoch_credit_bytes + more;
            json!({"SetCap": {"slot": slot, "epoch_credit_bytes": bytes, "chunk_bytes": highest.chunk_bytes}})
        };
        for slot in [Value::Null, json!(0)] {
            refuses(loader.quick(&cap(slot.clone(), 1)), "no such cap")?;
            done(loader.quick(&cap(slot, 0)))?;
        }
        refuses(loader.quick(&json!({"SetSampling": {"slot": 0, "threshold": (1_u64 << 32) + 1}})), "no such sample")?;
        refuses(
            loader.quick(&json!({"SetLease": {"slot": 1, "not_before_ns": 0, "deadline_ns": u64::MAX}})),
            "no measure",
        )?;
        done(loader.quick(&json!({"SetSampling": {"slot": 0, "threshold": 1_u64 << 32}})))?;
        // Longer than five seconds is cut to five: selection goes on until then, and no longer.
        lab.start_mirror()?;
        done(loader.quick(&json!({"SetLease": {"slot": 0, "not_before_ns": 0, "deadline_ns": u64::MAX}})))?;
        let to = SocketAddr::new(DOMESTIC4.parse()?, 5000);
        let load = UdpLoad::start(
            (&lab.foreign, FOREIGN4.parse()?),
            0,
            4,
            (&lab.domestic, to),
            b"beacon",
            Rate::new(200_000),
        )?;
        let selected = || deployment.kernel_counters(&lab.mirror).map_or(0, |counters| counters.selected);
        wait_until("selected packets", PATIENCE, || selected() > 100)?;
        std::thread::sleep(Duration::from_secs(6));
        let after = selected();
        std::thread::sleep(Duration::from_secs(1));
        ensure!(selected() == after, "a lease that was asked for without an end did not end");
        load.stop()?;
        directed(&deployment, &loader, (&order, &set, &activation))?;
        done(loader.quick(&json!("Detach")))?;
    }
    let mut loader = Hostile::start(&deployment, &lab)?;
    ensure!(loader.quick(&json!({"Run": "sh"})).is_err(), "an unknown message was answered");
    let ended = loader.process.wait(PATIENCE)?;
    ensure!(ended.code() == Some(1) && loader.process.output().contains("not a message"), "{ended:?}");
    Ok(())
}

/// What a directive took away is not given back, whatever is asked for and whatever is loaded again.
fn directed(deployment: &Deployment, loader: &Hostile, documents: (&str, &str, &str)) -> Result<()> {
    let (order, set, activation) = documents;
    let [commission, ministry] =
        ["commission", "ministry"].map(|name| SecretKey::from_file(&deployment.file(&format!("keys/{name}.key"))));
    let (commission, ministry) = (commission?, ministry?);
    let order_sha256 = order::parse_unsigned(order)?.sha256;
    let tell = |signer: &SecretKey, number, kind| -> Result<Value> {
        let (measure, reason) = (MEASURE.to_owned(), "laboratory".to_owned());
        let directive = Directive { measure, order_sha256, number, kind, reason, issued: Timestamp::now() };
        loader.quick(&json!({"Directive": {"note": note::sign(&directive.text(), signer)?}}))
    };
    let lease = || loader.quick(&json!({"SetLease": {"slot": 0, "not_before_ns": 0, "deadline_ns": u64::MAX}}));
    let cap = |slot: Value, share_ppm| -> Result<Value> {
        let cap = cap_policy(1_000_000_000, share_ppm)?;
        let (credit, chunk) = (cap.epoch_credit_bytes, cap.chunk_bytes);
        loader.quick(&json!({"SetCap": {"slot": slot, "epoch_credit_bytes": credit, "chunk_bytes": chunk}}))
    };
    done(lease())?;
    refuses(tell(&ministry, 1, Kind::LowerShare(100_000)), "commission")?;
    done(cap(json!(0), 300_000))?;
    done(tell(&commission, 2, Kind::LowerShare(100_000)))?;
    // An older one widens nothing.
    done(tell(&commission, 1, Kind::LowerShare(200_000)))?;
    for slot in [Value::Null, json!(0)] {
        refuses(cap(slot.clone(), 100_100), "no such cap")?;
        done(cap(slot, 100_000))?;
    }
    done(loader.slow(&generation("Prepare", 2, (order, set, activation))))?;
    done(loader.quick(&json!({"Swap": {"generation": 2}})))?;
    done(lease())?;
    refuses(cap(json!(0), 100_100), "no such cap")?;
    done(tell(&commission, 3, Kind::Shorten(Timestamp::now() - SignedDuration::from_secs(1))))?;
    refuses(lease(), "ended")?;
    // What waited before the directive came has no more than it left.
    done(loader.slow(&generation("Stage", 3, (order, set, activation))))?;
    done(tell(&commission, 4, Kind::Stop))?;
    refuses(lease(), "stopped by a directive of the Commission")?;
    done(loader.slow(&take(3, (order, set, activation))))?;
    done(loader.quick(&json!({"Swap": {"generation": 3}})))?;
    refuses(lease(), "stopped by a directive of the Commission")
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
