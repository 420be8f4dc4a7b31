//! Cap: admitted bytes stay within share × capacity × T in every window T of one second or longer.
//!
//! In: the packet's bytes on the line, the time, the CPU's credits and the buckets' words. Out: which measures admit it.
//! The facility's bucket is charged once, whatever the number of measures; then each measure's own, where there are several.
//!
//! One word of a bucket holds an epoch's tag and the credit that is left in it. The first CPU in a new epoch refills it by
//! compare-exchange; what was left of the old epoch is void. A CPU takes credit in chunks *before* it spends it, and a
//! chunk is spent in its own epoch only, so N CPUs never spend N times the cap.
//!
//! Why the cap holds. Let c = 0.98 × share × capacity × 5 ms be the epoch's credit. Credit of epoch e is spent no
//! earlier than e × 5 ms, for a word gets its tag from a clock that has reached e, and no later than (e + 1) × 5 ms and
//! one tick, for a CPU's cached clock is at most one tick late. A window of length T therefore touches at most
//! (T + tick) / 5 ms + 2 epochs, and admits at most c times that: 0.98 × S × (T + tick + 10 ms) for S = share × capacity.
//! With tick ≤ 10 ms this is ≤ S × T as soon as T ≥ 0.98 s, and ≤ S × (T + 20 ms) always.
//!
//! Overflow: an epoch's credit is below 2^40 bytes ([`CREDIT_BITS`], checked at load); a frame's bytes are below 2^17 and
//! a chunk below 2^16, so no sum leaves 64 bits. The tag is the epoch's low 24 bits: they repeat after 23 hours, and a
//! word that was not touched for exactly that long is taken for the current epoch and *not* refilled: strict.

use super::verdict::Decision;
use super::world::{Credit, World};
use crate::abi::policy::{CapPolicy, FACILITY_BUCKET};
use crate::limits::{BUCKET_ATTEMPTS_MAX, CREDIT_BITS, EPOCH_NS, EPOCHS_AHEAD_MAX, MEASURES_MAX};

const CREDIT_MASK: u64 = (1 << CREDIT_BITS) - 1;
const TAG_BITS: u32 = 64 - CREDIT_BITS;
const TAG_MASK: u64 = (1 << TAG_BITS) - 1;

/// Sets in `out.admitted` the sampled slots whose caps admit the packet's bytes on the line, as bits. A measure that is alone
/// has the facility's bucket for its own: the agent gives that the smaller of the two shares.
#[inline(always)]
pub fn admit<W: World>(world: &mut W, out: &mut Decision) {
    out.admitted = 0;
    if !charge(world, FACILITY_BUCKET, out.line_bytes) {
        return;
    }
    if world.measures() < 2 {
        out.admitted = out.sampled;
        return;
    }
    world.settle(out);
    let mut slot = 0;
    while slot < MEASURES_MAX as u32 && slot < world.measures() {
        if out.sampled & (1 << slot) != 0 && charge(world, FACILITY_BUCKET + 1 + slot, out.line_bytes) {
            out.admitted |= 1 << slot;
        }
        world.settle(out);
        slot += 1;
    }
}

/// Charges `bytes` to bucket `bucket` at this CPU's cached time; whether they were admitted.
#[inline(always)]
pub fn charge<W: World>(world: &mut W, bucket: u32, bytes: u32) -> bool {
    // Most packets are paid for with credit at hand.
    charge_at_hand(world, bucket, bytes) || charge_shared(world, bucket, u64::from(bytes))
}

/// Charges `bytes` to this CPU's credit of a bucket, if that does; whether it did.
#[inline(always)]
pub fn charge_at_hand<W: World>(world: &mut W, bucket: u32, bytes: u32) -> bool {
    let bytes = u64::from(bytes);
    let credit = world.credit(bucket);
    let does = credit.epoch >= world.epoch_cached() && credit.bytes >= bytes;
    if does {
        world.set_credit(bucket, Credit { epoch: credit.epoch, bytes: credit.bytes - bytes });
    }
    does
}

/// The same where the credit at hand does not do.
#[inline(always)]
fn charge_shared<W: World>(world: &mut W, bucket: u32, bytes: u64) -> bool {
    let mut credit = world.credit(bucket);
    let mut epoch = world.epoch_cached();
    let mut tries = 0;
    // Twice at most: a tick may be longer than an epoch, so before a packet is refused the clock is read exactly.
    while tries < 2 {
        // A credit of a later epoch comes from a word that another CPU's clock had already moved on: it is valid now.
        if credit.epoch < epoch {
            credit = Credit { epoch, bytes: 0 };
        }
        if credit.bytes < bytes
            && let Some(taken) = take(world, bucket, credit.epoch, bytes - credit.bytes)
        {
            // Credit of a later epoch voids what was held.
            let held = if taken.epoch == credit.epoch { credit.bytes } else { 0 };
            credit = Credit { epoch: taken.epoch, bytes: taken.bytes + held };
        }
        if credit.bytes >= bytes {
            credit.bytes -= bytes;
            world.set_credit(bucket, credit);
            return true;
        }
        world.now_exact_ns();
        epoch = world.epoch_cached();
        tries += 1;
    }
    world.set_credit(bucket, credit);
    false
}

/// Takes at least `needed` bytes of credit from the word, a chunk if there is one.
#[inline(always)]
fn take<W: World>(world: &W, bucket: u32, epoch: u64, needed: u64) -> Option<Credit> {
    let policy: CapPolicy = world.cap(bucket);
    let mut attempts = 0;
    while attempts < BUCKET_ATTEMPTS_MAX {
        let word = world.bucket(bucket);
        let (epoch_now, left) = unpack(word, epoch, policy.epoch_credit_bytes);
        if left < needed {
            return None;
        }
        let wanted = if needed > policy.chunk_bytes { needed } else { policy.chunk_bytes };
        let taken = if wanted < left { wanted } else { left };
        if world.bucket_exchange(bucket, word, pack(epoch_now, left - taken)) {
            return Some(Credit { epoch: epoch_now, bytes: taken });
        }
        attempts += 1;
    }
    None
}

/// The epoch of a time.
#[inline(always)]
#[must_use]
pub fn epoch_of(now_ns: u64) -> u64 {
    now_ns / EPOCH_NS
}

/// The epoch that is current by the later of this CPU's clock and the word, and the credit left in it.
#[inline(always)]
fn unpack(word: u64, epoch: u64, epoch_credit_bytes: u64) -> (u64, u64) {
    let ahead = (word >> CREDIT_BITS).wrapping_sub(epoch) & TAG_MASK;
    if ahead == 0 {
        (epoch, word & CREDIT_MASK)
    } else if ahead <= EPOCHS_AHEAD_MAX {
        (epoch + ahead, word & CREDIT_MASK)
    } else {
        (epoch, epoch_credit_bytes & CREDIT_MASK)
    }
}

#[inline(always)]
fn pack(epoch: u64, left: u64) -> u64 {
    ((epoch & TAG_MASK) << CREDIT_BITS) | (left & CREDIT_MASK)
}
