//! A year of the audit log in simulated time: an agent that is killed between acts and in the middle of writing one, a disk that is
//! full, a clock that is set back, a witness that comes by now and then; by seeds.
//!
//! The log, its verification, its proofs and the witness are the product's own. What must be in it is said again here: every act
//! that was acknowledged, in order, and beside them at most one for each kill. A seed repeats a year: `GWTAP_SEED`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test's panic is its report")]

use std::path::{Path, PathBuf};

use tap_tests::need;
use tap_tests::random::Random;
use tap_userspace::audit::leaf::Entry;
use tap_userspace::audit::log::Head;
use tap_userspace::audit::witness::Witness;
use tap_userspace::audit::{Leaf, Log, proof, read, verify};
use tap_userspace::keys::SecretKey;

const SECOND: u64 = 1_000_000_000;
const HOUR: u64 = 3_600 * SECOND;
const START: u64 = 1_800_000_000 * SECOND;
const END: u64 = START + 365 * 24 * HOUR;
/// Entries of a full tile (C2SP tlog-tiles): a year fills the first and goes on behind it.
const TILE: u64 = 256;

struct Run {
    random: Random,
    folder: tempfile::TempDir,
    key: SecretKey,
    witness: (Witness, SecretKey),
    log: Option<Log>,
    now: u64,
    /// What is in the log, as far as it was acknowledged or seen afterwards.
    acts: Vec<Leaf>,
    told: u64,
    /// What the host's state has seen of the log.
    seen: Head,
    faults: Faults,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Faults {
    kills: u64,
    torn: u64,
    kept: u64,
    full: u64,
    clock: u64,
    witnessed: u64,
}

impl Run {
    fn new(seed: u64) -> Self {
        // In memory where there is some: each append waits for the disk three times.
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let witness = Witness::open(&folder.path().join("witness")).unwrap();
        Self {
            random: Random::from_seed(seed),
            key: SecretKey::generate("mirror-1.log").unwrap(),
            witness: (witness, SecretKey::generate("witness").unwrap()),
            log: None,
            now: START,
            acts: Vec::new(),
            told: 0,
            seen: Head::default(),
            faults: Faults::default(),
            folder,
        }
    }

    fn directory(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// The log of a running agent; one that was killed starts anew, and its log goes on from what its state has seen.
    fn log(&mut self) -> &Log {
        if self.log.is_none() {
            let key = SecretKey::parse(&self.key.encode(), "log").unwrap();
            let log =
                Log::open(&self.directory(), key).unwrap_or_else(|error| panic!("{} acts: {error}", self.acts.len()));
            if self.seen.entries > 0 {
                log.continues(self.seen.entries, &self.seen.root).unwrap();
            }
            self.log = Some(log);
        }
        self.log.as_ref().unwrap()
    }

    fn act(&mut self) -> Leaf {
        self.told += 1;
        let (measure, number) = ("m-1".to_owned(), self.told);
        match self.random.below(0..5) {
            0 => Leaf::LeaseGiven { measure },
            1 => Leaf::LeaseLost { measure, reason: format!("laboratory {number}") },
            2 => Leaf::CapReached { measure, packets: number },
            3 => Leaf::ClockDoubt { reason: format!("set-back {number}") },
            _ => Leaf::Statement { measure, from: jiff::Timestamp::UNIX_EPOCH, sha256: format!("{number:064x}") },
        }
    }

    fn append(&mut self) {
        let (act, now) = (self.act(), self.now);
        let number = self.log().append_at(now, &act).unwrap();
        self.acts.push(act);
        assert_eq!(number + 1, self.acts.len() as u64, "an entry's number");
    }

    /// A file that an append of the next entry writes.
    fn next_file(&self, level: &str) -> PathBuf {
        let size = self.acts.len() as u64;
        self.directory().join(format!("tile/{level}/{:03}.p/{}", size / TILE, size % TILE + 1))
    }

    /// Power goes in the middle of an append: what was written last is torn, nothing was acknowledged.
    fn torn(&mut self) {
        let size = self.acts.len() as u64;
        if size % TILE >= TILE - 1 {
            // A full tile takes another name, and those before it leave: the log's own tests cut there.
            return self.append();
        }
        self.log();
        let checkpoint = self.directory().join("checkpoint");
        let before = std::fs::read(&checkpoint).unwrap();
        let (act, now) = (self.act(), self.now);
        self.log().append_at(now, &act).unwrap();
        self.log = None;
        let files = [self.next_file("entries"), self.next_file("0"), checkpoint.clone()];
        let written = files.each_ref().map(|file| std::fs::read(file).unwrap());
        std::fs::write(&checkpoint, &before).unwrap();
        let cut = self.random.index(0..files.len());
        for (file, bytes) in files.iter().zip(&written).skip(cut) {
            if *file != checkpoint {
                std::fs::remove_file(file).unwrap();
            }
            if *file == files[cut] {
                // Beside its place until it is whole; a file in its place may be short, too, when its blocks were not there yet.
                let torn = &bytes[..self.random.index(0..bytes.len())];
                let in_place = *file != checkpoint && self.random.chance(50);
                let place = if in_place { file.clone() } else { PathBuf::from(format!("{}.new", file.display())) };
                std::fs::write(place, torn).unwrap();
            }
        }
        self.faults.torn += 1;
        // What was written whole before the cut may be kept: its head may have been seen.
        let entries = self.log().head().entries;
        assert!(entries == size || entries == size + 1, "{entries} entries after a kill, {size} before");
        if entries > size {
            self.acts.push(act);
            self.faults.kept += 1;
        }
    }

    /// No room for one of the files: the act is refused, and the log is what it was; with room again it goes on.
    fn full(&mut self) {
        let size = self.acts.len() as u64;
        let file = match self.random.below(0..3) {
            0 if size % TILE < TILE - 1 => self.next_file("entries"),
            1 if size % TILE < TILE - 1 => self.next_file("0"),
            _ => self.directory().join("checkpoint"),
        };
        self.log();
        let obstacle = PathBuf::from(format!("{}.new", file.display()));
        if obstacle.is_file() {
            // A crash left it; nobody reads it.
            std::fs::remove_file(&obstacle).unwrap();
        }
        std::fs::create_dir_all(&obstacle).unwrap();
        let (act, now) = (self.act(), self.now);
        let refused = self.log().append_at(now, &act);
        assert!(refused.is_err(), "written without room for {}", file.display());
        self.verified();
        std::fs::remove_dir(&obstacle).unwrap();
        self.faults.full += 1;
        if self.random.chance(50) {
            self.log = None;
        }
    }

    fn witnessed(&mut self) {
        self.log();
        let (witness, key) = &self.witness;
        let old = witness.last(&self.key.public()).unwrap().size;
        if old < self.acts.len() as u64 {
            let request = proof::consistency(&self.directory(), old).unwrap();
            witness.cosign(&request, &self.key.public(), key, self.now / SECOND).unwrap();
            self.faults.witnessed += 1;
        }
    }

    /// Whoever has the public key alone sees a log of exactly these acts, that continues what the witness saw.
    fn verified(&mut self) {
        let public = self.key.public();
        let verified = verify::verify(&self.directory(), &public).unwrap();
        assert_eq!(verified.checkpoint.size, self.acts.len() as u64, "entries of a log that verifies");
        verify::continues(&self.directory(), &verified, &self.witness.0.last(&public).unwrap()).unwrap();
    }

    fn year(mut self) -> (Vec<Leaf>, Faults) {
        while self.now < END {
            self.now += self.random.below(HOUR / 2..60 * HOUR);
            match self.random.below(0..100) {
                0..8 => {
                    self.log = None;
                    self.faults.kills += 1;
                }
                8..16 => self.torn(),
                16..24 => self.full(),
                24..28 => {
                    // A clock that was set back writes what it shows.
                    let now = std::mem::replace(&mut self.now, START);
                    self.append();
                    self.now = now;
                    self.faults.clock += 1;
                }
                28..33 => self.witnessed(),
                33..38 => self.seen = self.log().head(),
                38..41 => {
                    self.log();
                    self.verified();
                }
                _ => self.append(),
            }
        }
        self.log = None;
        self.log();
        self.verified();
        let mut held = Vec::new();
        read::entries(&self.directory(), 0, |_, entry| {
            held.push(serde_json::from_slice::<Entry>(entry).unwrap().act);
        })
        .unwrap();
        assert_eq!(held, self.acts, "the log's acts");
        (self.acts, self.faults)
    }
}

fn check(seed: u64) -> u64 {
    let year = std::panic::catch_unwind(|| Run::new(seed).year());
    let (acts, faults) = year.unwrap_or_else(|_| panic!("the year of seed {seed} failed"));
    let Faults { kills, torn, kept, full, clock, witnessed } = faults;
    let least = [kills, torn, kept, full, clock, witnessed].into_iter().min().unwrap_or_default();
    assert!(acts.len() > 100 && least > 0, "seed {seed} shows little: {} acts, {faults:?}", acts.len());
    acts.len() as u64
}

#[test]
fn never_in_a_year_does_the_log_lose_an_acknowledged_act_or_not_verify() {
    let seeds = (0..if need::long() { 10_000 } else { 100 }).chain([Random::printed("a fresh year").bits()]);
    let seeds = std::sync::Mutex::new(seeds);
    let next = || seeds.lock().unwrap().next();
    let worker = || std::iter::from_fn(next).map(check).sum::<u64>();
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let acts: u64 = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    println!("{acts} acts");
}

#[test]
fn a_seed_repeats_its_year_of_acts() {
    assert_eq!(Run::new(7).year(), Run::new(7).year());
    assert_ne!(Run::new(7).year().1, Run::new(8).year().1);
}
