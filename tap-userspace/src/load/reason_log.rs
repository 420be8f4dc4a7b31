//! Reason log: what the program logs, passed on to the agent's log. It logs reason codes and nothing else.

use super::LoadError;
use aya::Ebpf;
use aya_log::EbpfLogger;

/// The program's log of one generation.
pub(super) struct ReasonLog(EbpfLogger<ToTracing>);

impl ReasonLog {
    pub(super) fn open(ebpf: &mut Ebpf) -> Result<Self, LoadError> {
        let logger = EbpfLogger::init_with_logger(ebpf, ToTracing);
        logger.map(Self).map_err(|error| LoadError::kernel("open the program's log", error))
    }

    pub(super) fn flush(&mut self) {
        self.0.flush();
    }
}

/// aya-log speaks to the `log` crate's interface; the agent's log is `tracing`'s.
struct ToTracing;

impl log::Log for ToTracing {
    fn enabled(&self, _metadata: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let text = record.args().to_string();
        let code = text.strip_prefix("reason ").and_then(|code| code.parse::<usize>().ok());
        let name = code.and_then(|code| tap_common::abi::counter::REASON_NAMES.get(code));
        tracing::info!(target: "gwtap::kernel", reason = name.copied().unwrap_or("unknown"), "packet not parsed");
    }

    fn flush(&self) {}
}
