//! Every signed document that an act went by, kept as it was signed: orders, extensions, activations, withdrawals, directives.
//!
//! In: a note, before the leaf of its act is written. Out: a file named by the note's digest in `documents` below the state
//! directory, for the inspection bundle. Configuration files are replaced and what came over the socket has none; this is
//! what a leaf's digest is shown with years later. No selector is in any of them. Nothing here is ever removed.

use super::state::replace_file;
use crate::keys::sha256;
use std::path::{Path, PathBuf};

/// Name of the directory below the state directory.
pub(crate) const DIRECTORY: &str = "documents";

/// What a document is; its name begins with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An order, or one that extends it.
    Order,
    /// Two persons' consent to a selector set, by its digest.
    Activation,
    /// One person's end of a selector set.
    Withdrawal,
    /// A directive of the Commission.
    Directive,
}

impl Kind {
    /// Name in file names.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Activation => "activation",
            Self::Withdrawal => "withdrawal",
            Self::Directive => "directive",
        }
    }
}

/// A document's file name.
pub(crate) fn file_name(kind: Kind, note: &str) -> String {
    format!("{}-{}.note", kind.name(), hex::encode(sha256(note.as_bytes())))
}

/// Keeps a note; on disk when it returns. One that is there already is left alone.
///
/// # Errors
/// The directory cannot be written.
pub(crate) fn keep(state_directory: &Path, kind: Kind, note: &str) -> std::io::Result<PathBuf> {
    let directory = state_directory.join(DIRECTORY);
    let path = directory.join(file_name(kind, note));
    if std::fs::read(&path).is_ok_and(|kept| kept == note.as_bytes()) {
        return Ok(path);
    }
    std::fs::create_dir_all(&directory)?;
    replace_file(&path, note.as_bytes())?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_kept_once_under_its_digest_and_a_torn_one_is_written_again() {
        let state = tempfile::tempdir().unwrap();
        let first = keep(state.path(), Kind::Order, "text\n\n\u{2014} a b\n").unwrap();
        assert!(first.file_name().unwrap().to_str().unwrap().starts_with("order-"));
        assert_eq!(keep(state.path(), Kind::Order, "text\n\n\u{2014} a b\n").unwrap(), first);
        std::fs::write(&first, "text").unwrap();
        keep(state.path(), Kind::Order, "text\n\n\u{2014} a b\n").unwrap();
        assert_eq!(std::fs::read_to_string(&first).unwrap(), "text\n\n\u{2014} a b\n");
        assert_ne!(keep(state.path(), Kind::Directive, "text\n\n\u{2014} a b\n").unwrap(), first);
        assert_eq!(std::fs::read_dir(state.path().join(DIRECTORY)).unwrap().count(), 2);
    }
}
