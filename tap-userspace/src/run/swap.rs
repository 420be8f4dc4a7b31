//! Loading selector sets: at start, and at run time while traffic flows.
//!
//! In: candidates that passed every check. Out: a generation that holds the sets of all measures decides, or nothing has
//! changed; a measure that is not loaded keeps its set. Order: tables are compiled; the numbers are kept on disk (a crash
//! from here on continues with the new set, which is activated); the rule table goes to the measure's spool and the
//! clear-address policy to the drain, because records of the generation may come at once; the kernel changes in one step;
//! at run time the lease follows the new activation's end at once (at start it is given when the rings are being drained).

use super::admit::{self, Candidate};
use super::agent::{Agent, Seed, lock};
use super::audit;
use super::error::RunError;
use super::generations::{Generation, SetNumbers};
use super::measure::{Active, Measure};
use super::sealed::{self, Texts};
use super::{orders, renew, stage};
use crate::audit::Leaf;
use crate::audit::leaf::SwapReason;
use crate::control::Loaded;
use crate::control::status::SelectorStatus;
use crate::ipfix::encode::{RuleTable, rule_table};
use crate::limits::GENERATIONS_KEPT_MAX;
use crate::loader::{Documents, ticket};
use crate::selectors::withdrawal::{NO_SET, Withdrawal};
use std::sync::Arc;

/// A set that is to decide.
pub(super) enum Next {
    /// As it was signed.
    Texts(Texts),
    /// As it was checked when it was staged.
    Staged(Box<Candidate>),
}

/// Loads a set for one measure that an operator hands over at run time; the only measure need not be named.
///
/// # Errors
/// What the rules or the kernel refuse; the sets before go on deciding.
pub(super) fn load(agent: &Agent, measure: Option<&str>, set: Next) -> Result<Loaded, RunError> {
    let seed = lock(&agent.loading);
    if agent.stopping() {
        return Err(RunError::Failed("the agent is stopping".into()));
    }
    let measure = agent.measure(measure)?;
    let chain = lock(&measure.chain).clone();
    let now = renew::now(agent)?;
    let candidate = match set {
        Next::Texts(texts) => admit::candidate(&agent.host, &chain, texts, now),
        Next::Staged(candidate) => admit::again(&agent.host, &chain, *candidate, now),
    }?;
    lock(&agent.state)
        .admit_next(measure.id(), candidate.number)
        .map_err(|error| RunError::Refused(error.to_string()))?;
    let slot = usize::from(measure.slot);
    activate(agent, vec![(slot, candidate)], &seed, SwapReason::Activation)?;
    // The new activation may end before the lease does.
    renew::renew(agent);
    Ok(loaded(measure))
}

/// Ends what a measure looks for, by one person's word. What decides stops at once, whatever the disk takes; tables without its
/// rules follow.
///
/// # Errors
/// What the rules refuse; or it has stopped, and could not be kept or swapped.
pub(super) fn withdraw(agent: &Agent, note: &str) -> Result<Vec<String>, RunError> {
    let seed = lock(&agent.loading);
    if agent.stopping() {
        return Err(RunError::Failed("the agent is stopping".into()));
    }
    let named = Withdrawal::parse_unsigned(note).map_err(|error| RunError::refused("withdrawal", error))?;
    let measure = agent.measure(Some(&named.measure))?;
    let chain = lock(&measure.chain).clone();
    let texts = Texts { set: String::new(), activation: note.to_owned() };
    // A clock in doubt stands in the way of nothing that narrows.
    let now = renew::now(agent).unwrap_or_else(|_in_doubt| jiff::Timestamp::now());
    let candidate = admit::withdrawn(&agent.host, &chain, texts, now)?;
    lock(&agent.state)
        .admit_next(measure.id(), candidate.number)
        .map_err(|error| RunError::Refused(error.to_string()))?;
    let number = candidate.number;
    stage::forget(agent);
    // Each is done whatever became of the one before: what narrows takes effect as far as it can.
    let ended = renew::end(agent, measure);
    let kept = keep(agent, measure, &withdrawn(&candidate, 0));
    agent.audit.withdrawal(measure, number, note);
    let slot = usize::from(measure.slot);
    let taken = activate(agent, vec![(slot, candidate)], &seed, SwapReason::Withdrawal);
    ended.and(kept).and(taken).map_err(|error| {
        RunError::Failed(format!("no lease is renewed for what it looked for, but not all of it was done: {error}"))
    })?;
    renew::renew(agent);
    Ok(vec![format!("measure {}: withdrawal {number}: nothing is looked for until a later activation", measure.id())])
}

/// A generation with the same sets and another seed.
///
/// # Errors
/// What the kernel refuses; the generation before goes on deciding.
pub(super) fn reload(agent: &Agent, seed: &Seed) -> Result<(), RunError> {
    activate(agent, Vec::new(), seed, SwapReason::Seed)
}

/// A generation without the rules that are over.
///
/// # Errors
/// What the kernel or the audit log refuses; the lease has ended with the first of these rules and stays so until it is there.
pub(super) fn expire(agent: &Agent) -> Result<(), RunError> {
    let seed = lock(&agent.loading);
    if agent.stopping() {
        return Ok(());
    }
    activate(agent, Vec::new(), &seed, SwapReason::Expiry)?;
    renew::renew(agent);
    Ok(())
}

/// Makes candidates (slot, set) decide, as soon and as long as there is a lease. The other measures keep their sets.
///
/// # Errors
/// As [`load`].
pub(super) fn activate(
    agent: &Agent,
    candidates: Vec<(usize, Candidate)>,
    seed: &Seed,
    why: SwapReason,
) -> Result<(), RunError> {
    let mut actives: Vec<Active> = agent.measures.iter().map(|measure| lock(&measure.active).clone()).collect();
    let mut changed = Vec::new();
    for (slot, candidate) in candidates {
        let (Some(measure), Some(active)) = (agent.measures.get(slot), actives.get_mut(slot)) else { continue };
        let next = active_of(measure, candidate, active.status.loads)?;
        changed.push((measure, std::mem::replace(active, next.clone()), next));
    }
    // A clock in doubt leaves what was judged last: a lease ends with the next rule either way.
    let before: Vec<(u64, usize)> = actives.iter().map(|active| (active.status.generation, active.over)).collect();
    if let Ok(now) = renew::now(agent) {
        actives.iter_mut().for_each(|active| active.judge_rules(now));
    }
    let number = next_number(agent);
    compile(agent, number, &actives, seed)?;
    let sets =
        actives.iter().map(|active| SetNumbers { activation: active.status.generation, rules: active.status.rules });
    let generation = Generation { number, sets: sets.collect() };
    let activated = changed.iter().filter(|(_, _, next)| next.set.is_some());
    let logged = activated.into_iter().try_for_each(|(measure, _, next)| agent.audit.activation(measure, next));
    logged.and_then(|()| agent.audit.rules_over(&agent.measures, &actives, &before))?;
    agent.audit.swap(number, why, &actives)?;
    let prepared = changed
        .iter()
        .try_for_each(|(measure, _, next)| prepare(agent, measure, next))
        .and_then(|()| keep_generation(agent, generation));
    let swapped = prepared.and_then(|()| agent.with_tap(|tap| tap.swap(number)));
    if let Err(error) = swapped {
        agent.audit.tell(&Leaf::SwapFailed { generation: number });
        // A withdrawal is not undone: the next start keeps it, whatever the kernel has now.
        let activated = changed.iter().filter(|(_, _, next)| next.set.is_some());
        return Err(activated.fold(error, |error, (measure, former, _)| undo(agent, measure, former, error)));
    }
    for (measure, _, next) in changed {
        let status = &next.status;
        tracing::info!(
            measure = measure.id(),
            activation = status.generation,
            set = status.set_sha256,
            "the next selector set decides"
        );
    }
    for (measure, active) in agent.measures.iter().zip(actives) {
        *lock(&measure.active) = active;
    }
    audit::program(agent, number);
    Ok(())
}

/// What a load answers.
pub(super) fn loaded(measure: &Measure) -> Loaded {
    let status = &lock(&measure.active).status;
    Loaded {
        measure: measure.id().to_owned(),
        generation: status.generation,
        set_version: status.set_version,
        set_sha256: status.set_sha256.clone(),
        rules: status.rules,
    }
}

fn active_of(measure: &Measure, candidate: Candidate, loads: u64) -> Result<Active, RunError> {
    let Candidate { content: Some((set, activation)), texts, policy, .. } = candidate else {
        return Ok(withdrawn(&candidate, loads));
    };
    let window = admit::window(&measure.admitted, &activation)?;
    let valid_until = activation.valid_until;
    let status = SelectorStatus {
        generation: activation.number,
        set_version: set.version,
        set_sha256: hex::encode(set.sha256),
        rules: set.rules.len(),
        valid_until: valid_until.to_string(),
        valid_until_seconds: valid_until.as_second(),
        loads: loads + 1,
    };
    let rules_end = set.next_end(jiff::Timestamp::MIN);
    Ok(Active {
        window: Some(window),
        set: Some(Arc::new(set)),
        status,
        texts: Some(texts),
        policy,
        over: 0,
        rules_end,
    })
}

/// What is active after a withdrawal: nothing, under its number.
fn withdrawn(candidate: &Candidate, loads: u64) -> Active {
    let status = SelectorStatus { generation: candidate.number, loads, ..SelectorStatus::default() };
    Active { status, texts: Some(candidate.texts.clone()), ..Active::default() }
}

/// The next generation's number.
fn next_number(agent: &Agent) -> u64 {
    lock(&agent.generations).last_number().saturating_add(1)
}

/// Has the loader prepare one generation of all measures' sets, unless it waits there.
fn compile(agent: &Agent, number: u64, actives: &[Active], seed: &Seed) -> Result<(), RunError> {
    let orders: Vec<_> = agent.measures.iter().map(|measure| orders::notes(&lock(&measure.chain))).collect();
    let named = orders.iter().zip(actives).map(|(orders, active)| {
        let activation = active.texts.as_ref().map_or("", |texts| texts.activation.as_str());
        (orders.as_slice(), activation, active.set.as_ref().map_or(NO_SET, |set| set.sha256))
    });
    if agent.compiler.take(ticket(number, seed.0, named))? {
        tracing::info!(generation = number, "the generation that waited is taken");
        return Ok(());
    }
    Ok(agent.compiler.prepare(number, seed.0, documents(agent, actives)?)?)
}

/// Has the loader make the generation with a candidate, for later.
///
/// # Errors
/// What the loader or the kernel refuses.
pub(super) fn stage(agent: &Agent, measure: &Measure, candidate: &Candidate, seed: &Seed) -> Result<(), RunError> {
    let mut actives: Vec<Active> = agent.measures.iter().map(|measure| lock(&measure.active).clone()).collect();
    let active = actives.get_mut(usize::from(measure.slot));
    let active = active.ok_or_else(|| RunError::Failed("a measure has no slot".into()))?;
    active.texts = Some(candidate.texts.clone());
    Ok(agent.compiler.stage(next_number(agent), seed.0, documents(agent, &actives)?)?)
}

/// What was signed for every measure, by slot.
fn documents(agent: &Agent, actives: &[Active]) -> Result<Vec<Documents>, RunError> {
    let documents = |(measure, active): (&Measure, &Active)| {
        let texts = active.texts.as_ref()?;
        Some(Documents {
            orders: orders::notes(&lock(&measure.chain)),
            set: texts.set.clone(),
            activation: texts.activation.clone(),
        })
    };
    let measures: Option<Vec<_>> = agent.measures.iter().zip(actives).map(documents).collect();
    measures.ok_or_else(|| RunError::Failed("a measure has no selector set".into()))
}

/// What must be there before the first record of a measure's new set.
fn prepare(agent: &Agent, measure: &Measure, next: &Active) -> Result<(), RunError> {
    keep(agent, measure, next)?;
    let Some(set) = &next.set else { return Ok(()) };
    let generation = next.status.generation;
    {
        let mut pseudonymiser = lock(&measure.pseudonymiser);
        pseudonymiser.set_policy(generation, Arc::clone(&next.policy));
        pseudonymiser.forget_policies_before(generation.saturating_sub(GENERATIONS_KEPT_MAX as u64));
    }
    let rules: Vec<String> = set.rules.iter().map(|rule| rule.id.clone()).collect();
    let table = RuleTable {
        measure: measure.slot,
        measure_id: measure.id(),
        generation,
        set_sha256: set.sha256,
        rules: &rules,
    };
    for body in rule_table(&table) {
        measure.spool.append(&body).map_err(|error| RunError::failed("spool", error))?;
    }
    Ok(())
}

/// Keeps set and number on disk.
fn keep(agent: &Agent, measure: &Measure, next: &Active) -> Result<(), RunError> {
    let set_sha256 = next.set.as_ref().map_or(NO_SET, |set| set.sha256);
    if let Some(texts) = &next.texts {
        sealed::write(&measure.directory, &agent.host.sealing, texts)?;
    }
    lock(&agent.state)
        .keep_activation(measure.id(), next.status.generation, &set_sha256)
        .map_err(|error| RunError::Failed(error.to_string()))
}

/// What the generation's records mean, for the drain, and on disk for a successor that finds some in the rings.
fn keep_generation(agent: &Agent, generation: Generation) -> Result<(), RunError> {
    let mut generations = lock(&agent.generations).clone();
    generations.push(generation);
    lock(&agent.state).keep_generations(&generations).map_err(|error| RunError::Failed(error.to_string()))?;
    *lock(&agent.generations) = generations;
    Ok(())
}

/// After a refusal on the way: what decides stays what it was, also for the next start.
fn undo(agent: &Agent, measure: &Measure, former: &Active, error: RunError) -> RunError {
    if former.texts.is_none() {
        return error;
    }
    match keep(agent, measure, former) {
        Ok(()) => error,
        Err(second) => {
            RunError::Failed(format!("{error}; and the former set could not be kept for a restart: {second}"))
        }
    }
}
