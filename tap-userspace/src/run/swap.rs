//! Loading a selector set: at start, and at run time while traffic flows.
//!
//! In: a candidate that passed every check. Out: its generation decides, or nothing has changed. Order: tables are
//! compiled; the number is kept on disk (a crash from here on continues with the new set, which is activated); the rule
//! table goes to the spool and the clear-address policy to the drain, because records of the generation may come at
//! once; the kernel changes in one step; at run time the lease follows the new activation's end at once (at start it is
//! given when the rings are being drained).

use super::admit::{self, Candidate};
use super::agent::{Active, Agent, SLOT, lock};
use super::error::RunError;
use super::renew;
use super::sealed::{self, Texts};
use crate::control::Loaded;
use crate::control::status::SelectorStatus;
use crate::ipfix::encode::{RuleTable, rule_table};
use crate::limits::GENERATIONS_KEPT_MAX;
use crate::load::{MeasureParameters, Tables};
use crate::path::pseudonymise::ClearPolicy;
use std::sync::Arc;

/// Loads a set that an operator hands over at run time.
///
/// # Errors
/// What the rules or the kernel refuse; the set before goes on deciding.
pub(super) fn load(agent: &Agent, texts: Texts) -> Result<Loaded, RunError> {
    let _one_at_a_time = lock(&agent.loading);
    if agent.stopping() {
        return Err(RunError::Failed("the agent is stopping".into()));
    }
    let candidate = admit::candidate(&agent.admitted, texts, renew::now(agent)?)?;
    lock(&agent.state)
        .admit_next(&candidate.set.measure, candidate.activation.number)
        .map_err(|error| RunError::Refused(error.to_string()))?;
    let loaded = activate(agent, candidate)?;
    // The new activation may end before the lease does.
    renew::renew(agent);
    tracing::info!(generation = loaded.generation, set = loaded.set_sha256, "selector set loaded");
    Ok(loaded)
}

/// Makes a candidate decide, as soon and as long as there is a lease.
///
/// # Errors
/// As [`load`].
pub(super) fn activate(agent: &Agent, candidate: Candidate) -> Result<Loaded, RunError> {
    let Candidate { set, activation, texts } = candidate;
    let admitted = &agent.admitted;
    let generation = activation.number;
    let window = admit::window(admitted, &activation)?;
    let tables = Tables::compile(&set, &parameters(agent), &admitted.country)
        .map_err(|error| RunError::refused("selector set", error))?;
    let valid_until = activation.valid_until;
    let former = lock(&agent.active).clone();
    let status = SelectorStatus {
        generation,
        set_version: set.version,
        set_sha256: hex::encode(set.sha256),
        rules: set.rules.len(),
        valid_until: valid_until.to_string(),
        valid_until_seconds: valid_until.as_second(),
        loads: former.status.loads + 1,
    };
    let next = Active { window: Some(window), status, texts: Some(texts) };
    keep(agent, &next, &set.sha256)?;
    let rules: Vec<String> = set.rules.iter().map(|rule| rule.id.clone()).collect();
    let announced = announce(agent, generation, &set.sha256, &rules);
    {
        let mut pseudonymiser = lock(&agent.pseudonymiser);
        pseudonymiser.set_policy(
            generation,
            Arc::new(ClearPolicy::from_rules(&set.rules, admitted.order.addresses.clear_addresses)),
        );
        pseudonymiser.forget_policies_before(generation.saturating_sub(GENERATIONS_KEPT_MAX));
    }
    let swapped = announced.and_then(|()| {
        agent.with_tap(|tap| {
            tap.set_sampling(SLOT, tables.sampling_thresholds.first().copied().unwrap_or(0));
            tap.swap(&tables, generation)
        })
    });
    if let Err(error) = swapped {
        return Err(undo(agent, &former, error));
    }
    let loaded = Loaded {
        generation,
        set_version: next.status.set_version,
        set_sha256: next.status.set_sha256.clone(),
        rules: next.status.rules,
    };
    *lock(&agent.active) = next;
    Ok(loaded)
}

fn parameters(agent: &Agent) -> MeasureParameters {
    let order = &agent.admitted.order;
    let sampling_at_most =
        order.approval.as_ref().and_then(|approval| approval.conditions.sampling_at_most).unwrap_or(u32::MAX);
    MeasureParameters {
        directions: order.measure.basis.directions(),
        conditions_min: order.conditions_min(),
        sampling_ppm: order.facility.sampling_ppm.min(sampling_at_most),
        sampling_seed: agent.sampling_seed,
    }
}

/// Keeps set and number on disk.
fn keep(agent: &Agent, next: &Active, set_sha256: &[u8; 32]) -> Result<(), RunError> {
    if let Some(texts) = &next.texts {
        sealed::write(&agent.config.state.directory, &agent.admitted.sealing, texts)?;
    }
    let measure = &agent.admitted.order.measure.id;
    lock(&agent.state)
        .keep_activation(measure, next.status.generation, set_sha256)
        .map_err(|error| RunError::Failed(error.to_string()))
}

/// After the kernel refused: what decides stays what it was, also for the next start.
fn undo(agent: &Agent, former: &Active, error: RunError) -> RunError {
    let mut digest = [0; 32];
    if former.texts.is_none() || hex::decode_to_slice(&former.status.set_sha256, &mut digest).is_err() {
        return error;
    }
    match keep(agent, former, &digest) {
        Ok(()) => error,
        Err(second) => {
            RunError::Failed(format!("{error}; and the former set could not be kept for a restart: {second}"))
        }
    }
}

/// Tells the receiving facility which rule stands behind each bit, before the first record of the generation.
fn announce(agent: &Agent, generation: u64, set_sha256: &[u8; 32], rules: &[String]) -> Result<(), RunError> {
    let measure_id = agent.admitted.order.measure.id.as_str();
    let table = RuleTable { measure: 0, measure_id, generation, set_sha256: *set_sha256, rules };
    for body in rule_table(&table) {
        agent.spool.append(&body).map_err(|error| RunError::failed("spool", error))?;
    }
    Ok(())
}
