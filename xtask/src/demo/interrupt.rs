//! Ctrl-C as a flag. In: SIGINT, SIGTERM, SIGHUP. Out: an error at the next place where stopping is safe, so that every handle
//! is dropped in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{SigSet, Signal};

/// Whether somebody asked the demo to stop.
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From now on the signals set the flag instead of ending this process. Programs that are started get them as usual.
    pub(crate) fn catch() -> Result<Self> {
        let mut signals = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            signals.add(signal);
        }
        // Threads started later inherit the mask: one waits, none is hit.
        signals.thread_block().context("blocking signals")?;
        let flag = Arc::new(AtomicBool::new(false));
        let set = Arc::clone(&flag);
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            while signals.wait().is_ok() {
                set.store(true, Ordering::Relaxed);
            }
        })?;
        Ok(Self(flag))
    }

    /// An error if somebody asked.
    pub(crate) fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Relaxed) {
            bail!("interrupted; everything is taken down");
        }
        Ok(())
    }
}
