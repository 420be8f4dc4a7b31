//! Trust roots: which public key may sign in which role. One role a key, one key once.

use super::{KeyError, PublicKey};
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
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    key: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    role: Role,
    public: String,
}

impl TrustRoots {
    /// Reads `[[key]]` tables with `name`, `role` and `public` (`name+id+keydata`).
    ///
    /// # Errors
    /// Unknown fields or roles, malformed keys, no key at all, a key that stands twice (in two roles or in one), and two
    /// keys that a signature line could not tell apart.
    pub fn from_toml(text: &str) -> Result<Self, KeyError> {
        let file: File = toml::from_str(text).map_err(|error| KeyError::Roots(error.to_string()))?;
        let mut roots = Self::default();
        for (index, entry) in file.key.into_iter().enumerate() {
            let what = format!("key[{index}].public");
            let public = PublicKey::parse(&entry.public, &what)?;
            roots.add(TrustedKey { name: entry.name, role: entry.role, public })?;
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

    /// All keys.
    #[must_use]
    pub fn keys(&self) -> &[TrustedKey] {
        &self.keys
    }
}
