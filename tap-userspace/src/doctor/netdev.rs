//! Netdev: whether a driver has XDP, in the kernel's own words (generic netlink family `netdev`, Linux 6.3).
//!
//! In: an interface's index. Out: yes, no, or that this kernel cannot say. Nothing is attached to find out.

use super::machine::Xdp;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};
use std::os::fd::{AsRawFd as _, OwnedFd};

/// include/uapi/linux/netlink.h and genetlink.h
const NLM_F_REQUEST: u16 = 1;
const GENL_ID_CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
/// include/uapi/linux/netdev.h
const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;
const NETDEV_XDP_ACT_BASIC: u64 = 1;

/// Headers of a message and of the generic one in it.
const HEADER_BYTES: usize = 16;
const GENERIC_BYTES: usize = 4;
/// An answer has a few dozen short attributes.
const ANSWER_BYTES_MAX: usize = 8 << 10;

/// Whether the interface's driver has XDP.
pub(super) fn xdp(index: u32) -> Xdp {
    features(index).map_or(
        Xdp::Unknown,
        |features| {
            if features & NETDEV_XDP_ACT_BASIC == 0 { Xdp::None } else { Xdp::Driver }
        },
    )
}

fn features(index: u32) -> Option<u64> {
    let protocol = SockProtocol::NetlinkGeneric;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol).ok()?;
    let family = ask(&socket, GENL_ID_CTRL, CTRL_CMD_GETFAMILY, (CTRL_ATTR_FAMILY_NAME, b"netdev\0"))?;
    let family = u16::from_ne_bytes(attribute(&family, CTRL_ATTR_FAMILY_ID)?.try_into().ok()?);
    let device = ask(&socket, family, NETDEV_CMD_DEV_GET, (NETDEV_A_DEV_IFINDEX, &index.to_ne_bytes()))?;
    Some(u64::from_ne_bytes(attribute(&device, NETDEV_A_DEV_XDP_FEATURES)?.try_into().ok()?))
}

/// One request with one attribute; the answer's attributes.
fn ask(socket: &OwnedFd, family: u16, command: u8, (kind, value): (u16, &[u8])) -> Option<Vec<u8>> {
    let mut message = vec![0; HEADER_BYTES];
    message.extend([command, 1, 0, 0]);
    message.extend(u16::try_from(4 + value.len()).ok()?.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(value);
    message.resize(message.len().next_multiple_of(4), 0);
    let length = u32::try_from(message.len()).ok()?.to_ne_bytes();
    message.get_mut(..4)?.copy_from_slice(&length);
    message.get_mut(4..6)?.copy_from_slice(&family.to_ne_bytes());
    message.get_mut(6..8)?.copy_from_slice(&NLM_F_REQUEST.to_ne_bytes());
    send(socket.as_raw_fd(), &message, MsgFlags::empty()).ok()?;
    let mut answer = vec![0; ANSWER_BYTES_MAX];
    // The kernel answers before `send` returns; there is nothing to wait for.
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::MSG_DONTWAIT).ok()?;
    let answer = answer.get(..length)?;
    // An error has another type than the family's.
    let of_family = answer.get(4..6)? == family.to_ne_bytes();
    of_family.then_some(answer.get(HEADER_BYTES + GENERIC_BYTES..)?.to_vec())
}

/// The value of the first attribute of this kind.
fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16::from_ne_bytes(attributes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(attributes.get(2..4)?.try_into().ok()?);
        if kind == wanted {
            return attributes.get(4..length);
        }
        attributes = attributes.get(length.max(4).next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_is_found_behind_others_and_a_cut_one_is_none() {
        let mut bytes = Vec::new();
        for (kind, value) in [(7_u16, &[1_u8, 2, 3][..]), (3, &[9, 8, 7, 6])] {
            bytes.extend(u16::try_from(4 + value.len()).unwrap().to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        assert_eq!(attribute(&bytes, 3), Some(&[9, 8, 7, 6][..]));
        assert_eq!(attribute(&bytes, 7), Some(&[1, 2, 3][..]));
        assert_eq!(attribute(&bytes, 4), None);
        assert_eq!(attribute(&bytes[..10], 3), None);
        assert_eq!(attribute(&[0, 0, 1, 0], 3), None, "a length of zero goes on all the same");
    }
}
