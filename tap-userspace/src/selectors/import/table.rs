//! CSV: a header row names the columns as a set names its fields; a cell holds alternatives, separated by spaces; an empty
//! cell says nothing. Further columns: `payload-offset` (0 if empty), `payload-mask`, `valid-until`.

use super::entry::{Entry, Place, Reading};
use crate::selectors::field::{Field, Item};
use crate::selectors::set::Condition;
use csv::{ByteRecord, ReaderBuilder};

/// Fields whose cells are alternatives.
const FIELDS: [Field; 8] = [
    Field::SourceAddress,
    Field::DestinationAddress,
    Field::Address,
    Field::SourcePort,
    Field::DestinationPort,
    Field::Port,
    Field::Protocol,
    Field::Fragment,
];

#[derive(Clone, Copy, PartialEq)]
enum Column {
    Any(Field),
    PayloadBytes,
    PayloadOffset,
    PayloadMask,
    ValidUntil,
}

pub(super) fn read(bytes: &[u8]) -> Result<Reading, String> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut reader = ReaderBuilder::new().flexible(true).comment(Some(b'#')).from_reader(bytes);
    let header = reader.byte_headers().map_err(|error| problem(&error))?.clone();
    let columns = columns(&header)?;
    let mut reading = Reading::default();
    for record in reader.into_byte_records() {
        let record = record.map_err(|error| problem(&error))?;
        let place = Place::Line(record.position().map_or(0, csv::Position::line));
        match row(&columns, &record) {
            Ok(Some((rule, until))) => reading.entries.push(Entry { place, rules: vec![rule], until }),
            Ok(None) => reading.skip("rows without values"),
            Err(reason) => reading.refused.push((place, reason)),
        }
    }
    Ok(reading)
}

/// The parser's complaint by its place; its own text could hold bytes of the file.
fn problem(error: &csv::Error) -> String {
    match error.position() {
        Some(position) => format!("line {}: is not CSV", position.line()),
        None => "is not CSV".to_owned(),
    }
}

fn columns(header: &ByteRecord) -> Result<Vec<Column>, String> {
    let mut columns = Vec::with_capacity(header.len());
    for (index, name) in header.iter().enumerate() {
        let name = std::str::from_utf8(name).unwrap_or_default().trim();
        let column = match name {
            "payload" => Some(Column::PayloadBytes),
            "payload-offset" => Some(Column::PayloadOffset),
            "payload-mask" => Some(Column::PayloadMask),
            "valid-until" => Some(Column::ValidUntil),
            name => FIELDS.into_iter().find(|field| field.name() == name).map(Column::Any),
        };
        let Some(column) = column else {
            let known: Vec<_> = FIELDS.iter().map(|field| field.name()).collect();
            return Err(format!(
                "column {} is none that is known; the first line names {}, payload, payload-offset, payload-mask, valid-until",
                index + 1,
                known.join(", ")
            ));
        };
        if columns.contains(&column) {
            return Err(format!("column {} stands twice", index + 1));
        }
        columns.push(column);
    }
    if columns.is_empty() {
        return Err("has no header row".to_owned());
    }
    Ok(columns)
}

type Row = Option<(Vec<Condition>, Option<jiff::Timestamp>)>;

fn row(columns: &[Column], record: &ByteRecord) -> Result<Row, String> {
    if record.len() != columns.len() {
        return Err(format!("has {} cells, the header {}", record.len(), columns.len()));
    }
    let mut rule = Vec::new();
    let (mut until, mut payload) = (None, Condition::empty(Item::Command, Field::Payload));
    for (column, cell) in columns.iter().zip(record) {
        let cell = std::str::from_utf8(cell).map_err(|_bytes| "is not text (UTF-8)".to_owned())?.trim();
        if cell.is_empty() {
            continue;
        }
        match column {
            Column::Any(field) => rule.push(alternatives(*field, cell)),
            Column::PayloadBytes => payload.bytes = Some(cell.to_ascii_lowercase()),
            Column::PayloadMask => payload.mask = Some(cell.to_ascii_lowercase()),
            Column::PayloadOffset => {
                payload.offset = Some(cell.parse().map_err(|_number| "payload-offset: is not a number".to_owned())?);
            }
            Column::ValidUntil => {
                let wrong = "valid-until: is not a moment with its offset (2026-12-01T00:00:00+09:00)";
                until = Some(cell.parse().map_err(|_moment| wrong.to_owned())?);
            }
        }
    }
    if payload.bytes.is_some() {
        payload.offset = payload.offset.or(Some(0));
        rule.push(payload);
    } else if payload.mask.is_some() || payload.offset.is_some() {
        return Err("payload-offset and payload-mask need payload beside them".to_owned());
    }
    Ok((!rule.is_empty()).then_some((rule, until)))
}

fn alternatives(field: Field, cell: &str) -> Condition {
    let any = cell.split_ascii_whitespace().map(str::to_owned).collect();
    let is_address = matches!(field, Field::SourceAddress | Field::DestinationAddress | Field::Address);
    Condition::any(if is_address { Item::FacilityAddress } else { Item::Aid }, field, any)
}
