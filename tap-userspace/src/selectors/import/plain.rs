//! Plain lists: an address or prefix on each line. Empty lines and comments (`#`, `;`) are no entries.

use super::entry::{Entry, Place, Reading};
use crate::selectors::field::Field;

pub(super) fn read(bytes: &[u8], field: Field) -> Result<Reading, String> {
    let mut reading = Reading::default();
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    for (number, line) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
        let place = Place::Line(number);
        let Ok(line) = std::str::from_utf8(line) else {
            reading.refused.push((place, "is not text (UTF-8)".to_owned()));
            continue;
        };
        let line = line.split(['#', ';']).next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        reading.entries.push(Entry { place, rules: vec![vec![super::address(field, line.to_owned())]], until: None });
    }
    Ok(reading)
}
