//! The archive of an initial RAM disk: cpio, "newc". In: directories, files, devices. Out: the archive's bytes. What bounds
//! it: a file of up to 4 GiB, the format's own limit.

use anyhow::{Context as _, Result};

/// Kinds of entries, as in `st_mode`.
const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const CHARACTER_DEVICE: u32 = 0o020_600;

/// An archive that grows.
#[derive(Debug, Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// Adds a directory; those above it come before it.
    ///
    /// # Errors
    /// The name is too long for the format.
    pub(super) fn directory(&mut self, path: &str) -> Result<()> {
        self.entry(path, DIRECTORY, (0, 0), &[])
    }

    /// Adds a file that everybody may read and run.
    ///
    /// # Errors
    /// The file is too long for the format.
    pub(super) fn file(&mut self, path: &str, content: &[u8]) -> Result<()> {
        self.entry(path, PROGRAM, (0, 0), content)
    }

    /// Adds a character device.
    ///
    /// # Errors
    /// The name is too long for the format.
    pub(super) fn device(&mut self, path: &str, major: u32, minor: u32) -> Result<()> {
        self.entry(path, CHARACTER_DEVICE, (major, minor), &[])
    }

    /// The finished archive.
    ///
    /// # Errors
    /// Never for the trailer that it adds.
    pub(super) fn finish(mut self) -> Result<Vec<u8>> {
        self.entry("TRAILER!!!", 0, (0, 0), &[])?;
        Ok(self.bytes)
    }

    fn entry(&mut self, path: &str, mode: u32, (major, minor): (u32, u32), content: &[u8]) -> Result<()> {
        let name = path.trim_start_matches('/');
        let name_bytes = u32::try_from(name.len() + 1).with_context(|| format!("{path}: name too long"))?;
        let file_bytes = u32::try_from(content.len()).with_context(|| format!("{path}: over 4 GiB"))?;
        self.entries += 1;
        // Inode, mode, owner, group, links, time, size, device of the file system (two), device (two), length of the
        // name with its end, checksum (none in this variant).
        let fields = [self.entries, mode, 0, 0, 1, 0, file_bytes, 0, 0, major, minor, name_bytes, 0];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(name.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
        Ok(())
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_name_and_content_lie_where_the_format_says() {
        let mut archive = Archive::default();
        archive.file("/a/bc", b"hello").unwrap();
        let bytes = archive.finish().unwrap();
        let text = std::str::from_utf8(&bytes).unwrap();
        assert_eq!(&text[..14], "07070100000001");
        assert_eq!(&text[14..22], "000081ed", "a file that everybody may run");
        assert_eq!(&text[54..62], "00000005", "its size");
        assert_eq!(&text[94..102], "00000005", "length of its name and the end of it");
        assert_eq!(&bytes[110..115], b"a/bc\0");
        // 110 and 5 bytes make 115: one byte of padding.
        assert_eq!(&bytes[116..121], b"hello");
        assert_eq!(&bytes[124..130], b"070701", "the trailer begins at a multiple of four");
        assert_eq!(bytes.len() % 4, 0);
    }
}
