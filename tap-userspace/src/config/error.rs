//! What is wrong with a configuration, where, and what to do.

use std::path::{Path, PathBuf};

/// Why a configuration is refused. The message names file and place; values are shown, secrets never stand in the file.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot be read ({source}); name the configuration with --config FILE", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not TOML, an unknown key, a missing key or a value of the wrong type.
    #[error("{}:{line}: {place}{message}; correct that line (deploy/gwtap.example.toml shows every key)", file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// Line, from 1.
        line: usize,
        /// `section.key: ` as far as it is known, or empty.
        place: String,
        /// What is wrong.
        message: String,
    },
    /// A value outside its bounds.
    #[error("{}: {key}: {reason}", file.display())]
    Value {
        /// The file.
        file: PathBuf,
        /// `section.key`, or `measure[n].key` of the n-th measure (from 0).
        key: String,
        /// What is wrong and what to write instead.
        reason: String,
    },
}

impl ConfigError {
    /// Turns the parser's error into one that names line, section and key.
    pub(super) fn syntax(file: &Path, text: &str, error: &toml::de::Error) -> Self {
        let offset = error.span().map_or(0, |span| span.start).min(text.len());
        let before = text.get(..offset).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let place = place(text, line);
        Self::Syntax { file: file.to_path_buf(), line, place, message: error.message().replace('\n', ", ") }
    }
}

/// `[section] key: ` that line `line` (from 1) stands in.
fn place(text: &str, line: usize) -> String {
    let mut section = "";
    let mut key = "";
    for row in text.lines().take(line) {
        let row = row.trim();
        key = "";
        if row.starts_with('[') {
            section = row;
        } else if let Some((name, _)) = row.split_once('=') {
            key = name.trim();
        }
    }
    match (section, key) {
        ("", "") => String::new(),
        ("", key) => format!("{key}: "),
        (section, "") => format!("{section}: "),
        (section, key) => format!("{section} {key}: "),
    }
}
