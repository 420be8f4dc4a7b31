//! The rules an order's content must keep whatever the time and the host: in comes TOML text, out goes an [`Order`].

use super::file::{self, File, MachineInformation};
use super::window::months_later;
use super::{
    AddressPolicy, Approval, Basis, Conditions, Facility, Measure, Notification, Order, OrderError, ReceivingFacility,
    Selection, Tap,
};
use crate::keys::{parse_sha256, sha256};
use crate::limits::{ID_BYTES_MAX, INTERFACE_NAME_BYTES_MAX, KEY_EPOCH_DAYS_MAX};
use crate::prefixes;
use crate::selectors::field::Field;
use crate::selectors::values::{Values, Written};
use ipnetwork::IpNetwork;
use jiff::Timestamp;
use std::collections::BTreeSet;
use tap_common::abi::rule::ConditionKind;
use tap_common::limits::{CONDITION_KINDS, FOREIGN_TO_FOREIGN_SHARE_PPM_MAX, PPM, SIGNATURE_OFFSET_MAX};

type Result<T> = std::result::Result<T, OrderError>;

/// Reads an order's text and checks everything that can be checked from it alone.
pub(super) fn read(text: &str) -> Result<Order> {
    let File { measure, approval, notification, facility, selection, addresses, receiving_facility } =
        file::read(text)?;
    let measure = read_measure(measure)?;
    let basis = measure.basis;
    let order = Order {
        approval: read_approval(approval, basis)?,
        notification: read_notification(notification, basis)?,
        facility: read_facility(facility, basis)?,
        selection: read_selection(selection, basis)?,
        addresses: read_addresses(&addresses)?,
        receiving_facility: read_receiving_facility(receiving_facility)?,
        sha256: sha256(text.as_bytes()),
        signed_until: None,
        note: String::new(),
        measure,
    };
    if let Some(approval) = &order.approval {
        keep_conditions(&order, &approval.conditions)?;
    }
    Ok(order)
}

fn read_measure(file: file::Measure) -> Result<Measure> {
    identifier("measure.id", &file.id)?;
    let basis: Basis = file.basis.parse().map_err(|error: String| OrderError::field("measure.basis", error))?;
    distinct("measure.acts", &file.acts)?;
    for act in &file.acts {
        identifier("measure.acts", act)?;
    }
    let not_before = moment("measure.not_before", &file.not_before)?;
    let not_after = moment("measure.not_after", &file.not_after)?;
    if not_after <= not_before {
        return Err(OrderError::field("measure.not_after", "is not after measure.not_before"));
    }
    if let Some(months) = basis.months_max() {
        let last = months_later(not_before, months)
            .ok_or_else(|| OrderError::field("measure.not_before", "is beyond the calendar"))?;
        if not_after > last {
            let last = super::window::in_jst(last);
            return Err(OrderError::field(
                "measure.not_after",
                format!("over the {months} calendar months that basis {basis} allows: {last} at the latest"),
            ));
        }
    }
    let previous = file.previous.map(|text| digest("measure.previous", &text)).transpose()?;
    Ok(Measure { id: file.id, basis, acts: file.acts, not_before, not_after, previous })
}

fn read_approval(file: Option<file::Approval>, basis: Basis) -> Result<Option<Approval>> {
    match (file, basis) {
        (None, Basis::Agreement) => Ok(None),
        (Some(_), Basis::Agreement) => {
            Err(OrderError::field("approval", "the Commission does not approve agreements; give [notification]"))
        }
        (None, _) => Err(OrderError::field("approval", format!("is missing: basis {basis} needs the Commission's"))),
        (Some(file), _) => {
            identifier("approval.id", &file.id)?;
            let conditions = read_conditions(file.conditions)?;
            Ok(Some(Approval { id: file.id, conditions }))
        }
    }
}

fn read_conditions(file: file::Conditions) -> Result<Conditions> {
    let ends_by = file.ends_by.map(|text| moment("approval.conditions.ends_by", &text)).transpose()?;
    Ok(Conditions {
        share_at_most: file.share_at_most,
        sampling_at_most: file.sampling_at_most,
        ends_by,
        conditions_at_least: file.conditions_at_least,
        prefixes_excluded: networks("approval.conditions.prefixes_excluded", &file.prefixes_excluded)?,
        fields_excluded: file.fields_excluded,
        no_clear_address: file.no_clear_address,
        retention_at_most: file.retention_at_most,
        rules_at_most: file.rules_at_most,
    })
}

fn read_notification(file: Option<file::Notification>, basis: Basis) -> Result<Option<Notification>> {
    match (file, basis) {
        (Some(file), Basis::Agreement) => {
            identifier("notification.id", &file.id)?;
            Ok(Some(Notification { id: file.id }))
        }
        (None, Basis::Agreement) => {
            Err(OrderError::field("notification", "is missing: the Commission is notified of an agreement"))
        }
        (Some(_), _) => Err(OrderError::field("notification", format!("basis {basis} needs [approval] instead"))),
        (None, _) => Ok(None),
    }
}

fn read_facility(file: file::Facility, basis: Basis) -> Result<Facility> {
    identifier("facility.id", &file.id)?;
    if file.capacity_bits_per_second == 0 {
        return Err(OrderError::field("facility.capacity_bits_per_second", "is 0"));
    }
    parts("facility.share_ppm", file.share_ppm)?;
    parts("facility.sampling_ppm", file.sampling_ppm)?;
    if basis == Basis::ForeignToForeign && file.share_ppm > FOREIGN_TO_FOREIGN_SHARE_PPM_MAX {
        return Err(OrderError::field(
            "facility.share_ppm",
            format!("{} is over the {FOREIGN_TO_FOREIGN_SHARE_PPM_MAX} that Art. 17 allows (30 %)", file.share_ppm),
        ));
    }
    if file.tap.is_empty() {
        return Err(OrderError::field("facility.tap", "is missing: no host would carry the order out"));
    }
    let mut taps: Vec<Tap> = Vec::with_capacity(file.tap.len());
    for (index, tap) in file.tap.into_iter().enumerate() {
        let name = |key: &str| format!("facility.tap[{index}].{key}");
        let host_key = tap.host_key.parse().map_err(|_not_hex| {
            OrderError::field(name("host_key"), "is not 64 hex digits (`gwtap keygen host` prints it)")
        })?;
        let is_interface = (1..=INTERFACE_NAME_BYTES_MAX).contains(&tap.interface.len())
            && tap.interface.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
        if !is_interface {
            return Err(OrderError::field(name("interface"), "is not the name of a network interface"));
        }
        parts(&name("share_ppm"), tap.share_ppm)?;
        if taps.iter().any(|other| other.host_key == host_key && other.interface == tap.interface) {
            return Err(OrderError::field(name("interface"), "stands twice for this host"));
        }
        taps.push(Tap { host_key, interface: tap.interface, share_ppm: tap.share_ppm });
    }
    let sum: u64 = taps.iter().map(|tap| u64::from(tap.share_ppm)).sum();
    if sum > u64::from(file.share_ppm) {
        return Err(OrderError::field(
            "facility.tap",
            format!("the shares add up to {sum}, over the {} of facility.share_ppm", file.share_ppm),
        ));
    }
    Ok(Facility {
        id: file.id,
        capacity_bits_per_second: file.capacity_bits_per_second,
        share_ppm: file.share_ppm,
        sampling_ppm: file.sampling_ppm,
        taps,
    })
}

fn read_selection(file: file::Selection, basis: Basis) -> Result<Selection> {
    identifier("selection.standard", &file.standard)?;
    let approved_facilities = networks("selection.approved_facilities", &file.approved_facilities)?;
    let mut approved_machine_information = Vec::new();
    for (index, entry) in file.approved_machine_information.iter().enumerate() {
        let name = format!("selection.approved_machine_information[{index}]");
        approved_machine_information.push(machine_information(entry).map_err(|error| OrderError::field(name, error))?);
    }
    let party_prefixes = networks("selection.party_prefixes", &file.party_prefixes)?;
    if basis.has_approved_list() && approved_facilities.is_empty() {
        return Err(OrderError::field(
            "selection.approved_facilities",
            format!("is missing: under basis {basis} only what is approved counts (Art. 35(2))"),
        ));
    }
    if let Some(far) = file.payload_offsets.iter().find(|offset| u32::from(**offset) > SIGNATURE_OFFSET_MAX) {
        let reason = format!("{far} is over {SIGNATURE_OFFSET_MAX}, the furthest that is looked at");
        return Err(OrderError::field("selection.payload_offsets", reason));
    }
    for (field, is_empty) in [
        ("selection.approved_facilities", approved_facilities.is_empty()),
        ("selection.approved_machine_information", approved_machine_information.is_empty()),
    ] {
        if !basis.has_approved_list() && !is_empty {
            return Err(OrderError::field(field, format!("basis {basis} knows no approved list")));
        }
    }
    match (basis, party_prefixes.is_empty()) {
        (Basis::Agreement, true) => Err(OrderError::field(
            "selection.party_prefixes",
            "is missing: an agreement covers the party's own traffic only",
        )),
        (Basis::ForeignToForeign | Basis::ForeignToDomestic | Basis::DomesticToForeign, false) => {
            Err(OrderError::field("selection.party_prefixes", format!("basis {basis} has no party")))
        }
        _ => Ok(Selection {
            standard: file.standard,
            approved_facilities,
            approved_machine_information,
            party_prefixes,
            payload_offsets: file.payload_offsets,
        }),
    }
}

fn machine_information(entry: &MachineInformation) -> std::result::Result<(Field, Values), String> {
    if entry.field.kind() == ConditionKind::Address {
        return Err("addresses belong into selection.approved_facilities".to_owned());
    }
    let written = Written {
        any: entry.any.as_deref(),
        mask: entry.mask.as_deref(),
        value: entry.value.as_deref(),
        range: entry.range,
        offset: entry.offset,
        bytes: entry.bytes.as_deref(),
    };
    Ok((entry.field, Values::parse(entry.field, written)?))
}

fn read_addresses(file: &file::Addresses) -> Result<AddressPolicy> {
    let country_table_oldest_date = file
        .country_table_oldest_date
        .parse()
        .map_err(|_no_date| OrderError::field("addresses.country_table_oldest_date", "is not a date (2026-06-01)"))?;
    if !(1..=KEY_EPOCH_DAYS_MAX).contains(&file.key_epoch_days) {
        let reason = format!("{} is not from 1 to {KEY_EPOCH_DAYS_MAX}", file.key_epoch_days);
        return Err(OrderError::field("addresses.key_epoch_days", reason));
    }
    Ok(AddressPolicy {
        country_table_sha256: digest("addresses.country_table_sha256", &file.country_table_sha256)?,
        country_table_oldest_date,
        clear_addresses: file.clear_addresses,
        prefix_preserving: file.prefix_preserving,
        domestic_conditions: file.domestic_conditions,
        key_epoch_days: file.key_epoch_days,
    })
}

fn read_receiving_facility(file: file::ReceivingFacility) -> Result<ReceivingFacility> {
    let is_endpoint = |text: &String| {
        let (host, port) = text.rsplit_once(':').unwrap_or_default();
        !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0)
    };
    if !is_endpoint(&file.endpoint) {
        return Err(OrderError::field("receiving_facility.endpoint", "is not of the form host:port"));
    }
    if !file.further_endpoints.iter().all(is_endpoint) {
        return Err(OrderError::field(
            "receiving_facility.further_endpoints",
            "has one that is not of the form host:port",
        ));
    }
    distinct("receiving_facility.names", &file.names)?;
    let sealing_key = digest("receiving_facility.sealing_key", &file.sealing_key)?;
    Ok(ReceivingFacility {
        endpoint: file.endpoint,
        further_endpoints: file.further_endpoints,
        names: file.names,
        sealing_key,
    })
}

/// The conditions of the approval that bind the order itself; the rest bind its selector sets.
fn keep_conditions(order: &Order, conditions: &Conditions) -> Result<()> {
    let over = |field: &str, is: u32, limit: u32, condition: &str| {
        OrderError::field(field, format!("{is} is over the {limit} of approval.conditions.{condition}"))
    };
    if let Some(limit) = conditions.share_at_most.filter(|limit| order.facility.share_ppm > *limit) {
        return Err(over("facility.share_ppm", order.facility.share_ppm, limit, "share_at_most"));
    }
    if let Some(limit) = conditions.sampling_at_most.filter(|limit| order.facility.sampling_ppm > *limit) {
        return Err(over("facility.sampling_ppm", order.facility.sampling_ppm, limit, "sampling_at_most"));
    }
    if conditions.ends_by.is_some_and(|ends_by| order.measure.not_after > ends_by) {
        return Err(OrderError::field("measure.not_after", "is after approval.conditions.ends_by"));
    }
    if conditions.no_clear_address && order.addresses.clear_addresses {
        return Err(OrderError::field("addresses.clear_addresses", "approval.conditions.no_clear_address forbids it"));
    }
    if conditions.conditions_at_least.is_some_and(|least| least == 0 || usize::from(least) > CONDITION_KINDS) {
        let reason = format!("is not from 1 to {CONDITION_KINDS}, the kinds of condition there are");
        return Err(OrderError::field("approval.conditions.conditions_at_least", reason));
    }
    for (field, limit) in
        [("retention_at_most", conditions.retention_at_most), ("rules_at_most", conditions.rules_at_most)]
    {
        if limit == Some(0) {
            return Err(OrderError::field(format!("approval.conditions.{field}"), "is 0: nothing could be done"));
        }
    }
    for prefix in &order.selection.approved_facilities {
        if !prefixes::intersect(&[*prefix], &conditions.prefixes_excluded).is_empty() {
            let reason = format!("{prefix} is excluded by approval.conditions.prefixes_excluded");
            return Err(OrderError::field("selection.approved_facilities", reason));
        }
    }
    Ok(())
}

fn identifier(field: &str, text: &str) -> Result<()> {
    let is_good = (1..=ID_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    let reason = || format!("{text:?} is not an id: 1 to {ID_BYTES_MAX} letters, digits, '.', '_' and '-'");
    if is_good { Ok(()) } else { Err(OrderError::field(field, reason())) }
}

fn distinct(field: &str, texts: &[String]) -> Result<()> {
    if texts.is_empty() || texts.iter().any(String::is_empty) {
        return Err(OrderError::field(field, "is empty or has an empty entry"));
    }
    if texts.iter().collect::<BTreeSet<_>>().len() < texts.len() {
        return Err(OrderError::field(field, "has an entry twice"));
    }
    Ok(())
}

fn moment(field: &str, text: &str) -> Result<Timestamp> {
    text.parse().map_err(|_no_moment| {
        OrderError::field(field, "is not a moment with its offset (\"2026-12-01T00:00:00+09:00\")")
    })
}

fn digest(field: &str, text: &str) -> Result<[u8; 32]> {
    parse_sha256(text).ok_or_else(|| OrderError::field(field, "is not 64 hex digits"))
}

fn parts(field: &str, parts: u32) -> Result<()> {
    if parts == 0 || u64::from(parts) > PPM {
        return Err(OrderError::field(field, format!("{parts} is not from 1 to {PPM} parts per million")));
    }
    Ok(())
}

/// Prefixes with host bits are a slip of the pen that would widen what was meant: refused, not rounded.
fn networks(field: &str, prefixes: &[IpNetwork]) -> Result<Vec<IpNetwork>> {
    for prefix in prefixes {
        if prefix.ip() != prefix.network() {
            let reason = format!("{prefix} has host bits; did you mean {}/{}?", prefix.network(), prefix.prefix());
            return Err(OrderError::field(field, reason));
        }
    }
    Ok(prefixes::merge(prefixes.to_vec()))
}
