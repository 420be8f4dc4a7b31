//! Trust roots: which public key may sign in which role. One role a key, one key once; a role may have several keys, so
//! that one can follow another. A revoked key's signatures do not count: none at all, or none from a moment on.

use super::{KeyError, PublicKey};
use jiff::Timestamp;
use serde::Deserialize;
use std::fmt;
use std::str::FromStr;

/// What a key may sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The government: orders of every basis.
    Government,
    /// The oversight Commission: approves orders under Arts 17, 32 and 33.
    Commission,
    /// The party to an agreement (Arts 11-14).
    Party,
    /// The carrier that copies: agreements on its mirror host.
    Carrier,
    /// Writes selector sets.
    SelectorAuthor,
    /// Approves selector sets; another person than the author.
    SelectorApprover,
}

impl Role {
    /// Every role, in the order of the declaration.
    pub const ALL: [Self; 6] =
        [Self::Government, Self::Commission, Self::Party, Self::Carrier, Self::SelectorAuthor, Self::SelectorApprover];

    /// The role's name in trust roots and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Government => "government",
            Self::Commission => "commission",
            Self::Party => "party",
            Self::Carrier => "carrier",
            Self::SelectorAuthor => "selector-author",
            Self::SelectorApprover => "selector-approver",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|role| role.name() == text)
            .ok_or_else(|| format!("unknown role {text:?}; known are {}", Self::ALL.map(Self::name).join(", ")))
    }
}

/// A key with its role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedKey {
    /// Who it is, in words.
    pub name: String,
    /// What it may sign.
    pub role: Role,
    /// The key.
    pub public: PublicKey,
}

/// The keys an agent trusts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustRoots {
    keys: Vec<TrustedKey>,
    /// Key bytes, and since when they do not count; `None`: they never did.
    revoked: Vec<([u8; 32], Option<Timestamp>)>,
    /// The moment for which revocations are judged; without one every revocation is in force.
    judged_at: Option<Timestamp>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    key: Vec<Entry>,
    /// Public keys whose signatures never count, whenever they were made.
    #[serde(default)]
    revoked: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    role: Role,
    public: String,
    /// First moment at which the key's signatures no longer count.
    revoked: Option<String>,
}

impl TrustRoots {
    /// Reads `[[key]]` tables with `name`, `role`, `public` (`name+id+keydata`) and, where the key ends at a moment,
    /// `revoked`; before them a list `revoked` of public keys that never count.
    ///
    /// # Errors
    /// Unknown fields or roles, malformed keys, no key at all, a key that stands twice (in two roles or in one), two keys
    /// that a signature line could not tell apart, and a revocation that is no moment or no key.
    pub fn from_toml(text: &str) -> Result<Self, KeyError> {
        let file: File = toml::from_str(text).map_err(|error| KeyError::Roots(error.to_string()))?;
        let mut roots = Self::default();
        for (index, entry) in file.key.into_iter().enumerate() {
            let what = format!("key[{index}].public");
            let public = PublicKey::parse(&entry.public, &what)?;
            if let Some(moment) = entry.revoked {
                let moment = moment.parse().map_err(|_no_moment| {
                    let form = "is not a moment with its offset (\"2026-12-01T00:00:00+09:00\")";
                    KeyError::Roots(format!("key[{index}].revoked: {moment:?} {form}"))
                })?;
                roots.revoke(&public, Some(moment));
            }
            roots.add(TrustedKey { name: entry.name, role: entry.role, public })?;
        }
        for (index, text) in file.revoked.iter().enumerate() {
            roots.revoke(&PublicKey::parse(text, &format!("revoked[{index}]"))?, None);
        }
        if roots.keys.is_empty() {
            return Err(KeyError::Roots("no [[key]]: nothing could ever be verified".to_owned()));
        }
        Ok(roots)
    }

    /// Adds one key.
    ///
    /// # Errors
    /// When the same key is there already, or another whose signature lines look the same (name and id).
    pub fn add(&mut self, key: TrustedKey) -> Result<(), KeyError> {
        for old in &self.keys {
            if old.public.bytes == key.public.bytes {
                return Err(KeyError::Roots(format!(
                    "{} ({}) and {} ({}) are one key; a key has one role and stands once",
                    old.name, old.role, key.name, key.role
                )));
            }
            let (old_line, new_line) = (old.public.line_id(), key.public.line_id());
            if old_line == new_line {
                return Err(KeyError::Roots(format!("two different keys share name and id {old_line}; make another")));
            }
        }
        self.keys.push(key);
        Ok(())
    }

    /// From `from` on, or altogether, the key's signatures do not count.
    pub fn revoke(&mut self, key: &PublicKey, from: Option<Timestamp>) {
        self.revoked.push((key.bytes, from));
    }

    /// The same roots, with revocations judged for `now`: one that is still to come does not count yet. Roots that nobody
    /// judged take every revocation for granted, so that a caller that forgets the time errs to the strict side.
    #[must_use]
    pub fn at(&self, now: Timestamp) -> Self {
        Self { judged_at: Some(now), ..self.clone() }
    }

    /// Whether the key's signatures count.
    #[must_use]
    pub fn counts(&self, key: &PublicKey) -> bool {
        self.revocations(key).all(|from| matches!((from, self.judged_at), (Some(from), Some(now)) if now < from))
    }

    /// First moment at which these signers no longer make up the roles that they make up now; `None`: not by what is known.
    #[must_use]
    pub fn signed_until(&self, signers: &[&TrustedKey]) -> Option<Timestamp> {
        let until = |key: &TrustedKey| self.revocations(&key.public).flatten().min().unwrap_or(Timestamp::MAX);
        let of_role = |role| signers.iter().filter(move |key| key.role == role).map(|key| until(key)).max();
        Role::ALL.into_iter().filter_map(of_role).min().filter(|until| *until < Timestamp::MAX)
    }

    fn revocations(&self, key: &PublicKey) -> impl Iterator<Item = Option<Timestamp>> {
        let bytes = key.bytes;
        self.revoked.iter().filter(move |(revoked, _)| *revoked == bytes).map(|(_, from)| *from)
    }

    /// All keys, the revoked ones included: ask [`TrustRoots::counts`].
    #[must_use]
    pub fn keys(&self) -> &[TrustedKey] {
        &self.keys
    }
}
