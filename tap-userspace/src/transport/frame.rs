//! Messages out of a stream of octets (RFC 7011, section 10.4): the header says how long each is.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::ipfix::message::{HEADER_BYTES, Header};

/// The next message with its header; `None` at the end of the stream between two messages.
///
/// Not safe to cancel: the octets of a message begun are lost then.
///
/// # Errors
/// The stream's, an end within a message, or octets that are no IPFIX header.
pub async fn read<R: AsyncRead + Unpin>(stream: &mut R) -> io::Result<Option<Bytes>> {
    let mut header = [0; HEADER_BYTES];
    let (first, rest) = header.split_at_mut(1);
    if stream.read(first).await? == 0 {
        return Ok(None);
    }
    stream.read_exact(rest).await?;
    let Some(parsed) = Header::read(&header) else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "no IPFIX message header where one must stand"));
    };
    let mut message = BytesMut::zeroed(usize::from(parsed.length));
    let (head, body) = message.split_at_mut(HEADER_BYTES);
    head.copy_from_slice(&header);
    stream.read_exact(body).await?;
    Ok(Some(message.freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipfix::message::message;

    #[tokio::test]
    async fn messages_come_one_by_one_and_a_torn_one_is_an_error() {
        let one = message(1, 2, 3, &[&[1, 0, 0, 5, 9]]).unwrap();
        let two = message(4, 5, 6, &[]).unwrap();
        let both = [one.as_slice(), &two].concat();
        let mut stream = both.as_slice();
        assert_eq!(read(&mut stream).await.unwrap(), Some(Bytes::from(one)));
        assert_eq!(read(&mut stream).await.unwrap(), Some(Bytes::from(two)));
        assert_eq!(read(&mut stream).await.unwrap(), None);
        for cut in 1..both.len() {
            let mut stream = &both[..cut];
            while let Ok(Some(_)) = read(&mut stream).await {}
            assert!(stream.is_empty());
        }
        let error = read(&mut &[0u8; 16][..]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
