//! Segment: one append-only file of the spool, from bytes to entries and back.
//!
//! In: messages. Out: a header of 64 bytes and entries, all encrypted and authenticated. It never sees a path or a
//! clock; [`super`] owns the files. Bounded by `SPOOL_SEGMENT_BYTES_MAX`.
//!
//! ```text
//! header   magic 8 | first sequence u64 | salt 16 | spool UUID 16 | tag 16
//! entry    marker 8 (= salt[..8]) | length u32 | index u32 | ciphertext `length` | tag 16
//! ```
//!
//! Numbers are little-endian. The cipher is XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03); the nonce is the segment's
//! random salt followed by the entry's index, so it is unique as long as no index is written twice under one salt. A
//! segment that was recovered, or in which a write failed, is never appended to again, which keeps that true. Marker,
//! length and index are associated data: a changed length is found out, not believed.

use chacha20poly1305::{
    Tag, XChaCha20Poly1305, XNonce,
    aead::{AeadInPlace, generic_array::GenericArray},
};
use std::{fs::File, io, os::unix::fs::FileExt};

/// Bytes of a segment's header.
pub(super) const HEADER_BYTES: usize = 64;
/// Bytes before an entry's ciphertext.
const ENTRY_HEADER_BYTES: usize = 16;
/// Bytes of an authentication tag.
pub(super) const TAG_BYTES: usize = 16;
/// What an entry takes beside its message.
pub(super) const ENTRY_OVERHEAD_BYTES: usize = ENTRY_HEADER_BYTES + TAG_BYTES;

const MAGIC: [u8; 8] = *b"gwtapsg1";
const MARKER_BYTES: usize = 8;
/// Index part of the nonce that authenticates the header; entry indices are 32 bits wide and never reach it.
const HEADER_INDEX: u64 = u64::MAX;

/// Where an entry lies in its segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Offset of its first byte (the marker).
    pub(super) offset: u32,
    /// Bytes of the message.
    pub(super) length: u32,
}

impl Place {
    /// Bytes of the whole entry.
    pub(super) fn entry_bytes(self) -> usize {
        usize::try_from(self.length).unwrap_or(usize::MAX).saturating_add(ENTRY_OVERHEAD_BYTES)
    }

    fn end(self) -> u64 {
        u64::from(self.offset) + u64::from(self.length) + ENTRY_OVERHEAD_BYTES as u64
    }
}

/// What a segment's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Spool sequence of the entry with index 0.
    pub(super) first_sequence: u64,
    /// Random part of every nonce in this segment.
    pub(super) salt: [u8; 16],
}

/// Copies `N` bytes out of `bytes` at `offset`; `None` when they are not there.
fn load<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..offset.checked_add(N)?)?.try_into().ok()
}

impl Header {
    /// A header with a fresh salt for a segment that begins with `first_sequence`.
    pub(super) fn new(first_sequence: u64) -> Result<Self, getrandom::Error> {
        let mut salt = [0; 16];
        getrandom::fill(&mut salt)?;
        Ok(Self { first_sequence, salt })
    }

    /// The header's bytes for the spool `uuid`.
    pub(super) fn encode(&self, cipher: &XChaCha20Poly1305, uuid: &[u8; 16]) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&self.first_sequence.to_le_bytes());
        bytes.extend_from_slice(&self.salt);
        bytes.extend_from_slice(uuid);
        let tag = cipher.encrypt_in_place_detached(&self.nonce(HEADER_INDEX), &bytes, &mut []).ok()?;
        bytes.extend_from_slice(&tag);
        Some(bytes)
    }

    /// Reads and authenticates a header; `None` when it is not one of this spool's.
    pub(super) fn decode(bytes: &[u8], cipher: &XChaCha20Poly1305, uuid: &[u8; 16]) -> Option<Self> {
        let header = Self { first_sequence: u64::from_le_bytes(load(bytes, 8)?), salt: load(bytes, 16)? };
        let tag: [u8; TAG_BYTES] = load(bytes, HEADER_BYTES - TAG_BYTES)?;
        (load(bytes, 0)? == MAGIC && load(bytes, 32)? == *uuid).then_some(())?;
        let associated = bytes.get(..HEADER_BYTES - TAG_BYTES)?;
        cipher
            .decrypt_in_place_detached(&header.nonce(HEADER_INDEX), associated, &mut [], Tag::from_slice(&tag))
            .ok()?;
        Some(header)
    }

    /// Writes the entry `index` with `message` into `out`, replacing what was there. `None` when the cipher refuses the
    /// length, which a bounded message never reaches.
    pub(super) fn seal(&self, cipher: &XChaCha20Poly1305, index: u32, message: &[u8], out: &mut Vec<u8>) -> Option<()> {
        out.clear();
        out.extend_from_slice(self.marker());
        out.extend_from_slice(&u32::try_from(message.len()).ok()?.to_le_bytes());
        out.extend_from_slice(&index.to_le_bytes());
        out.extend_from_slice(message);
        let (head, body) = out.split_at_mut_checked(ENTRY_HEADER_BYTES)?;
        let tag = cipher.encrypt_in_place_detached(&self.nonce(u64::from(index)), head, body).ok()?;
        out.extend_from_slice(&tag);
        Some(())
    }

    /// Opens the entry `index` from exactly its bytes; `None` when they are not that entry.
    pub(super) fn open(&self, cipher: &XChaCha20Poly1305, index: u32, entry: &[u8]) -> Option<Vec<u8>> {
        let (head, rest) = entry.split_at_checked(ENTRY_HEADER_BYTES)?;
        let (body, tag) = rest.split_at_checked(rest.len().checked_sub(TAG_BYTES)?)?;
        let found = self.entry_header(head)?;
        (found.0 == index && usize::try_from(found.1).ok()? == body.len()).then_some(())?;
        let mut message = body.to_vec();
        cipher
            .decrypt_in_place_detached(&self.nonce(u64::from(index)), head, &mut message, Tag::from_slice(tag))
            .ok()?;
        Some(message)
    }

    /// Index and length of the entry that `head` begins with, not authenticated.
    fn entry_header(&self, head: &[u8]) -> Option<(u32, u32)> {
        (head.get(..MARKER_BYTES)? == self.marker()).then_some(())?;
        let length = u32::from_le_bytes(load(head, MARKER_BYTES)?);
        let index = u32::from_le_bytes(load(head, MARKER_BYTES + 4)?);
        Some((index, length))
    }

    /// The salt's first half: 64 random bits that tell where an entry begins.
    fn marker(&self) -> &[u8] {
        self.salt.first_chunk::<MARKER_BYTES>().map_or(&[], |marker| marker)
    }

    fn nonce(&self, index: u64) -> XNonce {
        let mut nonce: XNonce = GenericArray::default();
        for (to, from) in nonce.iter_mut().zip(self.salt.iter().copied().chain(index.to_le_bytes())) {
            *to = from;
        }
        nonce
    }

    /// Walks the entry headers of a segment that was closed in order, without opening the entries. `None` when anything
    /// is irregular: then [`Header::scan`] decides.
    pub(super) fn walk(&self, file: &File, file_bytes: u64) -> io::Result<Option<Vec<Option<Place>>>> {
        let mut places = Vec::new();
        let mut offset = HEADER_BYTES as u64;
        let mut head = [0; ENTRY_HEADER_BYTES];
        while offset < file_bytes {
            if file_bytes - offset < ENTRY_OVERHEAD_BYTES as u64 {
                return Ok(None);
            }
            file.read_exact_at(&mut head, offset)?;
            let (Some((index, length)), Ok(offset_32)) = (self.entry_header(&head), u32::try_from(offset)) else {
                return Ok(None);
            };
            let place = Place { offset: offset_32, length };
            if usize::try_from(index).ok() != Some(places.len()) || place.end() > file_bytes {
                return Ok(None);
            }
            places.push(Some(place));
            offset = place.end();
        }
        Ok(Some(places))
    }

    /// Finds every entry in a segment's bytes that authenticates, by index; what is missing between two of them is
    /// `None`. Also returns where the last of them ends: what lies behind it is a torn tail.
    pub(super) fn scan(&self, cipher: &XChaCha20Poly1305, bytes: &[u8]) -> (Vec<Option<Place>>, usize) {
        let mut places = Vec::new();
        let (mut offset, mut end) = (HEADER_BYTES, HEADER_BYTES.min(bytes.len()));
        while let Some(rest) = bytes.get(offset..) {
            if let Some((index, place)) = self.entry_at(cipher, rest, offset, places.len()) {
                places.resize(index, None);
                places.push(Some(place));
                offset = offset.saturating_add(place.entry_bytes());
                end = offset;
                continue;
            }
            // Something is damaged here: look for the next place that an entry may begin at.
            let Some(skip) =
                rest.get(1..).and_then(|r| r.windows(MARKER_BYTES).position(|window| window == self.marker()))
            else {
                break;
            };
            offset = offset.saturating_add(skip).saturating_add(1);
        }
        (places, end)
    }

    fn entry_at(
        &self,
        cipher: &XChaCha20Poly1305,
        rest: &[u8],
        offset: usize,
        index_min: usize,
    ) -> Option<(usize, Place)> {
        let (index, length) = self.entry_header(rest)?;
        let place = Place { offset: u32::try_from(offset).ok()?, length };
        let entry = rest.get(..place.entry_bytes())?;
        self.open(cipher, index, entry)?;
        let index = usize::try_from(index).ok()?;
        (index >= index_min).then_some((index, place))
    }
}
