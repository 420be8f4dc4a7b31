//! A measure's orders: the one that began it and those that extend it (Art. 19).
//!
//! In: the configuration's files, what an operator handed over at run time and the agent kept. Out: a chain without a gap,
//! and the window that it and the directives leave. An extension that was handed over is kept as it was signed and verified
//! anew at every start. Bound: bytes of the file.

use super::admit::{text, unix_ns};
use super::agent::{Agent, lock};
use super::error::RunError;
use super::lease::Window;
use super::measure::{self, Measure};
use super::renew;
use super::state::{State, replace_file};
use crate::config;
use crate::directive::restriction::Restriction;
use crate::keys::TrustRoots;
use crate::limits::ORDER_BYTES_MAX;
use crate::order::{self, Order, chain};
use jiff::Timestamp;
use std::path::{Path, PathBuf};

const FILE_NAME: &str = "extensions.json";

/// The configuration's order and extensions, and those kept from a former run that go on where they end; with their notes.
pub(super) fn chain(
    files: &config::Measure,
    state_directory: &Path,
    roots: &TrustRoots,
    now: Timestamp,
) -> Result<(Vec<Order>, Vec<String>), RunError> {
    let read = |file: &Path| {
        let note = text(file)?;
        let order = order::verify(&note, roots).map_err(|error| RunError::refused(file.display(), error))?;
        Ok::<_, RunError>((order, note))
    };
    let (first, note) = read(&files.order_file)?;
    let (mut orders, mut notes) = (vec![first], vec![note]);
    for file in &files.extension_files {
        let (next, note) = read(file)?;
        if let Some(last) = orders.last() {
            chain::extends(last, &next).map_err(|error| RunError::refused(file.display(), error))?;
        }
        orders.push(next);
        notes.push(note);
    }
    let id = orders.first().map(|order| order.measure.id.clone()).unwrap_or_default();
    for note in kept(&measure::directory(state_directory, &id))? {
        let extended =
            order::verify(&note, roots).map_err(|error| error.to_string()).and_then(|next| match orders.last() {
                Some(_) if orders.iter().any(|order| order.sha256 == next.sha256) => Ok(None),
                Some(last) => chain::extends(last, &next).map(|()| Some(next)).map_err(|error| error.to_string()),
                None => Ok(None),
            });
        match extended {
            Ok(Some(next)) => {
                orders.push(next);
                notes.push(note);
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(measure = id, %error, "an extension kept from a former run does not count"),
        }
    }
    chain::is_live(&orders, now).map_err(|error| RunError::refused(files.order_file.display(), error))?;
    Ok((orders, notes))
}

/// Whether the chain is one that this host may go on with: an order that a later one replaced is none.
pub(super) fn known(state: &State, chain: &[Order]) -> Result<(), RunError> {
    let Some(first) = chain.first() else { return Ok(()) };
    state
        .admit_orders(&first.measure.id, first.measure.previous, &hashes(chain))
        .map_err(|error| RunError::Refused(error.to_string()))
}

/// The orders as they were signed: the loader verifies them itself.
pub(super) fn notes(chain: &[Order]) -> Vec<String> {
    chain.iter().map(|order| order.note.clone()).collect()
}

/// SHA-256 of each order.
pub(super) fn hashes(chain: &[Order]) -> Vec<[u8; 32]> {
    chain.iter().map(|order| order.sha256).collect()
}

/// When the orders allow selection, less what directives took away and what ends with a signer's key.
pub(super) fn window(chain: &[Order], restriction: &Restriction) -> Result<Window, RunError> {
    let (Some(first), Some(last)) = (chain.first(), chain.last()) else {
        return Err(RunError::Failed("a measure has no order".into()));
    };
    let signed = chain.iter().filter_map(|order| order.signed_until).min();
    let end = signed.map_or(last.measure.not_after, |signed| signed.min(last.measure.not_after));
    Ok(Window {
        not_before_ns: unix_ns(first.measure.not_before)?,
        not_after_ns: unix_ns(end)?.min(restriction.not_after_ns.unwrap_or(u64::MAX)),
    })
}

/// Takes an order that extends a running measure's.
///
/// # Errors
/// What the rules refuse, by field; or it cannot be kept, and nothing is changed.
pub(super) fn extend(agent: &Agent, note: &str) -> Result<Vec<String>, RunError> {
    let _one_at_a_time = lock(&agent.loading);
    if note.len() as u64 > ORDER_BYTES_MAX {
        return Err(RunError::Refused(format!("order: is over {ORDER_BYTES_MAX} bytes")));
    }
    let roots = agent.host.roots.at(renew::now(agent)?);
    let next = order::verify(note, &roots).map_err(|error| RunError::refused("order", error))?;
    let measure = agent.measure(Some(&next.measure.id))?;
    let mut orders = lock(&measure.chain).clone();
    if let Some(last) = orders.last() {
        chain::extends(last, &next).map_err(|error| RunError::refused("order", error))?;
    }
    let done = format!(
        "measure {}: extended until {} by order {}",
        measure.id(),
        order::window::in_jst(next.measure.not_after),
        hex::encode(next.sha256)
    );
    agent.audit.order(&next, note, measure.share_ppm())?;
    orders.push(next);
    keep(measure, note)?;
    lock(&agent.state)
        .keep_orders(measure.id(), &hashes(&orders))
        .map_err(|error| RunError::Failed(error.to_string()))?;
    let (slot, signed) = (u32::from(measure.slot), notes(&orders));
    *lock(&measure.chain) = orders;
    agent.with_tap(|tap| tap.extend(slot, signed))?;
    renew::renew(agent);
    tracing::info!(measure = measure.id(), "the order was extended");
    Ok(vec![done])
}

fn kept(directory: &Path) -> Result<Vec<String>, RunError> {
    let path = file(directory);
    match std::fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text).map_err(|error| RunError::refused(path.display(), error)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(RunError::failed(path.display(), error)),
    }
}

fn keep(measure: &Measure, note: &str) -> Result<(), RunError> {
    let path = file(&measure.directory);
    let failed = |error: String| RunError::failed(path.display(), error);
    let mut notes = kept(&measure.directory)?;
    notes.push(note.to_owned());
    std::fs::create_dir_all(&measure.directory).map_err(|error| failed(error.to_string()))?;
    let text = serde_json::to_vec_pretty(&notes).map_err(|error| failed(error.to_string()))?;
    replace_file(&path, &text).map_err(|error| failed(error.to_string()))
}

fn file(directory: &Path) -> PathBuf {
    directory.join(FILE_NAME)
}
