//! What the control API asks of the running agent.
//!
//! In: calls whose caller may make them. Out: answers; what they change goes through the same functions as the operator's socket.
//! A set's text goes out by [`Asked::Contents`] alone. What refuses a set may quote it: such texts go to the caller, who has the
//! set, and never into the log.

use super::agent::{Agent, lock};
use super::error::RunError;
use super::measure::Measure;
use super::sealed::Texts;
use super::swap::Next;
use super::versions::{Index, Store};
use super::{admit, oversight, renew, report, stage, swap};
use crate::audit::Leaf;
use crate::control::api::wire::{Contents, Differing, Done, Kind, Noted, Problem, Proposal, Proposing, Reasoned};
use crate::control::api::{self, Answer, Asked};
use crate::keys;
use crate::selectors::activation::{self, Activation};
use crate::selectors::versions::difference;
use crate::selectors::{SelectorSet, withdrawal::Withdrawal};
use std::sync::Arc;

/// The agent, as the control API sees it.
pub(super) struct Remote(pub(super) Arc<Agent>);

impl api::Agent for Remote {
    fn answer(&self, asked: Asked) -> Result<Answer, Problem> {
        let agent = &*self.0;
        match asked {
            Asked::Status => Answer::of(&report::status(agent)),
            Asked::List { measure } => versions(agent, find(agent, &measure)?),
            Asked::Contents { measure, set } => contents(agent, &measure, set),
            Asked::Diff { measure, set, other } => differing(agent, &measure, set, other),
            Asked::Propose { measure, etag, proposing: Proposing { set, activation } } => {
                propose(agent, &measure, &etag, Texts { set, activation })
            }
            Asked::Discard { measure, etag } => discard(agent, &measure, &etag),
            Asked::Approve { measure, etag, noted } => approve(agent, &measure, &etag, noted.note),
            Asked::Activate { measure, etag } => activate(agent, &measure, &etag),
            Asked::RollBack { measure, etag, noted } => roll_back(agent, &measure, &etag, noted.note),
            Asked::Withdraw { measure, noted } => withdraw(agent, &measure, &noted),
            Asked::Directive(noted) => done(oversight::directive(agent, &noted.note)),
            Asked::Stop(Reasoned { measure, reason }) => done(oversight::stop(agent, measure.as_deref(), &reason)),
            Asked::Resume(Reasoned { measure, reason }) => done(oversight::resume(agent, measure.as_deref(), &reason)),
        }
    }

    fn tell(&self, leaf: &Leaf) -> Result<(), String> {
        let mut counted = lock(&self.0.api);
        if let Leaf::ApiCall { outcome, .. } = leaf {
            *counted.calls.entry(outcome.clone()).or_default() += 1;
        } else if let Leaf::ApiTurnedAway { calls, .. } = leaf {
            counted.turned_away += calls;
        }
        drop(counted);
        self.0.audit.must(leaf).map_err(|error| error.to_string())
    }
}

/// Brings what is kept up to date with what decides, where anything is kept.
///
/// # Errors
/// The disk's.
pub(super) fn settle(agent: &Agent, measure: &Measure) -> Result<(), RunError> {
    if agent.config.control.api.is_none() {
        return Ok(());
    }
    let _one = lock(&agent.versions);
    let active = lock(&measure.active).clone();
    Store::of(measure, &agent.host.sealing).settle(&active).map(drop)
}

fn find<'a>(agent: &'a Agent, measure: &str) -> Result<&'a Measure, Problem> {
    agent.measure(Some(measure)).map_err(|error| Kind::NotFound.because(error.to_string()))
}

/// What is kept of a measure now. The caller holds `agent.versions`.
fn index(agent: &Agent, measure: &Measure) -> Result<Index, Problem> {
    let active = lock(&measure.active).clone();
    Store::of(measure, &agent.host.sealing).settle(&active).map_err(problem)
}

fn versions(agent: &Agent, measure: &Measure) -> Result<Answer, Problem> {
    let _one = lock(&agent.versions);
    show(agent, measure)
}

/// The caller holds `agent.versions`.
fn show(agent: &Agent, measure: &Measure) -> Result<Answer, Problem> {
    let index = index(agent, measure)?;
    let active = lock(&measure.active);
    Ok(Answer { etag: Some(index.etag(&active)), ..Answer::of(&index.show(measure.id(), &active))? })
}

fn contents(agent: &Agent, measure: &str, set_sha256: String) -> Result<Answer, Problem> {
    let set = text(agent, find(agent, measure)?, &set_sha256)?;
    Answer::of(&Contents { set_sha256, set: set.as_str().to_owned() })
}

fn text(agent: &Agent, measure: &Measure, set_sha256: &str) -> Result<zeroize::Zeroizing<String>, Problem> {
    let _one = lock(&agent.versions);
    let index = index(agent, measure)?;
    let text = Store::of(measure, &agent.host.sealing).text(&index, set_sha256).map_err(problem)?;
    text.ok_or_else(|| Kind::NotFound.because("no set of this digest is kept or proposed"))
}

fn differing(agent: &Agent, measure: &str, set_sha256: String, other_sha256: String) -> Result<Answer, Problem> {
    let measure = find(agent, measure)?;
    let read = |digest: &str| {
        let text = text(agent, measure, digest)?;
        SelectorSet::from_json(text.as_bytes()).map_err(|_kept| Kind::Failed.because("a kept set cannot be read"))
    };
    let (first, second) = (read(&set_sha256)?, read(&other_sha256)?);
    let found = difference(&first.content, &second.content, &mut |_, _, _| {});
    let (added, removed, kept) = (found.added, found.removed, found.kept);
    Answer::of(&Differing { set_sha256, other_sha256, added, removed, kept })
}

/// What the caller has seen must be what is there. The caller holds `agent.versions`.
fn unchanged(agent: &Agent, measure: &Measure, etag: &str) -> Result<Index, Problem> {
    let index = index(agent, measure)?;
    let now = index.etag(&lock(&measure.active));
    if now == etag {
        Ok(index)
    } else {
        Err(Kind::Stale.because(format!("the state is \"{now}\" now; list it, then decide anew")))
    }
}

fn propose(agent: &Agent, measure: &str, etag: &str, texts: Texts) -> Result<Answer, Problem> {
    let measure = find(agent, measure)?;
    let decides = lock(&measure.active).clone();
    let set = admit::opened(&agent.host, &decides, texts.set.clone()).map_err(problem)?;
    let texts = Texts { set, activation: texts.activation.clone() };
    let proposal = proposal(agent, measure, &texts)?;
    let _one = lock(&agent.versions);
    let index = unchanged(agent, measure, etag)?;
    keep(agent, measure, &index, proposal, texts)?;
    show(agent, measure)
}

/// Keeps a proposal; one that both persons have signed waits in the loader.
fn keep(agent: &Agent, measure: &Measure, index: &Index, proposal: Proposal, texts: Texts) -> Result<(), Problem> {
    let store = Store::of(measure, &agent.host.sealing);
    let approved = proposal.approved;
    store.put(&texts.set).and_then(|()| store.propose(index, Some(proposal))).map_err(problem)?;
    stage::forget(agent);
    if approved {
        wait(agent, measure, texts);
    }
    Ok(())
}

/// Stages what is approved. Without that its activation takes longer, and says what is wrong with it.
fn wait(agent: &Agent, measure: &Measure, texts: Texts) {
    let measure_id = measure.id();
    // The error may quote the set.
    match stage::stage(agent, measure, texts) {
        Ok(()) => tracing::info!(measure = measure_id, "the approved set waits for its activation"),
        Err(_) => tracing::warn!(measure = measure_id, "the approved set could not be made ready for its activation"),
    }
}

fn roll_back(agent: &Agent, measure: &str, etag: &str, note: String) -> Result<Answer, Problem> {
    let measure = find(agent, measure)?;
    let named = Activation::parse_unsigned(&note).map_err(|error| Kind::Refused.because(error.to_string()))?;
    let set = text(agent, measure, &hex::encode(named.set_sha256))?;
    let texts = Texts { set: set.as_str().to_owned(), activation: note };
    let proposal = proposal(agent, measure, &texts)?;
    let _one = lock(&agent.versions);
    let index = unchanged(agent, measure, etag)?;
    keep(agent, measure, &index, proposal, texts)?;
    show(agent, measure)
}

/// Everything is checked that can be before the other person has signed.
fn proposal(agent: &Agent, measure: &Measure, texts: &Texts) -> Result<Proposal, Problem> {
    let chain = lock(&measure.chain).clone();
    let now = renew::now(agent).map_err(problem)?;
    let (set, begun) = admit::proposed(&agent.host, &chain, texts, now).map_err(problem)?;
    next(agent, measure, begun.number)?;
    Ok(Proposal {
        number: begun.number,
        set_sha256: hex::encode(set.sha256),
        set_version: set.version,
        rules: set.rules.len(),
        approved: activation::verify(&texts.activation, &agent.host.roots.at(now)).is_ok(),
        note: texts.activation.clone(),
    })
}

fn next(agent: &Agent, measure: &Measure, number: u64) -> Result<(), Problem> {
    let admitted = lock(&agent.state).admit_next(measure.id(), number);
    admitted.map_err(|error| Kind::Refused.because(error.to_string()))
}

fn discard(agent: &Agent, measure: &str, etag: &str) -> Result<Answer, Problem> {
    let measure = find(agent, measure)?;
    let _one = lock(&agent.versions);
    let index = unchanged(agent, measure, etag)?;
    proposed(&index)?;
    Store::of(measure, &agent.host.sealing).propose(&index, None).map_err(problem)?;
    stage::forget(agent);
    show(agent, measure)
}

fn approve(agent: &Agent, measure: &str, etag: &str, note: String) -> Result<Answer, Problem> {
    let measure = find(agent, measure)?;
    let refused = |error: &dyn std::fmt::Display| Kind::Refused.because(format!("activation: {error}"));
    let _one = lock(&agent.versions);
    let index = unchanged(agent, measure, etag)?;
    let proposal = proposed(&index)?;
    let text = |note: &str| keys::note::text(note).map_err(|error| refused(&error));
    if text(&note)? != text(&proposal.note)? {
        return Err(refused(&"is not the one that was proposed"));
    }
    let now = renew::now(agent).map_err(problem)?;
    activation::verify(&note, &agent.host.roots.at(now)).map_err(|error| refused(&error))?;
    let approved = Proposal { approved: true, note, ..proposal.clone() };
    let store = Store::of(measure, &agent.host.sealing);
    let index = store.propose(&index, Some(approved.clone())).map_err(problem)?;
    match store.texts(&index, &approved) {
        Ok(texts) => wait(agent, measure, texts),
        Err(error) => tracing::warn!(%error, "the approved set cannot be read"),
    }
    show(agent, measure)
}

fn activate(agent: &Agent, measure: &str, etag: &str) -> Result<Answer, Problem> {
    let measure = find(agent, measure)?;
    let _one = lock(&agent.versions);
    let index = unchanged(agent, measure, etag)?;
    let proposal = proposed(&index)?;
    if !proposal.approved {
        return Err(Kind::Refused.because("activation: the approver has not signed"));
    }
    let set = match stage::take(agent, measure, &proposal.note) {
        Some(candidate) => Next::Staged(Box::new(candidate)),
        None => Next::Texts(Store::of(measure, &agent.host.sealing).texts(&index, proposal).map_err(problem)?),
    };
    let loaded = swap::load(agent, Some(measure.id()), set).inspect_err(|error| {
        if matches!(error, RunError::Refused(_)) {
            agent.audit.tell(&Leaf::ActivationRefused { set_sha256: proposal.set_sha256.clone() });
        }
    });
    let loaded = loaded.map_err(problem)?;
    // It decides, whatever becomes of what is kept: the next call brings that up to date.
    let etag = self::index(agent, measure).ok().map(|index| index.etag(&lock(&measure.active)));
    Ok(Answer { etag, ..Answer::of(&loaded)? })
}

fn withdraw(agent: &Agent, measure: &str, noted: &Noted) -> Result<Answer, Problem> {
    let measure = find(agent, measure)?;
    let named = Withdrawal::parse_unsigned(&noted.note).map_err(|error| Kind::Refused.because(error.to_string()))?;
    if named.measure != measure.id() {
        return Err(Kind::Refused.because(format!("withdrawal: it is of measure {}", named.measure)));
    }
    let withdrawn = done(swap::withdraw(agent, &noted.note));
    if withdrawn.is_ok()
        && let Err(error) = settle(agent, measure)
    {
        tracing::error!(%error, "the kept sets of a withdrawn measure are still on disk; the next call tries again");
    }
    withdrawn
}

fn proposed(index: &Index) -> Result<&Proposal, Problem> {
    index.proposal.as_ref().ok_or_else(|| Kind::NotFound.because("nothing is proposed"))
}

fn done(result: Result<Vec<String>, RunError>) -> Result<Answer, Problem> {
    Answer::of(&Done { done: result.map_err(problem)? })
}

fn problem(error: RunError) -> Problem {
    match error {
        RunError::Refused(reason) => Kind::Refused.because(reason),
        RunError::Failed(reason) => Kind::Failed.because(reason),
    }
}
