//! Kills while sets are proposed, approved and activated from afar: the agent comes back with the last acknowledged set or the one
//! that was on its way, never with a mixture, and its versions are as they were or as they became.
#![allow(clippy::indexing_slicing, reason = "helpers of a test")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tap_tests::deployment::{Deployment, MEASURE, Plan, Remote, rule};
use tap_tests::lab::{FOREIGN4, Host, Lab, Process};
use tap_tests::random::Random;
use tap_tests::{gwtap, need};
use tap_userspace::control::api::client::{Call, CallError, Client};
use tap_userspace::keys::{self, SecretKey};
use tap_userspace::order;
use tap_userspace::selectors::Activation;

const PATIENCE: Duration = Duration::from_secs(20);
const ROUNDS: usize = 20;
const ROUNDS_LONG: usize = 300;
/// Longest that the agent lives in a round, as a part of what proposing, approving and activating take on this machine now.
const LIFE_PERCENT_MAX: u64 = 150;

#[test]
fn a_kill_at_any_moment_leaves_the_last_activated_set_or_the_one_on_its_way() {
    if need::root() && need::tool("tc").is_some() {
        run().unwrap();
    }
}

/// Two people with their certificates and keys, and two sets that they activate in turn.
struct Team {
    author: (Client, SecretKey),
    approver: (Client, SecretKey),
    order_sha256: [u8; 32],
    sets: [String; 2],
}

/// How far the team came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Came {
    #[default]
    Nowhere,
    Proposed,
    Approved,
    Activated,
}

impl Team {
    fn new(deployment: &Deployment, remote: &Remote<'_>) -> Result<Self> {
        let person = |name: &str, key: &str| -> Result<_> {
            let key = SecretKey::from_file(&deployment.file(&format!("keys/{key}.key")))?;
            Ok((Client::load(&remote.file(name))?, key))
        };
        let order = order::parse_unsigned(&std::fs::read_to_string(deployment.file("order.note"))?)?;
        let text = |version: usize| std::fs::read_to_string(&deployment.set(version)[0]);
        Ok(Self {
            author: person("selector-author", "author")?,
            approver: person("approver", "approver")?,
            order_sha256: order.sha256,
            sets: [text(1)?, text(2)?],
        })
    }

    /// The set of a number: they take turns.
    fn set(&self, number: u64) -> &str {
        &self.sets[usize::from(number.is_multiple_of(2))]
    }

    /// Brings `number` to decide, as far as it gets; the stage that was acknowledged last.
    fn activate(&self, number: u64, host: &Host, came: &mut Came) -> Result<(), CallError> {
        let set = self.set(number);
        let activation = Activation {
            measure: MEASURE.into(),
            order_sha256: self.order_sha256,
            set_sha256: keys::sha256(set.as_bytes()),
            number,
            valid_until: jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1),
        };
        let broken = |error: keys::KeyError| CallError::Answer(error.to_string());
        let note = keys::note::sign(&activation.text(), &self.author.1).map_err(broken)?;
        let both = keys::note::sign(&note, &self.approver.1).map_err(broken)?;
        let path = |rest: &str| format!("/v1/measures/{MEASURE}/{rest}");
        let call = |client: &Client, method, rest: &str, etag: &str, body: Option<serde_json::Value>| {
            let body = body.map(|body| body.to_string().into_bytes());
            let path = path(rest);
            let answered = host
                .enter(|| client.call(&Call { method, path: &path, etag: Some(etag), body }))
                .map_err(|error| CallError::Answer(error.to_string()))??;
            answered.etag.ok_or_else(|| CallError::Answer("no ETag".into()))
        };
        let (_, etag) =
            host.enter(|| self.author.0.versions(MEASURE)).map_err(|error| CallError::Answer(error.to_string()))??;
        let proposing = json!({"set": set, "activation": note});
        let etag = call(&self.author.0, "PUT", "proposal", &etag, Some(proposing))?;
        *came = Came::Proposed;
        let etag = call(&self.approver.0, "POST", "proposal/approval", &etag, Some(json!({"note": both})))?;
        *came = Came::Approved;
        call(&self.approver.0, "POST", "proposal/activation", &etag, None)?;
        *came = Came::Activated;
        Ok(())
    }
}

fn run() -> Result<()> {
    let rounds = if need::long() { ROUNDS_LONG } else { ROUNDS };
    let mut random = Random::printed("kills of the control API");
    let lab = Lab::new()?;
    let set = |port| vec![rule("beacon", FOREIGN4, "destination-port", port, "udp")];
    let deployment = Deployment::new(Plan { sets: vec![set(5001), set(5002)], ..Plan::default() })?;
    let remote = Remote::new(&deployment)?;
    let team = Team::new(&deployment, &remote)?;
    let mut receiver = deployment.start_receiver(&lab.receiving)?;
    let mut agent = deployment.start_agent(&lab.mirror)?;
    // Once to the end: how long that takes.
    let (began, mut came) = (Instant::now(), Came::default());
    team.activate(2, &lab.receiving, &mut came)?;
    let whole_ms = u64::try_from(began.elapsed().as_millis())?;
    let life_ms_max = (whole_ms * LIFE_PERCENT_MAX / 100).max(1);
    let mut decides = 2;
    let mut ends = std::collections::BTreeMap::<String, usize>::new();
    for round in 0..rounds {
        let life = Duration::from_millis(random.below(0..life_ms_max));
        let began = AtomicBool::new(false);
        let came = std::thread::scope(|scope| {
            let caller = scope.spawn(|| {
                let mut came = Came::default();
                began.store(true, Ordering::Release);
                (team.activate(decides + 1, &lab.receiving, &mut came), came)
            });
            while !began.load(Ordering::Acquire) {
                std::thread::yield_now();
            }
            std::thread::sleep(life);
            agent.kill()?;
            match caller.join().map_err(|_panic| anyhow::anyhow!("the caller panicked"))? {
                (Ok(()) | Err(CallError::Connection { .. }), came) => Ok(came),
                (Err(other), came) => Err(other).with_context(|| format!("round {round}: after {came:?}")),
            }
        })?;
        agent = again(&deployment, &lab, round)?;
        let status = deployment.status()?;
        let now = &status.measures[0].selectors;
        let expected = hex::encode(keys::sha256(team.set(now.generation).as_bytes()));
        ensure!(now.set_sha256 == expected, "round {round}: number {} decides with another set", now.generation);
        let activated = now.generation == decides + 1;
        ensure!(activated || now.generation == decides, "round {round}: {} decides, not {decides}", now.generation);
        ensure!(activated || came < Came::Activated, "round {round}: an acknowledged activation is lost");
        // What is proposed is what was acknowledged, or was on its way.
        let (versions, _) = remote.versions(&lab.receiving)?;
        let proposal = &versions["proposal"];
        ensure!(versions["number"] == now.generation && versions["kept"][0]["set_sha256"] == expected, "{versions}");
        match came {
            _ if activated => ensure!(proposal.is_null(), "round {round}: {versions}"),
            // A round before may have left one.
            Came::Nowhere => {
                ensure!(proposal.is_null() || proposal["number"] == decides + 1, "round {round}: {versions}");
            }
            Came::Proposed => ensure!(proposal["number"] == decides + 1, "round {round}: {versions}"),
            Came::Approved | Came::Activated => ensure!(proposal["approved"] == true, "round {round}: {versions}"),
        }
        *ends.entry(format!("{came:?}, {}", if activated { "the new set" } else { "the set before" })).or_default() +=
            1;
        decides = now.generation;
    }
    println!("{rounds} kills within {life_ms_max} ms: {ends:?}");
    ensure!(ends.len() > 2, "the kills met always the same moment: {ends:?}");
    let words = ["audit", "verify", "log", "--key", "keys/mirror-1.log.pub"];
    deployment.gwtap(words)?;
    for process in [&mut agent, &mut receiver] {
        ensure!(process.terminate(PATIENCE)?.success(), "{}", process.output());
    }
    Ok(())
}

fn again(deployment: &Deployment, lab: &Lab, round: usize) -> Result<Process> {
    let mut command = lab.mirror.command(gwtap::binary()?);
    command.args(["run", "--config"]).arg(deployment.file("gwtap.toml"));
    let mut agent = Process::start("gwtap run", command, &deployment.file(&format!("agent-{round}.log")))?;
    agent.wait_until("a lease", PATIENCE, || {
        deployment.status().is_ok_and(|status| status.measures.iter().all(|measure| measure.lease.live))
    })?;
    Ok(agent)
}
