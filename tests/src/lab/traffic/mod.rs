//! Traffic of the laboratory's hosts. In: hosts, addresses, rates. Out: real TCP and UDP between them and raw frames, with
//! counts of what was sent. What bounds it: every generator ends when its handle is dropped.

mod frames;
mod replay;
mod tcp;
mod udp;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

pub use frames::{FrameSender, FrameSink};
pub use replay::{End, Replay};
pub use tcp::TcpLoad;
pub use udp::UdpLoad;

/// How long a socket waits before its thread looks at the stop flag again.
const PATIENCE: Duration = Duration::from_millis(100);

/// Threads that generate or take traffic, and the flag that ends them.
#[derive(Debug, Default)]
struct Crew {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Crew {
    fn stop(&mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let mut first_failure = Ok(());
        for thread in self.threads.drain(..) {
            let result = thread.join().map_err(|_panic| anyhow!("a traffic thread panicked")).and_then(|result| result);
            if first_failure.is_ok() {
                first_failure = result;
            }
        }
        first_failure
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        // Whoever cares for the outcome called `stop`.
        self.stop().ok();
    }
}

/// A rate that may be changed while traffic runs.
#[derive(Clone, Debug)]
pub struct Rate(Arc<AtomicU64>);

impl Rate {
    /// A rate in bits per second of IP packets; 0 pauses.
    #[must_use]
    pub fn new(bits_per_second: u64) -> Self {
        Self(Arc::new(AtomicU64::new(bits_per_second)))
    }

    /// Changes it.
    pub fn set(&self, bits_per_second: u64) {
        self.0.store(bits_per_second, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Turns a rate into bytes that may be sent now. What could not be sent in time is forgone: it never bursts to catch up.
struct Pacer {
    rate: Rate,
    last: Instant,
    credit_bits: u64,
}

impl Pacer {
    fn new(rate: Rate) -> Self {
        Self { rate, last: Instant::now(), credit_bits: 0 }
    }

    /// Waits a step of about a millisecond; gives how many packets of `bytes` may go.
    fn step(&mut self, bytes: u64) -> u64 {
        std::thread::sleep(Duration::from_millis(1));
        let rate = self.rate.get();
        let now = Instant::now();
        // At most 10 ms of credit, should the machine have been away.
        let elapsed_us = u64::try_from(now.duration_since(self.last).as_micros()).unwrap_or(u64::MAX).min(10_000);
        self.last = now;
        self.credit_bits = self.credit_bits.saturating_add(rate.saturating_mul(elapsed_us) / 1_000_000);
        let packets = self.credit_bits / (bytes * 8).max(1);
        self.credit_bits -= packets * bytes * 8;
        packets
    }
}
