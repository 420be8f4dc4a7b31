//! The mirror port's own receive counters, to be compared with what the program observed.
//!
//! In: `/proc/thread-self/net/dev`, which shows the network namespace the caller is in (sysfs shows the one it was
//! mounted in). Out: packets, bytes, drops, errors.

use crate::control::status::InterfaceCounters;

const FILE: &str = "/proc/thread-self/net/dev";

/// Counters of `interface` now, or `None` if it is gone or the file cannot be read.
#[must_use]
pub fn read(interface: &str) -> Option<InterfaceCounters> {
    parse(&std::fs::read_to_string(FILE).ok()?, interface)
}

/// Line `name: bytes packets errs drop fifo frame compressed multicast …` (receive first).
fn parse(text: &str, interface: &str) -> Option<InterfaceCounters> {
    let counters = text.lines().find_map(|line| {
        let (name, counters) = line.split_once(':')?;
        (name.trim() == interface).then_some(counters)
    })?;
    let mut numbers = counters.split_ascii_whitespace().map(str::parse::<u64>);
    let mut next = || numbers.next()?.ok();
    Some(InterfaceCounters {
        receive_bytes: next()?,
        receive_packets: next()?,
        receive_errors: next()?,
        receive_dropped: next()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Inter-|   Receive                                                |  Transmit\n \
        face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    \
        lo: 1100      12    0    0    0     0          0         0     1100      12    0    0    0     0       0          0\n\
        mirror0: 123456789 98765 3 17    0     0          0         0        0       0    0    0    0     0       0          0\n";

    #[test]
    fn the_line_of_the_interface_is_read() {
        let expected = InterfaceCounters {
            receive_packets: 98_765,
            receive_bytes: 123_456_789,
            receive_dropped: 17,
            receive_errors: 3,
        };
        assert_eq!(parse(TEXT, "mirror0"), Some(expected));
        assert_eq!(parse(TEXT, "mirror"), None);
        assert_eq!(parse("mirror0: 1 2 x", "mirror0"), None);
    }

    #[test]
    fn this_machines_loopback_is_there() {
        assert!(read("lo").is_some());
        assert!(read("no-such-port").is_none());
    }
}
