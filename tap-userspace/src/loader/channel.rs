//! Channel: whole messages with descriptors over a pair of `SOCK_SEQPACKET` sockets.
//!
//! In: bytes and descriptors. Out: the same on the other side, or that the other side is gone. A message is cut into
//! packets; each begins with a byte that says whether more follow. Bounded by [`LOADER_MESSAGE_BYTES_MAX`] and
//! [`DESCRIPTORS_MAX`].

use crate::limits::{LOADER_MESSAGE_BYTES_MAX, LOADER_PACKET_BYTES, LOADER_PACKET_DESCRIPTORS};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg, socketpair,
};
use std::io::{Error, ErrorKind, IoSlice, IoSliceMut, Result};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use tap_common::limits::CPUS_MAX;
use zeroize::Zeroizing;

/// Descriptors of one message: a ring for each CPU.
const DESCRIPTORS_MAX: usize = CPUS_MAX;

const LAST: u8 = 0;
const MORE: u8 = 1;

/// One end.
#[derive(Debug)]
pub(super) struct Channel(OwnedFd);

/// A message that arrived.
pub(super) struct Message {
    /// May hold selectors.
    pub(super) bytes: Zeroizing<Vec<u8>>,
    pub(super) descriptors: Vec<OwnedFd>,
}

impl Channel {
    /// Both ends; neither is inherited by other programs.
    pub(super) fn pair() -> Result<(Self, OwnedFd)> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        Ok((Self(ours), theirs))
    }

    pub(super) fn new(end: OwnedFd) -> Self {
        Self(end)
    }

    /// Sends one message.
    pub(super) fn send(&self, bytes: &[u8], descriptors: &[RawFd]) -> Result<()> {
        let mut parts = bytes.chunks(LOADER_PACKET_BYTES);
        let mut handed = descriptors.chunks(LOADER_PACKET_DESCRIPTORS);
        let packets = parts.len().max(handed.len()).max(1);
        for packet in 1..=packets {
            let kind = [if packet == packets { LAST } else { MORE }];
            let content = [IoSlice::new(&kind), IoSlice::new(parts.next().unwrap_or_default())];
            let rights = handed.next().map(ControlMessage::ScmRights);
            sendmsg::<()>(self.0.as_raw_fd(), &content, rights.as_slice(), MsgFlags::MSG_NOSIGNAL, None)?;
        }
        Ok(())
    }

    /// Waits for one message; [`ErrorKind::UnexpectedEof`] when the other side is gone.
    pub(super) fn receive(&self) -> Result<Message> {
        let mut message = Message { bytes: Zeroizing::default(), descriptors: Vec::new() };
        loop {
            let mut packet = Zeroizing::new(vec![0; LOADER_PACKET_BYTES + 1]);
            let (length, descriptors) = receive_packet(&self.0, &mut packet)?;
            message.descriptors.extend(descriptors);
            let Some((kind, content)) = packet.get(..length).and_then(|packet| packet.split_first()) else {
                return Err(ErrorKind::UnexpectedEof.into());
            };
            let too_large = message.bytes.len() + content.len() > LOADER_MESSAGE_BYTES_MAX;
            if too_large || message.descriptors.len() > DESCRIPTORS_MAX {
                return Err(Error::other("a message is larger than any that is meant"));
            }
            message.bytes.extend_from_slice(content);
            if *kind == LAST {
                return Ok(message);
            }
        }
    }
}

fn receive_packet(end: &OwnedFd, packet: &mut [u8]) -> Result<(usize, Vec<OwnedFd>)> {
    let mut control = nix::cmsg_space!([RawFd; LOADER_PACKET_DESCRIPTORS]);
    let mut parts = [IoSliceMut::new(packet)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let received = loop {
        match recvmsg::<()>(end.as_raw_fd(), &mut parts, Some(&mut control), flags) {
            Err(nix::Error::EINTR) => {}
            other => break other?,
        }
    };
    let mut descriptors = Vec::new();
    for part in received.cmsgs()? {
        if let ControlMessageOwned::ScmRights(handed) = part {
            // SAFETY: the kernel has just made these descriptors for us, and nobody else owns them.
            descriptors.extend(handed.into_iter().map(|handed| unsafe { OwnedFd::from_raw_fd(handed) }));
        }
    }
    Ok((received.bytes, descriptors))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_descriptors_arrive_whole_and_the_end_is_noticed() {
        let (ours, theirs) = Channel::pair().unwrap();
        let theirs = Channel::new(theirs);
        let large: Vec<u8> = (0..LOADER_PACKET_BYTES * 3 + 7).map(|index| index.to_le_bytes()[0]).collect();
        let sent = large.clone();
        let sender = std::thread::spawn(move || {
            let handed = std::fs::File::open("/dev/null").unwrap();
            ours.send(&sent, &[]).unwrap();
            ours.send(b"", &[handed.as_raw_fd(); CPUS_MAX]).unwrap();
            ours.send(b"end", &[]).unwrap();
        });
        assert_eq!(*theirs.receive().unwrap().bytes, large);
        let with = theirs.receive().unwrap();
        assert_eq!((with.bytes.len(), with.descriptors.len()), (0, CPUS_MAX));
        assert_eq!(*theirs.receive().unwrap().bytes, b"end");
        sender.join().unwrap();
        assert_eq!(theirs.receive().err().unwrap().kind(), ErrorKind::UnexpectedEof);
        theirs.send(b"?", &[]).unwrap_err();
    }
}
