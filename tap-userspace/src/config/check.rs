//! Bounds of the configuration's values, and what may not stand beside what.

use super::{Acknowledgement, Config, CountryFormat, Export, Kind, Measure, Mode, Synchronised, api};
use crate::limits;
use crate::transport::nats;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use tap_common::limits::MEASURES_MAX;

type Refusal = (String, String);

/// First violation found: the key and what to write instead.
pub(super) fn check(config: &Config) -> Result<(), Refusal> {
    if config.host.name.is_empty() || !config.host.name.chars().all(is_name_character) {
        return refuse("host.name", "must be letters, digits, '.', '-' or '_', at least one");
    }
    check_interface(&config.mirror.interface)?;
    check_transport(config)?;
    check_measures(config)?;
    if !config.metrics.listen.ip().is_loopback() {
        return refuse(
            "metrics.listen",
            format!("{} is not loopback; write 127.0.0.1:PORT or [::1]:PORT", config.metrics.listen),
        );
    }
    for time in &config.sampling.new_seed_at {
        if let Err(error) = time.parse::<jiff::civil::Time>() {
            return refuse("sampling.new_seed_at", format!("`{time}` is not HH:MM ({error})"));
        }
    }
    check_country_table(config)?;
    config.control.api.as_ref().map_or(Ok(()), api::Api::check)?;
    check_paths(config)
}

fn refuse<T>(key: impl Into<String>, reason: impl Into<String>) -> Result<T, Refusal> {
    Err((key.into(), reason.into()))
}

/// Each measure, and what two of them may not share.
fn check_measures(config: &Config) -> Result<(), Refusal> {
    let measures = &config.measures;
    if measures.is_empty() || measures.len() > MEASURES_MAX {
        return refuse("measure", format!("{} tables [[measure]]; a tap carries 1 to {MEASURES_MAX}", measures.len()));
    }
    let mut spools = BTreeMap::new();
    for (index, measure) in measures.iter().enumerate() {
        check_measure(config, measure).map_err(|(key, reason)| (format!("measure[{index}].{key}"), reason))?;
        if let Some(other) = spools.insert(&measure.spool.directory, index) {
            return refuse(
                format!("measure[{index}].spool.directory"),
                format!("is that of measure[{other}] too; each measure has a spool of its own"),
            );
        }
    }
    Ok(())
}

fn check_measure(config: &Config, measure: &Measure) -> Result<(), Refusal> {
    measure.export.receivers().try_for_each(|(endpoint, server_name)| check_receiver(config, endpoint, server_name))?;
    check_stream(&measure.export)?;
    if measure.spool.bytes_max < limits::SPOOL_BYTES_MIN {
        return refuse(
            "spool.bytes_max",
            format!("{} is under {} (two segments)", measure.spool.bytes_max, limits::SPOOL_BYTES_MIN),
        );
    }
    match measure.paths().into_iter().find(|(_, path)| path.as_os_str().is_empty()) {
        Some((key, _)) => refuse(key, "is empty; write a path"),
        None => Ok(()),
    }
}

fn check_receiver(config: &Config, endpoint: &str, server_name: &str) -> Result<(), Refusal> {
    let Some((host, _port)) = split_endpoint(endpoint) else {
        return refuse("export.endpoint", format!("`{endpoint}` is not HOST:PORT"));
    };
    if server_name.is_empty() {
        return refuse("export.server_name", "is empty; write the name in the receiving facility's certificate");
    }
    let clock = &config.clock;
    if clock.synchronised == Synchronised::NotRequired && !clock.laboratory_namespace && !is_loopback(host) {
        return refuse(
            "export.endpoint",
            format!(
                "clock.synchronised: \"not-required\" is refused while endpoint {endpoint} is not loopback; synchronise \
                 this machine's clock (chrony, ntpd, systemd-timesyncd) and write \"required\""
            ),
        );
    }
    Ok(())
}

/// What belongs to a stream stands beside one alone, and the stream's acknowledgement is not optional.
fn check_stream(export: &Export) -> Result<(), Refusal> {
    match (export.kind, &export.stream) {
        (Kind::Ipfix, Some(_)) => {
            refuse("export.stream", "is for kind = \"jetstream\" alone; take it out, or write the kind")
        }
        (Kind::Jetstream, Some(stream)) if !nats::is_stream_name(stream) => {
            refuse("export.stream", format!("`{stream}` is no name of a stream; write letters, digits, '-' or '_'"))
        }
        (Kind::Jetstream, _) if export.acknowledgement == Acknowledgement::None => {
            refuse("export.acknowledgement", "\"none\" is not for kind = \"jetstream\": its servers always acknowledge")
        }
        (Kind::Ipfix | Kind::Jetstream, _) => Ok(()),
    }
}

fn check_interface(name: &str) -> Result<(), Refusal> {
    let allowed = !name.is_empty()
        && name.len() <= limits::INTERFACE_NAME_BYTES_MAX
        && name != "lo"
        && !name.contains(|c: char| c.is_whitespace() || c == '/');
    if allowed {
        return Ok(());
    }
    refuse(
        "mirror.interface",
        format!("`{name}` is not a mirror port's name; `ip link` lists this machine's interfaces"),
    )
}

fn check_transport(config: &Config) -> Result<(), Refusal> {
    let Some(transport) = &config.mirror.transport else { return Ok(()) };
    if config.mirror.mode == Mode::Inline {
        return refuse(
            "mirror.transport",
            "is for a port that receives copies; take the section out, or write mode = \"mirror\"",
        );
    }
    transport.constants().map(drop).map_err(|(key, reason)| (format!("mirror.transport.{key}"), reason))
}

fn check_country_table(config: &Config) -> Result<(), Refusal> {
    let table = &config.country_table;
    match (&table.date, table.format) {
        (None, CountryFormat::Csv) => {
            refuse("country_table.date", "is missing; a range CSV does not carry its day, write \"YYYY-MM-DD\"")
        }
        (Some(date), _) => date
            .parse::<jiff::civil::Date>()
            .map(|_| ())
            .map_err(|error| ("country_table.date".into(), format!("`{date}` is not YYYY-MM-DD ({error})"))),
        (None, CountryFormat::Delegated) => Ok(()),
    }
}

/// A path that is empty would name the configuration's own directory.
fn check_paths(config: &Config) -> Result<(), Refusal> {
    let paths: [(&'static str, &Path); 9] = [
        ("host.key_file", &config.host.key_file),
        ("host.sealing_key_file", &config.host.sealing_key_file),
        ("trust.roots_file", &config.trust.roots_file),
        ("mirror.pin_directory", &config.mirror.pin_directory),
        ("country_table.file", &config.country_table.file),
        ("control.socket", &config.control.socket),
        ("state.directory", &config.state.directory),
        ("log.directory", &config.log.directory),
        ("log.key_file", &config.log.key_file),
    ];
    match paths.into_iter().find(|(_, path)| path.as_os_str().is_empty()) {
        Some((key, _)) => refuse(key, "is empty; write a path"),
        None => Ok(()),
    }
}

fn is_name_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')
}

/// Host and port of `host:port` or `[v6]:port`; the port is not 0.
fn split_endpoint(endpoint: &str) -> Option<(&str, u16)> {
    let (host, port) = endpoint.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    let port: u16 = port.parse().ok()?;
    (!host.is_empty() && port != 0).then_some((host, port))
}

/// Whether the endpoint cannot leave this machine. A name other than `localhost` is not resolved: it may change.
fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| SocketAddr::new(address, 0).ip().is_loopback())
}
