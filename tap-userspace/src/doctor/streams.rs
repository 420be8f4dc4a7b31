//! Streams: whether the servers that messages are to be published to can be reached as the configuration wants it, and whether their
//! stream keeps what it acknowledges (`docs/jetstream.md`). In: a [`Machine`]. Out: findings, one for each server.

use super::{Finding, Machine, StreamAnswer, StreamOf};

const CHECK: &str = "stream";

pub(super) fn findings(machine: &Machine) -> Vec<Finding> {
    machine.streams.iter().flat_map(of_measure).collect()
}

fn of_measure(of: &StreamOf) -> Vec<Finding> {
    let StreamOf { key, stream, .. } = of;
    let servers = match &of.servers {
        Ok(servers) => servers,
        Err(reason) => {
            let mend = "put certificate, key and authority of this host there: without them nobody is connected to";
            return vec![Finding::failed(CHECK, format!("{key}: {reason}"), mend)];
        }
    };
    let any = servers.iter().any(|server| matches!(server.answer, StreamAnswer::Good));
    let finding = |server: &super::StreamServer| {
        let place = format!("{} ({key})", server.endpoint);
        match &server.answer {
            StreamAnswer::Good => Finding::ok(CHECK, format!("{place}: stream {stream} keeps what it acknowledges")),
            // All servers show the same stream: what one says of it is so.
            StreamAnswer::Bad(reason) => Finding::failed(
                CHECK,
                format!("{place}: {reason}"),
                "make or change the stream as docs/jetstream.md has it (`gwtap receive --from-jetstream` makes one); nothing is \
                 published before",
            ),
            StreamAnswer::Unreachable(reason) => {
                let found = format!("{place}: {reason}");
                let mend = "see to the server, the way to it, and both sides' certificates: records wait in the spool meanwhile";
                if any { Finding::warning(CHECK, found, mend) } else { Finding::failed(CHECK, found, mend) }
            }
        }
    };
    servers.iter().map(finding).collect()
}
