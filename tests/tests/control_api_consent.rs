//! What is no consent of two persons to this set and the next number is refused by the control API of a real agent, whoever calls:
//! before and after a kill, and with the clock set back. Each refusal is in the audit log.
#![allow(clippy::indexing_slicing, reason = "helpers of a test")]

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tap_tests::clock::{Clock, Synchronised};
use tap_tests::deployment::{Deployment, MEASURE, Plan, Remote, rule};
use tap_tests::lab::{FOREIGN4, Lab, Process, wait_until};
use tap_tests::{gwtap, need};
use tap_userspace::control::api::client::Call;
use tap_userspace::keys::{self, SecretKey, note};
use tap_userspace::order;
use tap_userspace::selectors::Activation;

const PATIENCE: Duration = Duration::from_secs(20);
/// Between two calls: no client is above its rate.
const PAUSE: Duration = Duration::from_millis(150);

#[test]
fn what_is_no_consent_to_the_next_number_is_refused_and_in_the_log_also_after_a_kill_and_with_the_clock_set_back() {
    let Some(compiler) = need::tool("cc") else { return };
    if need::root() && need::tool("tc").is_some() {
        let lab = Lab::new().unwrap();
        let set = |port| vec![rule("beacon", FOREIGN4, "destination-port", port, "udp")];
        let deployment = Deployment::new(Plan { sets: vec![set(5001), set(5002)], ..Plan::default() }).unwrap();
        run(&lab, &deployment, &Clock::new(&compiler).unwrap()).unwrap();
    }
}

/// Whoever calls, and what came of it so far: verb and outcome.
struct Team<'a> {
    lab: &'a Lab,
    deployment: &'a Deployment,
    remote: Remote<'a>,
    order_sha256: [u8; 32],
    made: BTreeMap<(String, String), usize>,
}

impl Team<'_> {
    fn set(&self, version: usize) -> Result<String> {
        Ok(std::fs::read_to_string(&self.deployment.set(version)[0])?)
    }

    /// The activation of a set, with these signatures.
    fn note(&self, version: usize, number: u64, signers: &[&str]) -> Result<String> {
        let activation = Activation {
            measure: MEASURE.into(),
            order_sha256: self.order_sha256,
            set_sha256: keys::sha256(self.set(version)?.as_bytes()),
            number,
            // One hour of a day: the same text each time.
            valid_until: Timestamp::from_second(Timestamp::now().as_second() / 86_400 * 86_400)?
                + SignedDuration::from_hours(47),
        };
        let signed = |text: String, name: &&str| -> Result<String> {
            let key = SecretKey::from_file(&self.deployment.file(&format!("keys/{name}.key")))?;
            Ok(note::sign(&text, &key)?)
        };
        signers.iter().try_fold(activation.text(), signed)
    }

    fn etag(&mut self) -> Result<String> {
        *self.made.entry(("list".into(), "done".into())).or_default() += 1;
        Ok(self.remote.versions(&self.lab.receiving)?.1)
    }

    fn call(&mut self, who: &str, verb: &str, etag: &str, body: Option<Value>) -> Result<String> {
        let (method, path) = match verb {
            "propose" => ("PUT", "proposal"),
            "approve" => ("POST", "proposal/approval"),
            _ => ("POST", "proposal/activation"),
        };
        let path = format!("/v1/measures/{MEASURE}/{path}");
        let body = body.map(|body| body.to_string().into_bytes());
        std::thread::sleep(PAUSE);
        let call = Call { method, path: &path, etag: Some(etag), body };
        let outcome = self.remote.outcome(&self.lab.receiving, who, &call)?;
        *self.made.entry((verb.to_owned(), outcome.clone())).or_default() += 1;
        Ok(outcome)
    }

    fn propose(&mut self, version: usize, note: &str) -> Result<String> {
        let (etag, set) = (self.etag()?, self.set(version)?);
        self.call("selector-author", "propose", &etag, Some(json!({"set": set, "activation": note})))
    }

    fn approve(&mut self, note: &str) -> Result<String> {
        let etag = self.etag()?;
        self.call("approver", "approve", &etag, Some(json!({"note": note})))
    }

    fn activate(&mut self) -> Result<String> {
        let etag = self.etag()?;
        self.call("approver", "activate", &etag, None)
    }

    /// Proposals that are none: numbers that were used or are not the next, another set's digest, other people's names.
    fn no_proposals(&mut self, next: u64, why: &str) -> Result<()> {
        let numbers = (1..next).chain([next + 1]);
        let mut notes: Vec<(String, String)> = Vec::new();
        for number in numbers {
            for signers in [&["author"][..], &["author", "approver"]] {
                notes.push((format!("number {number} by {signers:?}"), self.note(2, number, signers)?));
            }
        }
        for signers in [&[][..], &["approver"], &["ministry"], &["commission", "ministry"]] {
            notes.push((format!("signed by {signers:?}"), self.note(2, next, signers)?));
        }
        notes.push(("another set".into(), self.note(1, next, &["author", "approver"])?));
        for (what, note) in notes {
            let outcome = self.propose(2, &note)?;
            ensure!(outcome == "refused", "{what}: {outcome} {why}");
        }
        Ok(())
    }

    /// Approvals that are none, of the proposal with this number.
    fn no_approvals(&mut self, number: u64) -> Result<()> {
        let alone = self.note(2, number, &["author"])?;
        let both = self.note(2, number, &["author", "approver"])?;
        let line = alone.lines().last().context("a signature")?.to_owned();
        let others_line = both.lines().last().context("a signature")?;
        let of_another = self.note(1, number, &["author", "approver"])?;
        let moved = of_another.lines().last().context("a signature")?.to_owned();
        let notes = [
            ("the author alone", alone.clone()),
            ("the author twice", format!("{alone}{line}\n")),
            ("the author and the ministry", self.note(2, number, &["author", "ministry"])?),
            ("the approver alone", self.note(2, number, &["approver"])?),
            ("another set", of_another),
            ("another number", self.note(2, number + 1, &["author", "approver"])?),
            ("the approver's signature over another digest", both.replace(others_line, &moved)),
        ];
        for (what, note) in notes {
            let outcome = self.approve(&note)?;
            ensure!(outcome == "refused", "{what}: {outcome}");
        }
        // The author does not approve, and whoever approves has seen what is there.
        let etag = self.etag()?;
        ensure!(self.call("selector-author", "approve", &etag, Some(json!({"note": both})))? == "role");
        ensure!(self.call("approver", "approve", "0", Some(json!({"note": both})))? == "stale");
        ensure!(self.activate()? == "refused", "activated before it was approved");
        Ok(())
    }

    /// By the socket, too, what was used is refused.
    fn no_loads(&self) -> Result<()> {
        for version in [1, 2] {
            let refused = self.deployment.load(version).err().with_context(|| format!("{version} was loaded again"))?;
            ensure!(refused.to_string().contains("exit code Some(3)"), "{refused:#}");
        }
        Ok(())
    }

    fn start(&self, clock: &Clock) -> Result<Process> {
        let mut command = self.lab.mirror.command(gwtap::binary()?);
        command.args(["run", "--config"]).arg(self.deployment.file("gwtap.toml"));
        clock.show(&mut command);
        Process::start("gwtap run", command, &self.deployment.file("agent.log"))
    }

    fn is_live(&self) -> bool {
        self.deployment.status().is_ok_and(|status| status.measures.iter().all(|measure| measure.lease.live))
    }
}

fn run(lab: &Lab, deployment: &Deployment, clock: &Clock) -> Result<()> {
    let remote = Remote::new(deployment)?;
    let order_sha256 = order::parse_unsigned(&std::fs::read_to_string(deployment.file("order.note"))?)?.sha256;
    let mut team = Team { lab, deployment, remote, order_sha256, made: BTreeMap::new() };
    clock.set(0, Synchronised::Yes)?;
    let mut agent = team.start(clock)?;
    agent.wait_until("a lease", PATIENCE, || team.is_live())?;

    team.no_proposals(2, "at first")?;
    let (alone, both) = (team.note(2, 2, &["author"])?, team.note(2, 2, &["author", "approver"])?);
    ensure!(team.propose(2, &alone)? == "done");
    team.no_approvals(2)?;
    // Nothing of all that was taken for consent.
    ensure!(deployment.status()?.measures[0].selectors.generation == 1);
    ensure!(team.approve(&both)? == "done");
    ensure!(team.call("approver", "activate", "0", None)? == "stale");
    ensure!(team.activate()? == "done");
    ensure!(team.activate()? == "not-found", "activated twice");
    team.no_proposals(3, "after the activation")?;
    team.no_loads()?;

    agent.kill()?;
    agent = team.start(clock)?;
    agent.wait_until("a lease", PATIENCE, || team.is_live())?;
    team.no_proposals(3, "after a kill")?;
    team.no_loads()?;

    // Ten minutes back, while it runs: neither what was used nor what is right is taken.
    clock.set(-600_000_000_000, Synchronised::Yes)?;
    wait_until("the lease's end", PATIENCE, || !team.is_live())?;
    team.no_proposals(3, "with the clock set back")?;
    let next = team.note(2, 3, &["author"])?;
    let outcome = team.propose(2, &next)?;
    ensure!(outcome != "done", "a set was taken by a clock in doubt");
    team.no_loads()?;
    agent.kill()?;
    // And started with it: it does not select, whatever it is offered.
    agent = team.start(clock)?;
    let ended = agent.wait(PATIENCE)?;
    ensure!(ended.code() == Some(3), "started before the time that its state has seen: {ended:?}, {}", agent.output());
    clock.set(0, Synchronised::Yes)?;
    agent = team.start(clock)?;
    agent.wait_until("a lease", PATIENCE, || team.is_live())?;
    ensure!(deployment.status()?.measures[0].selectors.generation == 2);
    ensure!(team.propose(2, &next)? == "done", "the right one, with the right time");
    ensure!(agent.terminate(PATIENCE)?.success(), "{}", agent.output());
    logged(&team)
}

/// Every call is in the log, as it ended; so is every load that the socket refused.
fn logged(team: &Team<'_>) -> Result<()> {
    let shown = team.deployment.gwtap(["audit", "show", "log", "--json"])?;
    let entries = shown.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>()?;
    let acts = |kind: &'static str| entries.iter().filter_map(move |entry| entry["content"]["act"].get(kind));
    let mut logged: BTreeMap<(String, String), usize> = BTreeMap::new();
    for leaf in acts("api-call") {
        let text = |key: &str| leaf[key].as_str().unwrap_or_default().to_owned();
        *logged.entry((text("verb"), text("outcome"))).or_default() += 1;
    }
    ensure!(logged == team.made, "made {:#?}, logged {logged:#?}", team.made);
    let refused = acts("activation-refused").count();
    ensure!(refused == 2 * 3, "{refused} loads were refused");
    println!("{logged:?}");
    Ok(())
}
