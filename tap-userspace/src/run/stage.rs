//! Staging: a set that two persons have signed waits in the loader, so that its activation is one step.
//!
//! In: a proposal whose second signature came. Out: its set checked, compiled and verified by the kernel, and sealed beside the active
//! one; it decides about nothing. What waits is judged again by the clock and the keys when it is asked for. Bound: one set on this
//! host. Any other swap takes its generation's number away; its activation then does all of it, and so it does where nothing
//! could be staged.

use super::admit::{self, Candidate};
use super::agent::{Agent, lock};
use super::error::RunError;
use super::measure::Measure;
use super::sealed::{self, Texts};
use super::{renew, swap};

/// What waits.
pub(super) struct Staged {
    slot: u8,
    candidate: Candidate,
}

/// Stages a set. What waited before does so no more.
///
/// # Errors
/// What the rules, the kernel or the disk refuse. They may quote the set.
pub(super) fn stage(agent: &Agent, measure: &Measure, texts: Texts) -> Result<(), RunError> {
    let seed = lock(&agent.loading);
    if agent.stopping() {
        return Ok(());
    }
    forget(agent);
    let chain = lock(&measure.chain).clone();
    let candidate = admit::candidate(&agent.host, &chain, texts, renew::now(agent)?)?;
    swap::stage(agent, measure, &candidate, &seed)?;
    sealed::write_ahead(&measure.directory, &agent.host.sealing, &candidate.texts)?;
    *lock(&agent.staged) = Some(Staged { slot: measure.slot, candidate });
    Ok(())
}

/// The set that waits, if it is the one of this activation.
pub(super) fn take(agent: &Agent, measure: &Measure, activation: &str) -> Option<Candidate> {
    let mut staged = lock(&agent.staged);
    let is_it = |staged: &mut Staged| staged.slot == measure.slot && staged.candidate.texts.activation == activation;
    staged.take_if(is_it).map(|staged| staged.candidate)
}

/// Lets nothing wait. What cannot be removed now is sealed to this host, and the next one to wait removes it.
pub(super) fn forget(agent: &Agent) {
    *lock(&agent.staged) = None;
    let removed = agent.measures.iter().try_for_each(|measure| sealed::remove_ahead(&measure.directory));
    let freed = agent.compiler.forget().map_err(RunError::from);
    if let Err(error) = removed.and(freed) {
        tracing::warn!(%error, "what waited for an activation that does not come is still there");
    }
}
