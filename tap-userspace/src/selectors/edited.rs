//! An edit: what is new in a selector set beside another one, so that a change of a few indicators among a million travels alone.
//!
//! In: the text of a set that the reader has. Out: a text that begins with [`BEGIN`] and the base's digest; behind it a line of JSON
//! for each place that changes, in ascending order. Applied it gives the new set byte for byte: what two persons sign is the digest
//! of the whole, as ever. Messages quote nothing of either.

use crate::keys::sha256;
use crate::limits::SELECTOR_SET_BYTES_MAX;
use imara_diff::{Algorithm, Diff, InternedInput};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The first line of an edit.
pub const BEGIN: &str = "gwtap edited selector set 1\n";

/// Where an indicator ends, in sets that people or programs write.
const ENDS: [char; 2] = [',', '\n'];

/// One place that changes.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    /// Bytes of the base before it.
    at: usize,
    /// Bytes of the base that are gone.
    remove: usize,
    /// What stands there instead.
    insert: String,
}

/// Why an edit gives no set.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// It is of another base.
    #[error("it is an edit of set {named}, and here is {here}; make it anew: gwtap selectors edit")]
    Base {
        /// Digest of the base that it names.
        named: String,
        /// Digest of the text that is here.
        here: String,
    },
    /// A line is not of its form.
    #[error("line {0} of the edit is no place of its base")]
    Line(usize),
    /// What comes out is too large for a set.
    #[error("the edited set has more than {SELECTOR_SET_BYTES_MAX} bytes")]
    Size,
}

/// The edit that makes `new` of `base`.
///
/// # Errors
/// A place cannot be written.
pub fn edit(base: &str, new: &str) -> Result<String, serde_json::Error> {
    let mut input = InternedInput::default();
    input.update_before(base.split_inclusive(ENDS));
    input.update_after(new.split_inclusive(ENDS));
    let diff = Diff::compute(Algorithm::Histogram, &input);
    let (old_ends, new_ends) = (ends(base), ends(new));
    let mut text = format!("{BEGIN}{}\n", hex::encode(sha256(base.as_bytes())));
    for hunk in diff.hunks() {
        let byte = |ends: &[usize], token: u32| ends.get(token as usize).copied().unwrap_or_default();
        let (at, until) = (byte(&old_ends, hunk.before.start), byte(&old_ends, hunk.before.end));
        let insert = byte(&new_ends, hunk.after.start)..byte(&new_ends, hunk.after.end);
        let insert = new.get(insert).unwrap_or_default().to_owned();
        text += &serde_json::to_string(&Place { at, remove: until - at, insert })?;
        text.push('\n');
    }
    Ok(text)
}

/// Where each token begins, and the end of the last.
fn ends(text: &str) -> Vec<usize> {
    let mut end = 0;
    let ends = text.split_inclusive(ENDS).map(|token| {
        end += token.len();
        end
    });
    std::iter::once(0).chain(ends).collect()
}

/// Whether a text is an edit, by its first line.
#[must_use]
pub fn is_edit(text: &str) -> bool {
    text.starts_with(BEGIN)
}

/// The set that an edit makes of `base`; a text that is no edit as it is.
///
/// # Errors
/// It is of another base, or not of its form.
pub fn apply(text: String, base: &str) -> Result<String, EditError> {
    let Some(edit) = text.strip_prefix(BEGIN) else { return Ok(text) };
    let mut lines = edit.lines();
    let (named, here) = (lines.next().unwrap_or_default().to_owned(), hex::encode(sha256(base.as_bytes())));
    if named != here {
        let named = if is_digest(&named) { named } else { "?".to_owned() };
        return Err(EditError::Base { named, here });
    }
    let mut made = Zeroizing::new(String::with_capacity(base.len().min(SELECTOR_SET_BYTES_MAX)));
    let mut taken = 0;
    for (line, place) in (3..).zip(lines) {
        let wrong = || EditError::Line(line);
        let Place { at, remove, insert } = serde_json::from_str(place).map_err(|_content| wrong())?;
        let kept = base.get(taken..at).ok_or_else(wrong)?;
        taken = at.checked_add(remove).filter(|end| base.is_char_boundary(*end)).ok_or_else(wrong)?;
        grow(&mut made, kept)?;
        grow(&mut made, &insert)?;
    }
    grow(&mut made, base.get(taken..).unwrap_or_default())?;
    Ok(std::mem::take(&mut *made))
}

fn grow(made: &mut String, more: &str) -> Result<(), EditError> {
    if made.len() + more.len() > SELECTOR_SET_BYTES_MAX {
        return Err(EditError::Size);
    }
    made.push_str(more);
    Ok(())
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(addresses: &[String]) -> String {
        serde_json::json!({"measure": "m-1", "rules": [{"any": addresses}]}).to_string()
    }

    proptest! {
        #[test]
        fn an_edit_makes_the_new_set_of_its_base_byte_for_byte(base in "[a-c,é\n\"]{0,60}", new in "[a-c,é\n\"]{0,60}") {
            let made = edit(&base, &new).unwrap();
            prop_assert!(is_edit(&made));
            prop_assert_eq!(apply(made, &base).unwrap(), new);
        }

        #[test]
        fn whatever_an_edit_says_it_gives_a_text_or_a_refusal(
            places in proptest::collection::vec((0_usize..12, 0_usize..12, "[a,é]{0,3}"), 0..4),
        ) {
            let base = "aé,bé,c";
            let mut text = format!("{BEGIN}{}\n", hex::encode(sha256(base.as_bytes())));
            for (at, remove, insert) in places {
                text += &format!("{}\n", serde_json::json!({"at": at, "remove": remove, "insert": insert}));
            }
            let _made_or_refused = apply(text, base);
        }
    }

    #[test]
    fn a_thousand_of_many_travel_alone() {
        let address = |index: u32| std::net::Ipv4Addr::from(0xcb00_0000 + index * 3).to_string();
        let base = set(&(0..50_000).map(address).collect::<Vec<_>>());
        // One in a hundred is another; they stand anywhere.
        let changed = (0..50_000).map(|index| address(if index % 100 == 7 { index + 60_000 } else { index }));
        let new = set(&changed.collect::<Vec<_>>());
        let made = edit(&base, &new).unwrap();
        assert_eq!(made.lines().count(), 2 + 500);
        assert!(made.len() * 15 < new.len(), "{} of {} bytes", made.len(), new.len());
        assert_eq!(apply(made, &base).unwrap(), new);
    }

    #[test]
    fn what_is_no_edit_of_this_base_is_refused_without_a_quote() {
        let base = "one,two";
        let made = edit(base, "one,canary,two").unwrap();
        let other = apply(made.clone(), "one,three").unwrap_err();
        assert!(matches!(other, EditError::Base { .. }), "{other}");
        let digest = hex::encode(sha256(base.as_bytes()));
        for (lines, line) in [
            ("{\"at\":1,\"remove\":99,\"insert\":\"canary\"}", 3),
            ("{\"at\":4,\"remove\":1,\"insert\":\"\"}\n{\"at\":1,\"remove\":1,\"insert\":\"canary\"}", 4),
            ("canary", 3),
            ("{\"at\":1,\"remove\":18446744073709551615,\"insert\":\"canary\"}", 3),
        ] {
            let refused = apply(format!("{BEGIN}{digest}\n{lines}\n"), base).unwrap_err();
            assert_eq!(refused, EditError::Line(line));
            assert!(!refused.to_string().contains("canary"));
        }
        let named = apply(format!("{BEGIN}canary\n"), base).unwrap_err().to_string();
        assert!(!named.contains("canary"), "{named}");
        let huge = serde_json::json!({"at": 0, "remove": 0, "insert": "x".repeat(SELECTOR_SET_BYTES_MAX)});
        assert_eq!(apply(format!("{BEGIN}{digest}\n{huge}\n"), base), Err(EditError::Size));
        assert_eq!(apply("{}".to_owned(), base).unwrap(), "{}");
    }
}
