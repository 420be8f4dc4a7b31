//! The least of HTTP that asking a server on a host's loopback takes. In: a path. Out: the body of its answer, whatever the
//! status: Prometheus explains its refusals there.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::lab::Host;

/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Asks by HTTP/1.0, whose answers end with the connection.
pub(super) fn get(host: &Host, port: u16, path: &str) -> Result<String> {
    let answer = host.enter(|| -> Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    })??;
    let (_head, body) = answer.split_once("\r\n\r\n").context("an answer without a header")?;
    Ok(body.to_owned())
}

/// Percent-encoding (RFC 3986, section 2) of everything but letters and digits.
pub(super) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            out.push(char::from(byte));
        } else {
            // Writing into a String cannot fail.
            write!(out, "%{byte:02X}").ok();
        }
    }
    out
}
