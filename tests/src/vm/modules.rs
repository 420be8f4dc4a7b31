//! Kernel modules for a machine without disk: which ones, in which order. In: a directory of modules and names. Out: each
//! module's bytes, decompressed, after those that it needs. A package has no list of dependencies before it is installed;
//! every module names its own. What is not there as a file is built into the kernel, or the test that needs it says so.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use object::{Object as _, ObjectSection as _};

/// A module that is ready to be loaded.
#[derive(Debug)]
pub(super) struct Module {
    /// Its name, with underscores.
    pub(super) name: String,
    /// The object file.
    pub(super) bytes: Vec<u8>,
}

/// Reads `wanted` and what they need from below `directory`, in the order of loading.
///
/// # Errors
/// A module cannot be read, decompressed, or is none.
pub(super) fn resolve(directory: &Path, wanted: &[&str]) -> Result<Vec<Module>> {
    let mut files = BTreeMap::new();
    index(directory, &mut files)?;
    let (mut ready, mut seen) = (Vec::new(), BTreeSet::new());
    for name in wanted {
        add(name, &files, &mut seen, &mut ready)?;
    }
    Ok(ready)
}

fn add(
    name: &str,
    files: &BTreeMap<String, PathBuf>,
    seen: &mut BTreeSet<String>,
    ready: &mut Vec<Module>,
) -> Result<()> {
    // Marked before its dependencies: a circle, which no kernel has, would end here.
    if !seen.insert(name.to_owned()) {
        return Ok(());
    }
    let Some(file) = files.get(name) else { return Ok(()) };
    let bytes = read(file)?;
    for needed in needs(&bytes).with_context(|| file.display().to_string())? {
        add(&needed, files, seen, ready)?;
    }
    ready.push(Module { name: name.to_owned(), bytes });
    Ok(())
}

/// Every module below `directory`, by name.
fn index(directory: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            index(&entry.path(), files)?;
        } else if let Some((name, _)) = entry.file_name().to_string_lossy().split_once(".ko") {
            files.insert(name.replace('-', "_"), entry.path());
        }
    }
    Ok(())
}

fn read(file: &Path) -> Result<Vec<u8>> {
    let shown = file.display();
    let program = match file.extension().and_then(|extension| extension.to_str()) {
        Some("ko") => return std::fs::read(file).with_context(|| shown.to_string()),
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => bail!("{shown}: compressed in an unknown way"),
    };
    let output = Command::new(program)
        .arg("-dc")
        .arg(file)
        .output()
        .with_context(|| format!("{shown}: it needs `{program}` (cargo xtask setup --test installs it)"))?;
    if !output.status.success() {
        bail!("{shown}: {program}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(output.stdout)
}

/// The modules that this one needs, by its own words.
fn needs(module: &[u8]) -> Result<Vec<String>> {
    let object = object::File::parse(module).context("not a kernel module")?;
    let section = object.section_by_name(".modinfo").context("not a kernel module: no .modinfo")?;
    let words = section.data().context(".modinfo")?;
    let depends = words
        .split(|byte| *byte == 0)
        .filter_map(|word| std::str::from_utf8(word).ok()?.strip_prefix("depends="))
        .flat_map(|list| list.split(','))
        .filter(|name| !name.is_empty());
    Ok(depends.map(|name| name.replace('-', "_")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An object file with the `.modinfo` of a module that needs `needed`.
    fn module(needed: &str) -> Vec<u8> {
        use object::write;
        let mut object =
            write::Object::new(object::BinaryFormat::Elf, object::Architecture::X86_64, object::Endianness::Little);
        let section = object.add_section(Vec::new(), b".modinfo".to_vec(), object::SectionKind::ReadOnlyData);
        object.append_section_data(section, format!("license=GPL\0depends={needed}\0").as_bytes(), 1);
        object.write().unwrap()
    }

    #[test]
    fn a_module_comes_after_those_that_it_needs_and_once() {
        let directory = tempfile::tempdir().unwrap();
        let deep = directory.path().join("kernel/net");
        std::fs::create_dir_all(&deep).unwrap();
        for (name, needed) in [("top-most.ko", "middle,other"), ("middle.ko", "base-one"), ("base-one.ko", "")] {
            std::fs::write(deep.join(name), module(needed)).unwrap();
        }
        let resolved = resolve(directory.path(), &["middle", "top_most", "built_in"]).unwrap();
        let names: Vec<&str> = resolved.iter().map(|module| module.name.as_str()).collect();
        assert_eq!(names, ["base_one", "middle", "top_most"]);
    }

    #[test]
    fn what_is_no_module_is_named() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("veth.ko"), b"text").unwrap();
        let error = resolve(directory.path(), &["veth"]).unwrap_err();
        assert!(format!("{error:#}").contains("veth.ko"), "{error:#}");
    }
}
