//! An explanation as a person reads it.

use super::Explanation;
use std::fmt;

impl fmt::Display for Explanation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "packet {}", self.line.packet)?;
        for stage in &self.stages {
            let said = if stage.reached { stage.said.as_str() } else { "not reached" };
            writeln!(f, "{:<10} {said}", stage.stage)?;
            for saw in &stage.saw {
                writeln!(f, "{:<10}   saw {saw}", "")?;
            }
            if stage.stage == "parse" && self.line.fields.is_some() {
                self.fields(f)?;
            }
            if stage.stage == "select" {
                self.rules(f)?;
            }
        }
        match &self.record {
            Some(record) => writeln!(f, "{:<10} at {} ns, {} bytes", "record", record.time_ns, record.line_bytes),
            None => writeln!(f, "{:<10} none", "record"),
        }
    }
}

impl Explanation<'_> {
    fn fields(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(fields) = &self.line.fields else { return Ok(()) };
        let port = |port: Option<u16>| port.map_or_else(|| "-".to_owned(), |port| port.to_string());
        let (source, destination) = (fields.source, fields.destination);
        writeln!(
            f,
            "{:<10}   {source} port {} to {destination} port {}, protocol {}, flags {}, length {}, fragment {}",
            "",
            port(fields.source_port),
            port(fields.destination_port),
            fields.protocol,
            fields.tcp_flags.map_or_else(|| "-".to_owned(), |flags| format!("{flags:#04x}")),
            fields.ip_length,
            fields.fragment,
        )
    }

    fn rules(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for rule in &self.rules {
            match &rule.failed {
                _ if rule.matches => writeln!(f, "{:<10}   rule {} matches", "", rule.rule)?,
                Some(failed) => writeln!(
                    f,
                    "{:<10}   rule {} fails at {}: the packet has {}",
                    "", rule.rule, failed.condition, failed.packet
                )?,
                None => writeln!(f, "{:<10}   rule {} has too few counted conditions", "", rule.rule)?,
            }
        }
        Ok(())
    }
}
