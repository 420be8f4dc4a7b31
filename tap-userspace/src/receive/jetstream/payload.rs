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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipfix::encode::{self, Anonymisation, SelectorStatistics};
    use crate::ipfix::message::{OBSERVATION_DOMAIN, message};
    use crate::ipfix::typed::Identity;

    const HOST: [u8; 32] = [7; 32];

    fn framed(sets: &[Vec<u8>]) -> Vec<u8> {
        message(0, 0, OBSERVATION_DOMAIN, &sets.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap()
    }

    fn opening() -> Vec<u8> {
        framed(&encode::session_sets(Anonymisation::Deterministic))
    }

    fn body() -> Vec<Vec<u8>> {
        let selector = SelectorStatistics { id: 1, name: "n", sampling_ppm: 1_000_000, observed: 2, selected: 1 };
        encode::selector_statistics(&[selector])
    }

    fn of(host: [u8; 32]) -> Vec<u8> {
        let identity = Identity { host, spool: [9; 16], sequence: 5, first_sequence: 3 };
        framed(&[vec![encode::identity_set(&identity)], body()].concat())
    }

    async fn refused(bytes: &[u8]) -> String {
        item(bytes, &HOST).await.err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[tokio::test]
    async fn only_a_session_with_one_message_of_the_partitions_host_is_taken() {
        assert!(opening().len() < 3_072, "what stands in front of each message: {}", opening().len());
        let whole = [opening(), of(HOST)].concat();
        let (spool, sequence, taken) = item(&whole, &HOST).await.unwrap();
        assert_eq!((spool, sequence, taken.records), ([9; 16], 5, 0));
        // What is stored is whole, too, and does not tell how it came.
        let (_, _, again) = item(&taken.contents, &HOST).await.unwrap();
        assert_eq!(again.contents, taken.contents);
        for (bytes, reason) in [
            ([opening(), of([8; 32])].concat(), "another host's"),
            ([opening(), of(HOST), of(HOST)].concat(), "the second one"),
            (opening(), "there is none"),
            ([opening(), framed(&body())].concat(), "no identity"),
            (of(HOST), "no identity"),
            (vec![0; 16], "no IPFIX message header"),
            (vec![0; 200_000], "longer than"),
            (Vec::new(), "there is none"),
        ] {
            let said = refused(&bytes).await;
            assert!(said.contains(reason), "{reason}: {said}");
        }
        for cut in 1..whole.len() {
            let said = refused(whole.get(..cut).unwrap_or_default()).await;
            assert!(!said.is_empty(), "cut at {cut}");
        }
    }
}
