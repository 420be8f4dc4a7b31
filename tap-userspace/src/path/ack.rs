//! Acknowledgements: what the receiving facility has stored durably, and what the spool may therefore forget.
//!
//! In: the peer's side of an export session (`docs/export.md`). Out: the highest contiguous spool sequence. It must never
//! see a record: the peer sends options only. Bounded by one message; only the newest acknowledgement is kept.

use tokio::io::AsyncRead;
use tokio::sync::watch;

use crate::ipfix::decode::{self, Templates};
use crate::ipfix::typed;
use crate::keys::HostKeyId;
use crate::path::export::ExportError;
use crate::transport::frame;

/// Characters of a peer's reason that are shown.
const REASON_CHARACTERS_MAX: usize = 200;

/// Reads answers about `spool` of `host` until the session ends, and says why it ended.
pub(super) async fn follow<R: AsyncRead + Unpin>(
    mut stream: R,
    host: HostKeyId,
    spool: [u8; 16],
    acknowledged: watch::Sender<Option<u64>>,
) -> ExportError {
    let mut templates = Templates::default();
    loop {
        let bytes = match frame::read(&mut stream).await {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return ExportError::Closed,
            Err(source) => return ExportError::Io { step: "waiting for acknowledgements", source },
        };
        match newest(&bytes, &mut templates, host, spool) {
            Ok(Some(through)) => acknowledged.send_modify(|known| *known = (*known).max(Some(through))),
            Ok(None) => {}
            Err(error) => return error,
        }
    }
}

/// The highest acknowledgement in one message.
fn newest(
    bytes: &[u8],
    templates: &mut Templates,
    host: HostKeyId,
    spool: [u8; 16],
) -> Result<Option<u64>, ExportError> {
    let message = decode::message(bytes, templates)?;
    let mut through = None;
    for (template, record) in message.records() {
        if let Some(reason) = typed::refusal(template, record)? {
            let shown = reason.chars().filter(|character| !character.is_control()).take(REASON_CHARACTERS_MAX);
            return Err(ExportError::Refused(shown.collect()));
        }
        let Some(acknowledgement) = typed::acknowledgement(template, record)? else { continue };
        if acknowledgement.host != host.0 || acknowledgement.spool != spool {
            return Err(ExportError::Acknowledgement("another host's spool"));
        }
        through = through.max(Some(acknowledgement.through));
    }
    Ok(through)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipfix::message::message;
    use crate::ipfix::typed::Acknowledgement;
    use crate::ipfix::{encode, template};

    const HOST: HostKeyId = HostKeyId([1; 32]);

    fn answer(sets: &[Vec<u8>]) -> Vec<u8> {
        let mut all = encode::template_sets(&template::receiver());
        all.extend_from_slice(sets);
        message(0, 0, 1, &all.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap()
    }

    fn acknowledgement(through: u64) -> Acknowledgement {
        Acknowledgement { host: HOST.0, spool: [2; 16], through }
    }

    fn read(sets: &[Vec<u8>]) -> Result<Option<u64>, ExportError> {
        newest(&answer(sets), &mut Templates::default(), HOST, [2; 16])
    }

    #[test]
    fn the_highest_counts() {
        let set = encode::acknowledgement_set(&[acknowledgement(7), acknowledgement(5)]);
        assert_eq!(read(&[set]).unwrap(), Some(7));
        assert_eq!(read(&[]).unwrap(), None);
    }

    #[test]
    fn another_spool_is_refused() {
        let other = Acknowledgement { spool: [3; 16], ..acknowledgement(7) };
        let error = read(&[encode::acknowledgement_set(&[other])]).unwrap_err();
        assert_eq!(error.code(), "acknowledgement");
    }

    #[test]
    fn a_refusal_ends_the_session_with_its_reason_on_one_line() {
        let error = read(&[encode::refusal_set("host not\nlisted")]).unwrap_err();
        assert_eq!(error.to_string(), "the receiving facility refuses the session: host notlisted");
    }

    #[tokio::test]
    async fn a_stream_is_followed_to_its_end() {
        let (sender, receiver) = watch::channel(None);
        let bytes = answer(&[encode::acknowledgement_set(&[acknowledgement(9)])]);
        let ended = follow(bytes.as_slice(), HOST, [2; 16], sender).await;
        assert!(matches!(ended, ExportError::Closed));
        assert_eq!(*receiver.borrow(), Some(9));
    }
}
