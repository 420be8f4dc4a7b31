//! What a message of the stream must be: a whole session with one message of the partition's own host. In: octets. Out: the message
//! taken apart as a session's is, with its spool and number. Bounded by what a stored file may have.

use super::super::file::Context;
use super::super::session::{Item, SessionError, take};
use crate::ipfix::decode::Templates;
use crate::limits::STORED_FILE_BYTES_MAX;
use crate::transport::frame;

/// The message in `bytes`, which was published in the partition of `host`.
pub(super) async fn item(bytes: &[u8], host: &[u8; 32]) -> Result<([u8; 16], u64, Item), SessionError> {
    let wrong = |number, reason| SessionError::Identity { number, reason };
    if u64::try_from(bytes.len()).is_ok_and(|length| length > STORED_FILE_BYTES_MAX) {
        return Err(wrong(0, "it is longer than two IPFIX messages can be"));
    }
    let (mut templates, mut context) = (Templates::default(), Context::default());
    let mut found = None;
    let mut number = 0;
    let mut rest = bytes;
    while let Some(message) = frame::read(&mut rest).await? {
        number += 1;
        let Some(item) = take(&message, number, &mut templates, &mut context)? else { continue };
        if found.replace(item).is_some() {
            return Err(wrong(number, "it is the second one beside an opening"));
        }
    }
    let Some(item) = found else { return Err(wrong(number, "there is none beside an opening")) };
    match &item.identity {
        Some(identity) if identity.host == *host => Ok((identity.spool, identity.sequence, item)),
        Some(_) => Err(wrong(number, "it is another host's than its subject says")),
        None => Err(wrong(number, "it has no identity")),
    }
}
