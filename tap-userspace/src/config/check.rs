//! Bounds of the configuration's values, and what may not stand beside what.

use super::{Config, CountryFormat, Mode, Synchronised};
use crate::limits;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

type Refusal = (&'static str, String);

/// First violation found: the key and what to write instead.
pub(super) fn check(config: &Config) -> Result<(), Refusal> {
    if config.host.name.is_empty() || !config.host.name.chars().all(is_name_character) {
        return Err(("host.name", "must be letters, digits, '.', '-' or '_', at least one".into()));
    }
    check_interface(&config.mirror.interface)?;
    check_transport(config)?;
    let (host, _port) = split_endpoint(&config.export.endpoint)
        .ok_or(("export.endpoint", format!("`{}` is not HOST:PORT", config.export.endpoint)))?;
    if config.export.server_name.is_empty() {
        return Err(("export.server_name", "is empty; write the name in the receiving facility's certificate".into()));
    }
    if config.clock.synchronised == Synchronised::NotRequired
        && !config.clock.laboratory_namespace
        && !is_loopback(host)
    {
        return Err((
            "clock.synchronised",
            format!(
                "\"not-required\" is refused while export.endpoint {} is not loopback; synchronise this machine's \
                 clock (chrony, ntpd, systemd-timesyncd) and write \"required\"",
                config.export.endpoint
            ),
        ));
    }
    if !config.metrics.listen.ip().is_loopback() {
        return Err((
            "metrics.listen",
            format!("{} is not loopback; write 127.0.0.1:PORT or [::1]:PORT", config.metrics.listen),
        ));
    }
    if config.spool.bytes_max < limits::SPOOL_BYTES_MIN {
        return Err((
            "spool.bytes_max",
            format!("{} is under {} (two segments)", config.spool.bytes_max, limits::SPOOL_BYTES_MIN),
        ));
    }
    check_country_table(config)?;
    check_paths(config)
}

fn check_interface(name: &str) -> Result<(), Refusal> {
    let allowed = !name.is_empty()
        && name.len() <= limits::INTERFACE_NAME_BYTES_MAX
        && name != "lo"
        && !name.contains(|c: char| c.is_whitespace() || c == '/');
    if allowed {
        return Ok(());
    }
    Err((
        "mirror.interface",
        format!("`{name}` is not a mirror port's name; `ip link` lists this machine's interfaces"),
    ))
}

fn check_transport(config: &Config) -> Result<(), Refusal> {
    let Some(transport) = &config.mirror.transport else { return Ok(()) };
    if config.mirror.mode == Mode::Inline {
        return Err((
            "mirror.transport",
            "is for a port that receives copies; take the section out, or write mode = \"mirror\"".into(),
        ));
    }
    transport.constants().map(drop).map_err(|(key, reason)| match key {
        "port" => ("mirror.transport.port", reason),
        "key" => ("mirror.transport.key", reason),
        _ => ("mirror.transport.local", reason),
    })
}

fn check_country_table(config: &Config) -> Result<(), Refusal> {
    let table = &config.country_table;
    match (&table.date, table.format) {
        (None, CountryFormat::Csv) => {
            Err(("country_table.date", "is missing; a range CSV does not carry its day, write \"YYYY-MM-DD\"".into()))
        }
        (Some(date), _) => date
            .parse::<jiff::civil::Date>()
            .map(|_| ())
            .map_err(|error| ("country_table.date", format!("`{date}` is not YYYY-MM-DD ({error})"))),
        (None, CountryFormat::Delegated) => Ok(()),
    }
}

/// A path that is empty would name the configuration's own directory.
fn check_paths(config: &Config) -> Result<(), Refusal> {
    let paths: [(&'static str, &Path); 16] = [
        ("host.key_file", &config.host.key_file),
        ("host.sealing_key_file", &config.host.sealing_key_file),
        ("trust.roots_file", &config.trust.roots_file),
        ("order.file", &config.order.file),
        ("selectors.set_file", &config.selectors.set_file),
        ("selectors.activation_file", &config.selectors.activation_file),
        ("mirror.pin_directory", &config.mirror.pin_directory),
        ("country_table.file", &config.country_table.file),
        ("pseudonyms.key_file", &config.pseudonyms.key_file),
        ("spool.directory", &config.spool.directory),
        ("spool.key_file", &config.spool.key_file),
        ("export.ca_file", &config.export.ca_file),
        ("export.certificate_file", &config.export.certificate_file),
        ("export.key_file", &config.export.key_file),
        ("control.socket", &config.control.socket),
        ("state.directory", &config.state.directory),
    ];
    match paths.into_iter().find(|(_, path)| path.as_os_str().is_empty()) {
        Some((key, _)) => Err((key, "is empty; write a path".into())),
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
