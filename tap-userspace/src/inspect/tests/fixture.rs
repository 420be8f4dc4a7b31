//! A host's evidence of three hours, made by the same code that an agent makes it with: one order and its extension, two
//! activations, a directive, the kill switch, statements, a log.

use crate::audit::checkpoint::Checkpoint;
use crate::audit::{Leaf, Log, leaf::SwapReason, proof};
use crate::directive::{Directive, Kind as DirectiveKind};
use crate::inspect::collect::{Sources, collect, sealed};
use crate::inspect::container::{Files, MANIFEST, read};
use crate::inspect::manifest::SUMS;
use crate::inspect::report::Report;
use crate::inspect::{Keys, verify};
use crate::keys::roles::TrustedKey;
use crate::keys::{HostKeyId, Role, SecretKey, TrustRoots, note::sign, sha256};
use crate::order::{self, Order};
use crate::run::documents::{Kind, keep};
use crate::selectors::Activation;
use crate::statement::{Counts, FACILITY, Most, Statement, Store, VERSION};
use jiff::{SignedDuration, Timestamp};
use std::path::PathBuf;

pub(super) const SET: &str = "{\"any\": \"set\"}";
pub(super) const BOOT: &str = "boot-1";

pub(super) struct Host {
    pub(super) directory: tempfile::TempDir,
    pub(super) roles: Vec<(Role, SecretKey)>,
    pub(super) host: SecretKey,
    pub(super) log_key: SecretKey,
    pub(super) witness: SecretKey,
    pub(super) log: Log,
    pub(super) orders: Vec<Order>,
    /// The share in force.
    pub(super) limit_ppm: u32,
    /// Seconds since the start of what is told.
    now: i64,
}

pub(super) fn start() -> Timestamp {
    "2026-11-30T14:00:00Z".parse().unwrap()
}

impl Host {
    /// Keys and an empty log.
    pub(super) fn new() -> Self {
        let roles = Role::ALL.map(|role| (role, SecretKey::generate(role.name()).unwrap())).into();
        let (host, log_key) = (SecretKey::generate("mirror-1").unwrap(), SecretKey::generate("mirror-1.log").unwrap());
        Self::with(roles, host, log_key)
    }

    /// A second host with the keys of this one.
    pub(super) fn copy(&self) -> Self {
        let roles = self.roles.iter().map(|(role, key)| (*role, again(key))).collect();
        Self::with(roles, again(&self.host), again(&self.log_key))
    }

    fn with(roles: Vec<(Role, SecretKey)>, host: SecretKey, log_key: SecretKey) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let log = Log::open(&directory.path().join("log"), again(&log_key)).unwrap();
        std::fs::write(directory.path().join("host.key"), host.encode().as_bytes()).unwrap();
        let mut toml = String::new();
        for (role, key) in &roles {
            toml += &format!("[[key]]\nname = \"{role}\"\nrole = \"{role}\"\npublic = \"{}\"\n", key.public());
        }
        std::fs::write(directory.path().join("roots.toml"), toml).unwrap();
        let witness = SecretKey::generate("witness").unwrap();
        Self { directory, roles, host, log_key, witness, log, orders: Vec::new(), limit_ppm: 300_000, now: 0 }
    }

    /// What a host leaves behind in three hours.
    pub(super) fn told() -> Self {
        let mut host = Self::new();
        host.tell();
        host
    }

    pub(super) fn tell(&mut self) {
        self.begin(BOOT, "machine-1");
        self.order("m-1", None, &self.host_id());
        self.activate(1);
        self.say(Leaf::LeaseGiven { measure: "m-1".into() });
        self.now = 3_600;
        self.state(false, 200);
        self.directive(1, DirectiveKind::LowerShare(100_000));
        self.say(Leaf::KillSwitch { measure: Some("m-1".into()), reason: "works on the line".into() });
        self.say(Leaf::KillSwitchReleased { measure: Some("m-1".into()), reason: "works are over".into() });
        self.say(Leaf::LeaseGiven { measure: "m-1".into() });
        self.activate(2);
        self.now = 7_200;
        self.state(false, 100);
        self.order("m-1", Some(self.orders[0].sha256), &self.host_id());
        self.limit_ppm = 100_000;
        self.now = 10_000;
        self.state(true, 100);
        self.say(Leaf::Stop { reason: "SIGTERM".into() });
    }

    pub(super) fn host_id(&self) -> String {
        HostKeyId::of(&self.host.public()).to_string()
    }

    pub(super) fn say(&mut self, leaf: Leaf) {
        self.now += 1;
        let time = start() + SignedDuration::from_secs(self.now);
        self.log.append_at(u64::try_from(time.as_nanosecond()).unwrap(), &leaf).unwrap();
    }

    pub(super) fn begin(&mut self, boot: &str, machine: &str) {
        let (boot, machine_sha256) = (boot.to_owned(), machine.to_owned());
        self.say(Leaf::Start { version: "0".into(), host_key: self.host_id(), machine_sha256, boot });
    }

    pub(super) fn keep(&self, kind: Kind, note: &str) -> PathBuf {
        keep(self.directory.path(), kind, note).unwrap()
    }

    pub(super) fn signed(&self, text: &str, roles: &[Role]) -> String {
        let of = self.roles.iter().filter(|(role, _)| roles.contains(role));
        of.fold(text.to_owned(), |note, (_, key)| sign(&note, key).unwrap())
    }

    pub(super) fn order_note(&self, measure: &str, previous: Option<[u8; 32]>, host: &str) -> String {
        let window = match previous {
            None => "not_before = \"2026-11-30T22:00:00+09:00\"\nnot_after = \"2027-02-01T00:00:00+09:00\"".to_owned(),
            Some(previous) => format!(
                "previous = \"{}\"\nnot_before = \"2027-02-01T00:00:00+09:00\"\nnot_after = \"2027-05-01T00:00:00+09:00\"",
                hex::encode(previous)
            ),
        };
        let text = format!(
            "[measure]\nid = \"{measure}\"\nbasis = \"foreign-to-foreign\"\nacts = [\"a-1\"]\n{window}\n\
             [approval]\nid = \"c-1\"\n\
             [facility]\nid = \"f-1\"\ncapacity_bits_per_second = 8000000\nshare_ppm = 300000\nsampling_ppm = 1000000\n\
             [[facility.tap]]\nhost_key = \"{host}\"\ninterface = \"eth1\"\nshare_ppm = 300000\n\
             [selection]\nstandard = \"s-1\"\n\
             [addresses]\ncountry_table_sha256 = \"{digest}\"\ncountry_table_oldest_date = \"2026-10-01\"\n\
             clear_addresses = true\nprefix_preserving = false\ndomestic_conditions = false\nkey_epoch_days = 7\n\
             [receiving_facility]\nendpoint = \"192.0.2.1:4739\"\nnames = [\"a.example\"]\nsealing_key = \"{digest}\"\n",
            digest = "00112233445566778899aabbccddeeff".repeat(2)
        );
        self.signed(&text, &[Role::Government, Role::Commission])
    }

    pub(super) fn order(&mut self, measure: &str, previous: Option<[u8; 32]>, host: &str) {
        let note = self.order_note(measure, previous, host);
        let order = order::parse_unsigned(&note).unwrap();
        self.keep(Kind::Order, &note);
        self.say(Leaf::OrderLoaded {
            measure: measure.into(),
            order_sha256: hex::encode(order.sha256),
            basis: order.measure.basis.name().into(),
            share_ppm: 300_000,
            not_before: order.measure.not_before,
            not_after: order.measure.not_after,
        });
        self.orders.push(order);
    }

    pub(super) fn activate(&mut self, number: u64) {
        let activation = Activation {
            measure: "m-1".into(),
            order_sha256: self.orders[0].sha256,
            set_sha256: sha256(SET.as_bytes()),
            number,
            valid_until: "2027-01-01T00:00:00Z".parse().unwrap(),
        };
        let note = self.signed(&activation.text(), &[Role::SelectorAuthor, Role::SelectorApprover]);
        self.keep(Kind::Activation, &note);
        let set_sha256 = hex::encode(activation.set_sha256);
        let valid_until = activation.valid_until;
        self.say(Leaf::Activation { measure: "m-1".into(), number, set_sha256, rules: 1, valid_until });
        self.say(Leaf::Swap { generation: number, why: SwapReason::Start, activations: vec![number] });
        self.say(Leaf::Program { generation: number, program_sha256: "ab".repeat(32) });
    }

    pub(super) fn directive(&mut self, number: u64, kind: DirectiveKind) {
        let directive = Directive {
            measure: "m-1".into(),
            order_sha256: self.orders[0].sha256,
            number,
            kind,
            reason: "decision 12".into(),
            issued: start() + SignedDuration::from_secs(self.now),
        };
        let note = self.signed(&directive.text(), &[Role::Commission]);
        self.keep(Kind::Directive, &note);
        let sha256 = hex::encode(sha256(note.as_bytes()));
        self.say(Leaf::Directive { measure: "m-1".into(), number, kind: kind.name().into(), sha256 });
    }

    /// A statement of each chain; `permille` of the capacity was admitted in a second.
    pub(super) fn state(&mut self, last: bool, permille: u64) {
        for of in ["measure-m-1", FACILITY] {
            let mut store = Store::open(&self.directory.path().join("statements"), of, &self.host.public()).unwrap();
            let before = store.last().cloned();
            let from = before.as_ref().map_or(start(), |before| before.to);
            let totals = Counts { admitted_bytes: u64::try_from(self.now).unwrap() * 10, ..Counts::default() };
            let statement = Statement {
                version: VERSION,
                of: of.into(),
                number: 0,
                previous_sha256: String::new(),
                facility: "f-1".into(),
                map_instance: "00".into(),
                from,
                to: start() + SignedDuration::from_secs(self.now),
                last,
                capacity_bits_per_second: 8_000_000,
                limit_ppm: self.limit_ppm,
                most_in_a_second: Some(Most { bytes: permille * 1_000, window_ns: 1_000_000_000 }),
                most_in_a_minute: None,
                most_in_an_hour: None,
                counted: totals.since(&before.map(|before| before.totals).unwrap_or_default()),
                totals,
            };
            let sha256 = store.append(statement, &self.host).unwrap();
            self.say(Leaf::Statement { measure: of.into(), from, sha256 });
        }
    }

    pub(super) fn sources(&self) -> Sources {
        let path = self.directory.path();
        Sources {
            host: "mirror-1".into(),
            host_key: path.join("host.key"),
            log_key: self.log_key.public(),
            log: path.join("log"),
            state: path.to_owned(),
            roots: path.join("roots.toml"),
            notices: None,
            cosigned: Vec::new(),
            sets: Vec::new(),
        }
    }

    pub(super) fn bundle(&self) -> Vec<u8> {
        collect(&self.sources()).unwrap()
    }

    pub(super) fn files(&self) -> Files {
        read(&self.bundle()).unwrap()
    }

    /// A bundle of these entries, signed by whoever holds the host's key.
    pub(super) fn resealed(&self, mut files: Files) -> Vec<u8> {
        files.remove(MANIFEST);
        files.remove(SUMS);
        sealed(&self.sources(), &self.host, files).unwrap()
    }

    pub(super) fn keys(&self) -> Keys {
        let mut roots = TrustRoots::default();
        for (role, key) in &self.roles {
            roots.add(TrustedKey { name: role.to_string(), role: *role, public: key.public() }).unwrap();
        }
        Keys { roots, public: vec![self.host.public(), self.log_key.public(), self.witness.public()] }
    }

    pub(super) fn verify(&self, bundle: &[u8]) -> Report {
        verify::verify(bundle, &self.keys(), &[])
    }

    pub(super) fn checkpoint(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log/checkpoint")).unwrap()
    }

    /// The checkpoint of now, with the witness's cosignature.
    pub(super) fn cosigned(&self) -> String {
        proof::consistency(&self.directory.path().join("log"), 0).unwrap();
        let note = self.checkpoint();
        let line = crate::audit::cosignature::cosign(&note, &self.witness, 1_800_000_000).unwrap();
        note + &line
    }

    pub(super) fn head(&self) -> Checkpoint {
        Checkpoint::verify(&self.checkpoint(), &self.log_key.public(), "head").unwrap()
    }
}

pub(super) fn again(key: &SecretKey) -> SecretKey {
    SecretKey::parse(&key.encode(), "key").unwrap()
}
