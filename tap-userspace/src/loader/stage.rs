//! Stage: generations that are loaded and decide about nothing yet.
//!
//! In: documents as they were signed. Out: the generation for the next swap, or one that waits for its call. What waits is taken only
//! if it is asked for by everything that it is made of and its signatures still count. Bound: one that waits; it is dropped as
//! soon as any other generation is made, for its number is another's then.

use super::kernel::{Opened, Shared, lock};
use super::message::{Prepare, Reply, Ticket, Work, ticket};
use super::verify::{Held, Judged, Verified};
use crate::load::Loaded;
use crate::run::RunError;

/// A generation that may be swapped in.
pub(super) struct Prepared {
    pub(super) loaded: Loaded,
    pub(super) judged: Judged,
}

/// Where one waits.
#[derive(Default)]
pub(super) struct Stage(Option<Staged>);

struct Staged {
    ticket: Ticket,
    /// Orders and activation of every measure, as they were signed.
    notes: Vec<(Vec<String>, String)>,
    held: Vec<Held>,
    loaded: Loaded,
}

impl Stage {
    pub(super) fn act(&mut self, shared: &Shared, opened: &Opened, work: Work) -> Result<Reply, RunError> {
        match work {
            Work::Prepare(prepare) => {
                self.0 = None;
                let (loaded, verified) = load(shared, opened, &prepare)?;
                *lock(&shared.prepared) = Some(Prepared { loaded, judged: verified.judged });
                Ok(Reply::Done)
            }
            Work::Stage(prepare) => {
                self.0 = None;
                let (loaded, Verified { held, .. }) = load(shared, opened, &prepare)?;
                let ticket = name(&prepare, &held);
                let notes = prepare.measures.iter().map(|of| (of.orders.clone(), of.activation.clone())).collect();
                self.0 = Some(Staged { ticket, notes, held, loaded });
                Ok(Reply::Done)
            }
            Work::Take { ticket } => self.take(shared, opened, ticket),
            Work::Forget => {
                self.0 = None;
                Ok(Reply::Done)
            }
        }
    }

    fn take(&mut self, shared: &Shared, opened: &Opened, ticket: Ticket) -> Result<Reply, RunError> {
        let Some(staged) = self.0.take().filter(|staged| staged.ticket == ticket) else { return Ok(Reply::NotStaged) };
        let notes = staged.notes.iter().map(|(orders, activation)| (orders.as_slice(), activation.as_str()));
        let judged = shared.terms.verify_again(&opened.host_key, notes, &staged.held)?;
        let Some(judged) = judged else { return Ok(Reply::NotStaged) };
        *lock(&shared.prepared) = Some(Prepared { loaded: staged.loaded, judged });
        Ok(Reply::Done)
    }
}

fn load(shared: &Shared, opened: &Opened, prepare: &Prepare) -> Result<(Loaded, Verified), RunError> {
    let verified = shared.terms.verify(&opened.host_key, &prepare.measures, prepare.seed)?;
    let loaded = opened.programs.load(&verified.tables, prepare.generation);
    Ok((loaded.map_err(|error| RunError::Failed(error.to_string()))?, verified))
}

/// The digests of the sets are those that were computed here.
fn name(prepare: &Prepare, held: &[Held]) -> Ticket {
    let measures = prepare.measures.iter().zip(held);
    let measures = measures.map(|(of, held)| (of.orders.as_slice(), of.activation.as_str(), held.set_sha256()));
    ticket(prepare.generation, prepare.seed, measures)
}
