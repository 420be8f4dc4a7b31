//! Files: certificates and their ends, secret keys, room on disks. In: a [`Machine`]. Out: findings.

use super::{Certificate, Directory, Finding, KeyFile, Machine};
use crate::limits::CERTIFICATE_WARNING_S;

pub(super) fn findings(machine: &Machine) -> Vec<Finding> {
    let certificates = machine.certificates.iter().map(certificate);
    let keys = machine.keys.iter().map(key);
    let directories = machine.directories.iter().map(directory);
    certificates.chain(keys).chain(directories).collect()
}

fn certificate(certificate: &Certificate) -> Finding {
    const CHECK: &str = "certificate";
    let file = certificate.file.display();
    let (begins, ends) = match &certificate.period {
        Ok(period) => *period,
        Err(reason) => {
            return Finding::failed(CHECK, format!("{file}: {reason}"), "put the certificate there as PEM");
        }
    };
    let now = certificate.now_unix_s;
    let renew = "put a new certificate there; it is taken up within seconds, without a restart";
    if now < begins {
        return Finding::failed(CHECK, format!("{file} begins at {}", day(begins)), "see to the clock, or wait");
    }
    if now >= ends {
        return Finding::failed(CHECK, format!("{file} ended at {}", day(ends)), renew);
    }
    if ends - now < CERTIFICATE_WARNING_S {
        return Finding::warning(CHECK, format!("{file} ends at {}", day(ends)), renew);
    }
    Finding::ok(CHECK, format!("{file} ends at {}", day(ends)))
}

fn day(unix_s: i64) -> String {
    jiff::Timestamp::from_second(unix_s).map_or_else(|_| format!("{unix_s} s"), |time| time.to_string())
}

fn key(key: &KeyFile) -> Finding {
    const CHECK: &str = "key";
    let file = key.file.display();
    match &key.mode {
        Ok(mode) if mode & 0o077 == 0 => Finding::ok(CHECK, format!("{file} is its owner's alone")),
        Ok(mode) => Finding::failed(
            CHECK,
            format!("{file} may be read by others (mode {:04o})", mode & 0o7777),
            format!("chmod 0600 {file}; if others could log in here, make a new key"),
        ),
        Err(reason) => Finding::failed(
            CHECK,
            format!("{file}: {reason}"),
            "gwtap keygen makes the host's, the log's and the spool's; the pseudonym key comes sealed, the TLS key from your \
             authority",
        ),
    }
}

fn directory(directory: &Directory) -> Finding {
    const CHECK: &str = "disk";
    let place = format!("{} ({})", directory.path.display(), directory.key);
    let mib = |bytes: u64| format!("{} MiB", bytes.div_ceil(1 << 20));
    match &directory.free_bytes {
        Ok(free) if *free >= directory.most_bytes => Finding::ok(CHECK, format!("{place}: {} free", mib(*free))),
        Ok(free) if *free >= directory.least_bytes => Finding::warning(
            CHECK,
            format!("{place}: {} free, it may come to take {}", mib(*free), mib(directory.most_bytes)),
            "make room, or lower [measure.spool] bytes_max",
        ),
        Ok(free) => Finding::failed(
            CHECK,
            format!("{place}: {} free, it needs {}", mib(*free), mib(directory.least_bytes)),
            "make room: what cannot be written stops the tap",
        ),
        Err(reason) => Finding::failed(CHECK, format!("{place}: {reason}"), "make the directory's parents readable"),
    }
}
