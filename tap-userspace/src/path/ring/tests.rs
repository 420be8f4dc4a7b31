use super::*;
use nix::sys::memfd::{MFdFlags, memfd_create};
use proptest::prelude::*;
use std::fs::File;
use std::os::unix::fs::FileExt;

const RING_BYTES: usize = 4096;
const PAGE_BYTES: u64 = 4096;

/// A producer over a file with the kernel's layout. The kernel maps the same data pages twice; here both copies are
/// written.
struct FakeRing {
    file: File,
    produced: u64,
}

impl FakeRing {
    fn new(start: u64) -> Self {
        let file = File::from(memfd_create(c"ring", MFdFlags::MFD_CLOEXEC).unwrap());
        file.set_len(2 * PAGE_BYTES + 2 * RING_BYTES as u64).unwrap();
        file.write_all_at(&start.to_ne_bytes(), 0).unwrap();
        file.write_all_at(&start.to_ne_bytes(), PAGE_BYTES).unwrap();
        Self { file, produced: start }
    }

    fn consumer(&self) -> RingConsumer {
        RingConsumer::new(self.file.try_clone().unwrap().into(), RING_BYTES).unwrap()
    }

    fn released(&self) -> u64 {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, 0).unwrap();
        u64::from_ne_bytes(bytes)
    }

    fn write(&self, position: u64, bytes: &[u8]) {
        for (position, byte) in (position..).zip(bytes) {
            let offset = 2 * PAGE_BYTES + position % RING_BYTES as u64;
            self.file.write_all_at(&[*byte], offset).unwrap();
            self.file.write_all_at(&[*byte], offset + RING_BYTES as u64).unwrap();
        }
    }

    /// As `bpf_ringbuf_reserve`: `None` when the ring is full, else where the entry is.
    fn reserve(&mut self, bytes: usize) -> Option<u64> {
        let at = self.produced;
        let next = at + (bytes as u64 + 8).next_multiple_of(8);
        if next - self.released() > RING_BYTES as u64 - 1 {
            return None;
        }
        self.write(at, &(u32::try_from(bytes).unwrap() | BUSY).to_ne_bytes());
        self.file.write_all_at(&next.to_ne_bytes(), PAGE_BYTES).unwrap();
        self.produced = next;
        Some(at)
    }

    /// As `bpf_ringbuf_submit`, or with [`DISCARD`] as `bpf_ringbuf_discard`.
    fn submit(&self, at: u64, data: &[u8], flags: u32) {
        self.write(at + 8, data);
        self.write(at, &(u32::try_from(data.len()).unwrap() | flags).to_ne_bytes());
    }

    fn put(&mut self, data: &[u8], flags: u32) -> bool {
        self.reserve(data.len()).map(|at| self.submit(at, data, flags)).is_some()
    }
}

/// A record's bytes as the kernel lays them out.
fn bytes_of(sequence: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for half in [KIND_RECORD, 120] {
        bytes.extend_from_slice(&half.to_ne_bytes());
    }
    bytes.extend_from_slice(&3_u32.to_ne_bytes());
    bytes.extend_from_slice(&sequence.to_ne_bytes());
    bytes.extend((16..120_u8).map(|byte| byte ^ sequence.to_le_bytes()[0]));
    bytes
}

fn sequences(records: &[Record]) -> Vec<u64> {
    for record in records {
        let first = bytes_of(record.sequence)[64];
        let expected: [u8; 16] = bytes_of(record.sequence)[64..80].try_into().unwrap();
        assert_eq!((record.cpu, record.source[0], record.source), (3, first, expected));
    }
    records.iter().map(|record| record.sequence).collect()
}

#[test]
fn nothing_is_released_before_it_is_asked_for() {
    let mut ring = FakeRing::new(0);
    let mut consumer = ring.consumer();
    let mut out = Vec::new();
    assert_eq!(consumer.drain(&mut out, 9), 0);
    for sequence in 0..5 {
        assert!(ring.put(&bytes_of(sequence), 0));
    }
    assert_eq!((consumer.drain(&mut out, 3), consumer.drain(&mut out, 9)), (3, 2));
    assert_eq!((sequences(&out), ring.released()), (vec![0, 1, 2, 3, 4], 0));
    // The agent is killed here: the next one finds them all again.
    let mut second = ring.consumer();
    out.clear();
    assert_eq!(second.drain(&mut out, 3), 3);
    second.release();
    assert_eq!(ring.released(), 3 * 128);
    drop((consumer, second));
    out.clear();
    assert_eq!(ring.consumer().drain(&mut out, 9), 2);
    assert_eq!(sequences(&out), [3, 4]);
}

#[test]
fn a_busy_entry_holds_back_what_is_behind_it() {
    let mut ring = FakeRing::new(0);
    let mut consumer = ring.consumer();
    let mut out = Vec::new();
    let busy = ring.reserve(120).unwrap();
    assert!(ring.put(&bytes_of(1), 0));
    assert_eq!(consumer.drain(&mut out, 9), 0);
    ring.submit(busy, &bytes_of(0), 0);
    assert_eq!((consumer.drain(&mut out, 9), sequences(&out)), (2, vec![0, 1]));
}

#[test]
fn what_is_no_record_is_skipped_and_counted() {
    let mut ring = FakeRing::new(0);
    let mut consumer = ring.consumer();
    let mut unknown = bytes_of(7);
    unknown[0] = 0x7f;
    let mut wrong_length = bytes_of(7);
    wrong_length[2] = 119;
    for (data, flags) in [
        (bytes_of(0), 0),
        (bytes_of(7), DISCARD),
        (unknown, 0),
        (wrong_length, 0),
        (bytes_of(7)[..119].to_vec(), 0),
        ([bytes_of(7), vec![0; 8]].concat(), 0),
        (vec![1], 0),
        (vec![], 0),
        (vec![9, 9], 0),
        (bytes_of(1), 0),
    ] {
        assert!(ring.put(&data, flags));
    }
    let mut out = Vec::new();
    assert_eq!((consumer.drain(&mut out, 99), sequences(&out)), (2, vec![0, 1]));
    let status = consumer.status();
    assert_eq!((status.records_total, status.discarded_total), (2, 1));
    assert_eq!((status.unknown_total, status.malformed_total, status.corrupt), (2, 5, false));
    assert_eq!(status.pending_bytes as u64, ring.produced);
    consumer.release();
    assert_eq!(consumer.status().pending_bytes, 0);
}

#[test]
fn a_length_that_lies_stops_the_ring_and_not_the_agent() {
    let mut ring = FakeRing::new(0);
    let mut consumer = ring.consumer();
    assert!(ring.put(&bytes_of(0), 0));
    let at = ring.reserve(120).unwrap();
    ring.write(at, &4000_u32.to_ne_bytes());
    let mut out = Vec::new();
    assert_eq!((consumer.drain(&mut out, 9), consumer.drain(&mut out, 9)), (1, 0));
    assert!(consumer.status().corrupt);
    consumer.release();
    assert_eq!(ring.released(), at);
}

#[test]
fn senseless_sizes_and_positions_are_refused() {
    let ring = FakeRing::new(0);
    for bytes in [0, 1, 2048, 4097, 12288, usize::MAX / 2 + 1] {
        let error = RingConsumer::new(ring.file.try_clone().unwrap().into(), bytes).unwrap_err();
        assert!(matches!(error, RingError::Size { .. }), "{error}");
    }
    for (consumer, producer) in [(8_u64, 0_u64), (0, 4104), (4, 8)] {
        ring.file.write_all_at(&consumer.to_ne_bytes(), 0).unwrap();
        ring.file.write_all_at(&producer.to_ne_bytes(), PAGE_BYTES).unwrap();
        let error = RingConsumer::new(ring.file.try_clone().unwrap().into(), RING_BYTES).unwrap_err();
        assert!(matches!(error, RingError::Positions { .. }), "{error}");
    }
    let closed = File::open("/dev/null").unwrap();
    assert!(matches!(RingConsumer::new(closed.into(), RING_BYTES), Err(RingError::Map { .. })));
}

#[derive(Clone, Debug)]
enum Operation {
    Submit,
    Discard,
    /// Reserved now, submitted at the next `Finish`.
    Reserve,
    Finish,
    Unknown(usize),
    Drain(usize),
    Release,
    /// A new consumer takes over.
    TakeOver,
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        8 => Just(Operation::Submit),
        1 => Just(Operation::Discard),
        1 => Just(Operation::Reserve),
        2 => Just(Operation::Finish),
        1 => (2..300_usize).prop_map(Operation::Unknown),
        6 => (0..12_usize).prop_map(Operation::Drain),
        4 => Just(Operation::Release),
        1 => Just(Operation::TakeOver),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens around the ring's end: every record once (again only after a take-over), in order, unharmed.
    #[test]
    fn a_ring_gives_every_record_in_order(
        start in prop_oneof![Just(0_u64), Just(u64::MAX / 16 * 8), 0..10_000_u64],
        operations in prop::collection::vec(operation(), 1..250),
    ) {
        let mut ring = FakeRing::new(start / 8 * 8);
        let mut consumer = ring.consumer();
        // Sequences by state: what is in the ring and not read, what is read and not released.
        let (mut next, mut reserved) = (0, None);
        let (mut readable, mut read) = (Vec::new(), Vec::new());
        for operation in operations {
            match operation {
                Operation::Submit => if ring.put(&bytes_of(next), 0) {
                    readable.push(next);
                    next += 1;
                },
                Operation::Discard => drop(ring.put(&bytes_of(99), DISCARD)),
                Operation::Unknown(bytes) => drop(ring.put(&vec![0xee; bytes], 0)),
                Operation::Reserve if reserved.is_none() => if let Some(at) = ring.reserve(120) {
                    reserved = Some((at, next));
                    readable.push(next);
                    next += 1;
                },
                Operation::Finish => if let Some((at, sequence)) = reserved.take() {
                    ring.submit(at, &bytes_of(sequence), 0);
                },
                Operation::Drain(max) => {
                    let mut out = Vec::new();
                    consumer.drain(&mut out, max);
                    let busy = reserved.and_then(|(_, busy)| readable.iter().position(|known| *known == busy));
                    let expected: Vec<u64> = readable.drain(..busy.unwrap_or(readable.len()).min(max)).collect();
                    prop_assert_eq!(&sequences(&out), &expected);
                    read.extend(expected);
                }
                Operation::Release => {
                    consumer.release();
                    read.clear();
                }
                Operation::TakeOver => {
                    consumer = ring.consumer();
                    readable.splice(0..0, read.drain(..));
                }
                Operation::Reserve => {}
            }
            prop_assert!(!consumer.status().corrupt);
            prop_assert_eq!(consumer.status().malformed_total, 0);
        }
    }
}
