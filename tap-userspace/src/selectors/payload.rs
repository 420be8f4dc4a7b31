//! Values of a payload condition (command information, Art. 22(2)(ii)): in come hex digits and an offset as they are
//! written, out go bytes and mask of one length. Contents never stand in an error, a log or a debug form.

use super::rule::PayloadValues;
use tap_common::limits::{SIGNATURE_BYTES_MAX, SIGNATURE_OFFSET_MAX};

/// Reads a payload condition; without a mask every bit counts.
///
/// # Errors
/// What is wrong, by the key: never the digits themselves.
pub(super) fn parse(offset: u16, bytes: &str, mask: Option<&str>) -> Result<PayloadValues, String> {
    let offset = u32::from(offset);
    if offset > SIGNATURE_OFFSET_MAX {
        return Err(format!("offset is over {SIGNATURE_OFFSET_MAX}, the furthest that is looked at"));
    }
    let bytes = digits("bytes", bytes)?;
    if bytes.is_empty() || bytes.len() > SIGNATURE_BYTES_MAX {
        return Err(format!("bytes must be 1 to {SIGNATURE_BYTES_MAX} bytes in hex"));
    }
    let mask = match mask {
        Some(mask) => digits("mask", mask)?,
        None => vec![0xff; bytes.len()],
    };
    if mask.len() != bytes.len() {
        return Err("mask is not as long as bytes".to_owned());
    }
    if mask.iter().all(|byte| *byte == 0) {
        return Err("mask looks at no bit: every payload would satisfy it".to_owned());
    }
    // Bits that the mask does not look at say nothing: the same condition is the same value.
    let bytes = bytes.iter().zip(&mask).map(|(byte, mask)| byte & mask).collect();
    Ok(PayloadValues { offset, bytes, mask })
}

fn digits(key: &str, text: &str) -> Result<Vec<u8>, String> {
    hex::decode(text).map_err(|_not_hex| format!("{key} is not pairs of hex digits"))
}

impl PayloadValues {
    /// Whether whatever satisfies this condition satisfies `other` too: it looks at every bit that the other looks at, and
    /// asks the same of it.
    pub(super) fn is_within(&self, other: &Self) -> bool {
        // What a condition asks of the byte at `place` of the payload; outside of it nothing.
        let asked = |values: &Self, place: usize| {
            let at = usize::try_from(values.offset).ok().and_then(|offset| place.checked_sub(offset));
            at.and_then(|at| Some((*values.mask.get(at)?, *values.bytes.get(at)?)))
        };
        // It also needs as many bytes to be there.
        let end =
            |values: &Self| usize::try_from(values.offset).map_or(usize::MAX, |offset| offset + values.bytes.len());
        end(self) >= end(other)
            && (0..end(other)).all(|place| {
                let (their_mask, their_bits) = asked(other, place).unwrap_or((0, 0));
                let (mask, bits) = asked(self, place).unwrap_or((0, 0));
                mask & their_mask == their_mask && bits & their_mask == their_bits
            })
    }
}
