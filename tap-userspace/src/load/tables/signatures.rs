//! Payload conditions: each different signature once, as words that the program compares.

use super::{LoadError, NumberedRule};
use crate::load::sweep::flip;
use crate::selectors::PayloadValues;
use tap_common::abi::rule::{SIGNATURE_WORDS, Signature, SignatureWord};
use tap_common::limits::SIGNATURES_MAX;

/// The signatures of all rules.
pub(super) fn signatures(rules: &[NumberedRule<'_>]) -> Result<Vec<Signature>, LoadError> {
    let mut signatures: Vec<Signature> = Vec::new();
    for NumberedRule { bit, rule, .. } in rules {
        let Some(values) = &rule.payload else { continue };
        let signature = signature(values);
        let same = |known: &&mut Signature| Signature { rules: [0; 4], ..**known } == signature;
        match signatures.iter_mut().find(same) {
            Some(known) => flip(&mut known.rules, *bit),
            None => {
                let mut signature = signature;
                flip(&mut signature.rules, *bit);
                signatures.push(signature);
            }
        }
    }
    if signatures.len() > SIGNATURES_MAX {
        return Err(LoadError::TooManySignatures { signatures: signatures.len() });
    }
    Ok(signatures)
}

/// Whole words from the signature's beginning, then one that ends with its last byte: every load lies within the packet,
/// for headers stand before the payload.
fn signature(values: &PayloadValues) -> Signature {
    let length = values.bytes.len();
    let mut signature = Signature { end: values.offset + u32::try_from(length).unwrap_or(0), ..Signature::default() };
    let starts = (0..length / 8).map(|word| word * 8).map(Some).chain((!length.is_multiple_of(8)).then_some(None));
    for (word, start) in starts.take(SIGNATURE_WORDS).enumerate() {
        // `None`: the last word, which begins eight bytes before the end.
        let begin = start.map_or_else(|| signed(length) - 8, signed);
        let mut asked = SignatureWord::default();
        for place in 0..8 {
            let at = usize::try_from(begin + place);
            let byte = at.ok().and_then(|at| Some((*values.bytes.get(at)?, *values.mask.get(at)?)));
            let (value, mask) = byte.unwrap_or((0, 0));
            asked.mask = asked.mask << 8 | u64::from(mask);
            asked.value = asked.value << 8 | u64::from(value & mask);
        }
        if let (Some(place), Some(offset)) = (signature.words.get_mut(word), signature.offsets.get_mut(word)) {
            *place = asked;
            *offset = i32::try_from(i64::from(values.offset) + begin).unwrap_or(0);
        }
        signature.words_used += 1;
    }
    signature
}

fn signed(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(0)
}
