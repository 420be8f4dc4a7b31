//! A year of notices in simulated time: two taps whose agents are killed, whose messages wait, come again and come late; a
//! receiving facility that is killed and whose disk is full; a Commission that is away, and whose answers are lost; by seeds.
//!
//! Receipts, the outbox with its files, numbers, ends and the Commission's books are the product's own. Which notices there must
//! be is said again here, from what was stored. A seed repeats a year: `GWTAP_SEED`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test's panic is its report")]

use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use tap_tests::need;
use tap_tests::random::Random;
use tap_userspace::keys::SecretKey;
use tap_userspace::notice::endpoint::Commission;
use tap_userspace::notice::outbox::{DIRECTORY, Outbox, read_all};
use tap_userspace::notice::{self, Event, Kind, Notice, Occasion, Receipt, Totals, VERSION, day, day_number, sign};
use tap_userspace::run::receipts::Told;

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;
const START: u64 = 1_800_000_000;
const END: u64 = START + 365 * DAY;
const TAPS: usize = 2;
/// After so long an end that no tap has said is concluded.
const WAIT: SignedDuration = SignedDuration::from_hours(2);
const SENDER: &str = "receiving-1";
const MEASURE: &str = "m-1";

/// What must have been noticed, and was.
type Subjects = BTreeSet<(Kind, Occasion)>;

/// An order and, from a moment on, the one that extends it: digest and end of each.
struct Life {
    begin: u64,
    orders: Vec<(u64, String, u64)>,
}

impl Life {
    /// The last order signed at `now`.
    fn order(&self, now: u64) -> &(u64, String, u64) {
        self.orders.iter().rev().find(|(signed, ..)| *signed <= now).unwrap_or(&self.orders[0])
    }
}

fn lives(random: &mut Random) -> Vec<Life> {
    let mut lives = Vec::new();
    let mut begin = START + random.below(0..3 * DAY);
    while begin < END - 30 * DAY {
        let mut end = begin + random.below(5 * DAY..60 * DAY);
        let mut orders = vec![(begin, hex::encode(random.bytes(32)), end)];
        while random.chance(50) {
            let signed = end - random.below(HOUR..4 * DAY);
            end += random.below(DAY..40 * DAY);
            orders.push((signed, hex::encode(random.bytes(32)), end));
        }
        lives.push(Life { begin, orders });
        begin = end + random.below(DAY..10 * DAY);
    }
    lives
}

/// What lies in a tap's spool: it outlives the agent.
enum Message {
    Receipt(String),
    Records(u64),
}

struct Tap {
    key: SecretKey,
    id: [u8; 32],
    alive: bool,
    told: Told,
    opened: BTreeSet<String>,
    ended: BTreeSet<String>,
    spool: VecDeque<Message>,
    reachable: bool,
}

/// What a plain reading of the Act asks for.
#[derive(Default)]
struct Asked {
    /// What there must be in the end.
    must: Subjects,
    /// With what was asked for while the disk was full: an end that an extension overtakes meanwhile is none.
    may: Subjects,
    /// By life, the order that the facility has heard of whose end is last.
    heard: BTreeMap<String, (u64, String)>,
}

impl Asked {
    fn occasion(&mut self, occasion: &Occasion, done: bool) {
        for kind in [Kind::Selection, Kind::DeIdentification] {
            self.may.insert((kind, occasion.clone()));
            if done {
                self.must.insert((kind, occasion.clone()));
            }
        }
    }

    /// The facility has a receipt; whether it could keep what it asks for.
    fn heard(&mut self, receipt: &Receipt, done: bool) {
        let life = receipt.chain_sha256.clone();
        match &receipt.event {
            Event::Opened { not_after } => {
                let not_after = u64::try_from(not_after.as_second()).unwrap();
                let known = self.heard.entry(life).or_default();
                *known = known.clone().max((not_after, receipt.order_sha256.clone()));
            }
            Event::Ended { .. } => {
                let (not_after, order) = self.heard[&life].clone();
                if receipt.time >= time(not_after) {
                    self.occasion(&Occasion::End(order), done);
                }
            }
            Event::Day { day } => self.occasion(&Occasion::Day(*day), done),
        }
    }

    /// The facility asked itself what is over.
    fn concluded(&mut self, now: u64, done: bool) {
        let wait = u64::try_from(WAIT.as_secs()).unwrap();
        let over: Vec<_> = self.heard.values().filter(|(end, _)| end + wait < now).cloned().collect();
        over.into_iter().for_each(|(_, order)| self.occasion(&Occasion::End(order), done));
    }
}

struct Run {
    random: Random,
    lives: Vec<Life>,
    taps: Vec<Tap>,
    folder: tempfile::TempDir,
    facility: SecretKey,
    commission: SecretKey,
    outbox: Option<Outbox>,
    books: Commission,
    commission_away: bool,
    now: u64,
    asked: Asked,
    /// The notices that were read so far.
    noticed: Vec<Notice>,
    faults: u64,
}

fn time(second: u64) -> Timestamp {
    Timestamp::from_second(i64::try_from(second).unwrap()).unwrap()
}

fn again(key: &SecretKey) -> SecretKey {
    SecretKey::parse(&key.encode(), "test").unwrap()
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut random = Random::from_seed(seed);
        // In memory where there is such a place: a year flushes some thousand files.
        let memory = PathBuf::from("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let [facility, commission] = ["receiving-1", "commission"].map(|name| SecretKey::generate(name).unwrap());
        let books = Commission::new(folder.path().join("books"), again(&commission), facility.public()).unwrap();
        let taps = (0..TAPS).map(|tap| {
            let key = SecretKey::generate(&format!("mirror-{tap}")).unwrap();
            Tap {
                id: tap_userspace::keys::sha256(&key.public().bytes),
                key,
                alive: true,
                told: Told::default(),
                opened: BTreeSet::new(),
                ended: BTreeSet::new(),
                spool: VecDeque::new(),
                reachable: true,
            }
        });
        let (taps, lives) = (taps.collect(), lives(&mut random));
        Self {
            random,
            lives,
            taps,
            folder,
            facility,
            commission,
            outbox: None,
            books,
            commission_away: false,
            now: START,
            asked: Asked::default(),
            noticed: Vec::new(),
            faults: 0,
        }
    }

    fn open(&self) -> Outbox {
        Outbox::open(self.folder.path(), SENDER, again(&self.facility), self.commission.public()).unwrap()
    }

    fn year(&mut self) {
        while self.now < END {
            self.now += self.random.below(HOUR..96 * HOUR);
            self.fault();
            (0..TAPS).for_each(|tap| self.select(tap));
            self.deliver();
            self.send();
            let (now, asked) = (self.now, self.asked.may.clone());
            let more = self.notices().iter().find(|notice| !asked.contains(&(notice.kind, notice.occasion.clone())));
            assert!(more.is_none(), "at {now}: a notice of nothing: {more:?}");
        }
        // Then everything works, and what is owed comes.
        self.now += 60 * DAY;
        self.commission_away = false;
        for tap in &mut self.taps {
            (tap.alive, tap.reachable) = (true, true);
        }
        self.mend_disk();
        (0..TAPS).for_each(|tap| self.select(tap));
        self.deliver();
        self.send();
        self.send();
    }

    fn fault(&mut self) {
        if !self.random.chance(60) {
            return;
        }
        self.faults += 1;
        let tap = self.random.index(0..TAPS);
        match self.random.below(0..7) {
            0 | 1 => {
                let tap = &mut self.taps[tap];
                // What an agent knew dies with it; what it had spooled does not.
                (tap.told, tap.opened, tap.ended) = Default::default();
                tap.alive = !tap.alive;
            }
            2 => self.taps[tap].reachable = !self.taps[tap].reachable,
            3 => self.outbox = None,
            4 => self.commission_away = !self.commission_away,
            5 => self.fill_disk(),
            _ => self.mend_disk(),
        }
    }

    /// Where the next notice would be written lies something that cannot be written over: as with a full disk, nothing is kept.
    fn in_the_way(&mut self) -> PathBuf {
        let next = self.notices().len() + 1;
        self.folder.path().join(DIRECTORY).join(format!("{next:08}.note.new"))
    }

    fn fill_disk(&mut self) {
        let path = self.in_the_way();
        drop(std::fs::create_dir(path));
    }

    fn mend_disk(&mut self) {
        let path = self.in_the_way();
        drop(std::fs::remove_dir(path));
    }

    /// All notices: files are only ever added.
    fn notices(&mut self) -> &[Notice] {
        let directory = self.folder.path().join(DIRECTORY);
        while let Ok(text) = std::fs::read_to_string(directory.join(format!("{:08}.note", self.noticed.len() + 1))) {
            self.noticed.push(notice::verify(&text, &self.facility.public(), "notice").unwrap());
        }
        &self.noticed
    }

    /// What a tap's agent says, and the records it spools.
    fn select(&mut self, tap: usize) {
        let now = self.now;
        let records = self.random.chance(40);
        let Some(life) = self.lives.iter().rev().find(|life| life.begin <= now) else { return };
        let (_, order, not_after) = life.order(now).clone();
        let chain = life.orders[0].1.clone();
        let tap = &mut self.taps[tap];
        if !tap.alive {
            return;
        }
        let say = |event| {
            let receipt = Receipt {
                version: VERSION,
                host_key: tap.key.public().to_string(),
                measure: MEASURE.into(),
                facility: "facility-1".into(),
                order_sha256: order.clone(),
                chain_sha256: chain.clone(),
                time: time(now),
                event,
                totals: Totals::default(),
            };
            Message::Receipt(sign(&receipt, &tap.key).unwrap())
        };
        if tap.opened.insert(order.clone()) {
            tap.spool.push_back(say(Event::Opened { not_after: time(not_after) }));
        }
        if now < not_after {
            let today = day_number(now * 1_000_000_000);
            for owed in tap.told.days(records.then_some(today)) {
                tap.spool.push_back(say(Event::Day { day: day(owed) }));
                tap.told.said(owed);
            }
            if records {
                tap.spool.push_back(Message::Records(today));
            }
        } else if tap.ended.insert(order.clone()) {
            tap.spool.push_back(say(Event::Ended { by: "order".into() }));
        }
    }

    /// Messages in their order, until one cannot be kept; what is not acknowledged comes again.
    fn deliver(&mut self) {
        if self.outbox.is_none() {
            self.outbox = Some(self.open());
        }
        for tap in 0..TAPS {
            let mut stored = 0;
            if !self.taps[tap].reachable {
                continue;
            }
            let (spool, id) = (std::mem::take(&mut self.taps[tap].spool), self.taps[tap].id);
            for message in &spool {
                match message {
                    Message::Receipt(note) => {
                        let receipt = notice::receipt(note, &id).unwrap();
                        let outbox = self.outbox.as_mut().unwrap();
                        let taken = outbox.take(&receipt, &notice::digest(note), time(self.now));
                        self.asked.heard(&receipt, taken.is_ok());
                        if taken.is_err() {
                            break;
                        }
                    }
                    Message::Records(number) => {
                        let day = day(*number);
                        let of_day = self.notices().iter().filter(|notice| notice.occasion == Occasion::Day(day));
                        assert_eq!(of_day.count(), 2, "records of {day} are stored without its notices");
                    }
                }
                stored += 1;
            }
            // Of what is stored, the last acknowledgements may be lost.
            let lost = if self.random.chance(20) { self.random.index(0..4) } else { 0 };
            self.taps[tap].spool = spool;
            self.taps[tap].spool.drain(..stored - lost.min(stored));
        }
    }

    fn send(&mut self) {
        let outbox = self.outbox.as_mut().unwrap();
        let concluded = outbox.conclude(WAIT, time(self.now));
        self.asked.concluded(self.now, concluded.is_ok());
        while !self.commission_away
            && let Some((notice, text)) = outbox.next()
        {
            let answer = self.books.take(&text, time(self.now)).unwrap();
            // The answer is lost: the same notice is sent again.
            if self.random.chance(10) {
                continue;
            }
            outbox.acknowledge(&notice, &answer).unwrap();
        }
    }

    /// What the files say, verified as a row.
    fn whole(&self) -> Subjects {
        let directory = self.folder.path().join(DIRECTORY);
        let all = read_all(&directory, &self.facility.public(), &self.commission.public()).unwrap();
        let subjects: Subjects = all.iter().map(|kept| (kept.notice.kind, kept.notice.occasion.clone())).collect();
        assert_eq!(subjects.len(), all.len(), "a subject is noticed twice");
        subjects
    }
}

/// A year: how many notices, and how many faults.
fn check(seed: u64) -> (usize, u64) {
    let run = std::panic::catch_unwind(|| {
        let mut run = Run::new(seed);
        run.year();
        let noticed = run.whole();
        let missing: Vec<_> = run.asked.must.difference(&noticed).collect();
        assert!(missing.is_empty(), "never noticed: {missing:?}");
        assert!(run.outbox.as_ref().unwrap().next().is_none(), "something waits");
        // The Commission has the very same texts, whatever was sent twice.
        let taken = std::fs::read_dir(run.folder.path().join("books")).unwrap().count();
        assert_eq!(taken, noticed.len(), "the Commission's books");
        (noticed.len(), run.faults)
    });
    let (notices, faults) = run.unwrap_or_else(|_| panic!("the year of seed {seed} failed"));
    assert!(notices > 40 && faults > 20, "seed {seed} shows little: {notices} notices, {faults} faults");
    (notices, faults)
}

#[test]
fn never_in_a_year_is_a_notice_missing_or_doubled() {
    let seeds = (0..if need::long() { 10_000 } else { 100 }).chain([Random::printed("a fresh year").bits()]);
    let seeds = std::sync::Mutex::new(seeds);
    let next = || seeds.lock().unwrap().next();
    let worker =
        || std::iter::from_fn(next).map(check).fold((0, 0), |sum, (notices, faults)| (sum.0 + notices, sum.1 + faults));
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let (notices, faults) = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        let sums = workers.into_iter().map(|worker| worker.join().unwrap());
        sums.fold((0, 0), |sum, (notices, faults)| (sum.0 + notices, sum.1 + faults))
    });
    println!("{notices} notices, {faults} faults");
}
