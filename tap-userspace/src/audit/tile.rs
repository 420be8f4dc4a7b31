//! Tiles and entry bundles: where the hashes and entries of a tree lie (C2SP tlog-tiles), and how a bundle is written.
//!
//! In: a tree's size, or a bundle's bytes. Out: paths below the log's directory, entries. It reads and writes nothing.
//! Bound: a tile is 256 hashes wide; an entry has at most 65,535 bytes.

use super::merkle::{Hash, Range};
use crate::limits::LOG_ENTRY_BYTES_MAX;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Hashes of a full tile, entries of a full bundle.
pub const TILE_WIDTH: u16 = 256;
/// Levels of the tree that a tile stands for.
pub const TILE_LEVELS: u32 = 8;
/// Levels of tiles in a tree of 2^63 leaves.
pub const TILE_LEVELS_MAX: u8 = 8;

/// What a tile holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The entries themselves.
    Entries,
    /// Hashes of subtrees of 256^level leaves.
    Hashes(u8),
}

impl Kind {
    /// Level of tiles: entries are of level 0, as leaf hashes are.
    #[must_use]
    pub fn level(self) -> u8 {
        match self {
            Self::Entries => 0,
            Self::Hashes(level) => level,
        }
    }
}

/// A tile or bundle: which one, and how much of it there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tile {
    /// What it holds.
    pub kind: Kind,
    /// Its number in its level.
    pub index: u64,
    /// Hashes or entries in it, 1 to 256.
    pub width: u16,
}

impl Tile {
    /// The last tile of this kind in a tree of `size` leaves, if it is a partial one.
    #[must_use]
    pub fn partial(kind: Kind, size: u64) -> Option<Self> {
        let hashes = size.checked_shr(TILE_LEVELS * u32::from(kind.level())).unwrap_or(0);
        let width = u16::try_from(hashes % u64::from(TILE_WIDTH)).unwrap_or_default();
        (width > 0).then_some(Self { kind, index: hashes / u64::from(TILE_WIDTH), width })
    }

    /// Full tiles of this kind in a tree of `size` leaves.
    #[must_use]
    pub fn full(kind: Kind, size: u64) -> u64 {
        size.checked_shr(TILE_LEVELS * (u32::from(kind.level()) + 1)).unwrap_or(0)
    }

    /// The same tile, full.
    #[must_use]
    pub fn filled(self) -> Self {
        Self { width: TILE_WIDTH, ..self }
    }

    /// Path below the log's directory.
    #[must_use]
    pub fn path(self) -> PathBuf {
        let full = self.full_path();
        if self.width == TILE_WIDTH { full.into() } else { format!("{full}.p/{}", self.width).into() }
    }

    /// The tile of a path below the log's directory.
    #[must_use]
    pub fn parse(path: &Path) -> Option<Self> {
        let name = path.to_str()?.strip_prefix("tile/")?;
        let (full, width) = match name.split_once(".p/") {
            Some((full, width)) => (full, width.parse().ok()?),
            None => (name, TILE_WIDTH),
        };
        let (kind, index) = full.split_once('/')?;
        let kind = if kind == "entries" { Kind::Entries } else { Kind::Hashes(kind.parse().ok()?) };
        let index = index.split('/').try_fold(0_u64, |index, element| {
            let digits: u64 = element.strip_prefix('x').unwrap_or(element).parse().ok()?;
            index.checked_mul(1000)?.checked_add(digits)
        })?;
        let tile = Self { kind, index, width };
        (tile.path() == path && (1..=TILE_WIDTH).contains(&width) && kind.level() < TILE_LEVELS_MAX).then_some(tile)
    }

    /// Directory of the partial tiles of this one.
    #[must_use]
    pub fn partials(self) -> PathBuf {
        format!("{}.p", self.full_path()).into()
    }

    fn full_path(self) -> String {
        let mut path = match self.kind {
            Kind::Entries => "tile/entries/".to_owned(),
            Kind::Hashes(level) => format!("tile/{level}/"),
        };
        let mut elements = vec![self.index % 1000];
        let mut rest = self.index / 1000;
        while rest > 0 {
            elements.push(rest % 1000);
            rest /= 1000;
        }
        while let Some(element) = elements.pop() {
            // Writing to a string does not fail.
            let written =
                if elements.is_empty() { write!(path, "{element:03}") } else { write!(path, "x{element:03}/") };
            debug_assert!(written.is_ok());
        }
        path
    }
}

/// Hashes of a tile's bytes; `None` when they are not `width` hashes.
#[must_use]
pub fn hashes(bytes: &[u8], width: u16) -> Option<Vec<Hash>> {
    let (hashes, rest) = bytes.as_chunks::<32>();
    (rest.is_empty() && hashes.len() == usize::from(width)).then(|| hashes.to_vec())
}

/// Root of a tile: what stands for a full one on the next level.
#[must_use]
pub fn tile_root(hashes: &[Hash]) -> Hash {
    let mut range = Range::default();
    hashes.iter().for_each(|hash| range.push(*hash));
    range.root()
}

/// Adds an entry to a bundle's bytes; `false` when it is too long for one.
#[must_use]
pub fn push_entry(bundle: &mut Vec<u8>, entry: &[u8]) -> bool {
    let Ok(length) = u16::try_from(entry.len()) else { return false };
    if entry.len() > LOG_ENTRY_BYTES_MAX {
        return false;
    }
    bundle.extend(length.to_be_bytes());
    bundle.extend(entry);
    true
}

/// The entries of a bundle, or the offset at which it is no bundle.
///
/// # Errors
/// The offset of a length that is cut off or goes beyond the bytes.
pub fn entries(bundle: &[u8]) -> Result<Vec<&[u8]>, usize> {
    let mut entries = Vec::new();
    let mut rest = bundle;
    while !rest.is_empty() {
        let offset = bundle.len() - rest.len();
        let (length, behind) = rest.split_first_chunk::<2>().ok_or(offset)?;
        let (entry, behind) = behind.split_at_checked(usize::from(u16::from_be_bytes(*length))).ok_or(offset)?;
        entries.push(entry);
        rest = behind;
    }
    Ok(entries)
}
