//! `cargo xtask build-ebpf`: the XDP programs from their source. In: `tap-ebpf` and the recorded toolchain. Out: the objects beside
//! the source, and the record of what made it. What bounds it: `--check` changes nothing; it compares byte for byte.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::command::run;

/// Exit code of `--check` under another toolchain than the recorded one.
const TOOLCHAIN_MOVED: u8 = 3;
/// The compiler pair of Debian's security archive; rustup's pair has no library source on many machines.
const RUSTC: &str = "/usr/bin/rustc";
const CARGO: &str = "/usr/bin/cargo";
const LLVM: &str = "/usr/lib/llvm-22/bin";
/// Where sources lie while they are built, whatever the checkout's own path is.
const STAGE: &str = "/var/tmp/gwtap-build-ebpf";
const TARGET: &str = "bpfel-unknown-none";

/// Arguments of `cargo xtask build-ebpf`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Compare a rebuild with the committed object instead of replacing it; exits 3 under another toolchain
    #[arg(long)]
    check: bool,
}

/// The objects: the program, and the benchmark's programs around it.
const OBJECTS: [&str; 2] = ["gwtap", "bench"];

/// What made the committed objects: `tap-ebpf/TOOLCHAIN.toml`.
#[derive(Deserialize, Serialize)]
struct Record {
    /// SHA-256 of each object.
    object_sha256: BTreeMap<String, String>,
    /// What it is reproducible with.
    toolchain: Toolchain,
}

#[derive(Deserialize, Serialize, PartialEq, Eq, Debug)]
struct Toolchain {
    rustc: String,
    rustc_package: String,
    llvm: String,
    bpf_linker: String,
}

pub(crate) fn build_ebpf(args: &Args) -> Result<ExitCode> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("tap-ebpf").canonicalize()?;
    let toolchain = Toolchain::installed()?;
    let record = source.join("TOOLCHAIN.toml");
    if args.check { check(&source, &record, &toolchain) } else { replace(&source, &record, toolchain) }
}

fn replace(source: &Path, record: &Path, toolchain: Toolchain) -> Result<ExitCode> {
    let mut object_sha256 = BTreeMap::new();
    for (name, built) in build(source)? {
        let object = committed(source, name);
        std::fs::write(&object, &built).with_context(|| format!("{}", object.display()))?;
        object_sha256.insert(name.to_owned(), hex::encode(Sha256::digest(&built)));
        println!("build-ebpf: {} ({} bytes)", object.display(), built.len());
    }
    let text = toml::to_string(&Record { object_sha256, toolchain })?;
    let head = "# What made the objects; `cargo xtask build-ebpf` writes this file, `--check` compares.\n";
    std::fs::write(record, format!("{head}{text}")).with_context(|| format!("{}", record.display()))?;
    Ok(ExitCode::SUCCESS)
}

fn check(source: &Path, record: &Path, toolchain: &Toolchain) -> Result<ExitCode> {
    let text = std::fs::read_to_string(record).with_context(|| format!("{}", record.display()))?;
    let recorded: Record = toml::from_str(&text).with_context(|| format!("{}", record.display()))?;
    for name in OBJECTS {
        let object = committed(source, name);
        let bytes = std::fs::read(&object).with_context(|| format!("{}", object.display()))?;
        if recorded.object_sha256.get(name) != Some(&hex::encode(Sha256::digest(&bytes))) {
            bail!("{} is not the object that {} records", object.display(), record.display());
        }
    }
    if *toolchain != recorded.toolchain {
        println!("recorded:  {:?}\ninstalled: {toolchain:?}", recorded.toolchain);
        println!("toolchain moved: rebuild, review the disassembly's difference, commit object and record together");
        return Ok(ExitCode::from(TOOLCHAIN_MOVED));
    }
    for (name, built) in build(source)? {
        let object = committed(source, name);
        if built != std::fs::read(&object)? {
            bail!(
                "the rebuilt object differs from {}: the source changed without it; run `cargo xtask build-ebpf`",
                object.display()
            );
        }
    }
    println!("build-ebpf --check: the committed objects are what their source builds");
    Ok(ExitCode::SUCCESS)
}

fn committed(source: &Path, name: &str) -> PathBuf {
    source.join(format!("{name}.bpf.o"))
}

/// Builds, strips debugging information (BTF stays), and returns the objects.
fn build(source: &Path) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let stage = stage(source)?;
    let home = cargo_home()?;
    // Paths of the machine must not be in the object: it would differ with each checkout.
    let flags = [
        "-Clinker=bpf-linker".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        "-Cdebuginfo=2".to_owned(),
        // 32-bit arithmetic and jumps (Linux 5.1): fewer instructions.
        "-Ctarget-cpu=v3".to_owned(),
        // Placed by its own lights, LLVM lets the end of a loop fall through into its head, which verifiers up to 6.1
        // refuse ("back-edge"): there a loop goes back by a jump alone.
        "-Clink-arg=--llvm-args=-disable-block-placement".to_owned(),
        "-Ctarget-feature=+allows-misaligned-mem-access".to_owned(),
        "--cfg=bpf_target_arch=\"x86_64\"".to_owned(),
        format!("--remap-path-prefix={STAGE}=gwtap"),
        format!("--remap-path-prefix={}=cargo", home.display()),
    ]
    .join("\u{1f}");
    let target = source.join("target");
    let built = run(Command::new(CARGO)
        .args(["build", "--release", "--locked", "-Zbuild-std=core", "--target", TARGET])
        .current_dir(stage.join("tap-ebpf"))
        .env("CARGO_TARGET_DIR", &target)
        .env("PATH", format!("{}/bin:/usr/bin:/bin", home.display()))
        .env("RUSTC", RUSTC)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags)
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("CARGO"));
    std::fs::remove_dir_all(&stage).with_context(|| format!("{}", stage.display()))?;
    built?;
    let release = target.join(TARGET).join("release");
    let strip = |name: &'static str| {
        let stripped = release.join(format!("{name}.stripped.o"));
        run(Command::new(format!("{LLVM}/llvm-strip")).arg("-g").arg(release.join(name)).arg("-o").arg(&stripped))?;
        let bytes = std::fs::read(&stripped).with_context(|| format!("{}", stripped.display()))?;
        Ok((name, bytes))
    };
    OBJECTS.into_iter().map(strip).collect()
}

/// Copies the sources to [`STAGE`]: cargo derives symbol names, and so the order of functions, from the folder that a
/// dependency outside the workspace lies in, and the object must be the same from every checkout.
fn stage(source: &Path) -> Result<PathBuf> {
    let root = source.parent().context("tap-ebpf has no parent folder")?;
    let stage = PathBuf::from(STAGE);
    std::fs::create_dir(&stage)
        .with_context(|| format!("{STAGE}: another build is under way, or was interrupted: remove the folder"))?;
    for file in ["Cargo.toml", "tap-common/Cargo.toml", "tap-ebpf/Cargo.toml", "tap-ebpf/Cargo.lock"] {
        copy(&root.join(file), &stage.join(file))?;
    }
    for folder in ["tap-common/src", "tap-ebpf/src"] {
        copy_folder(&root.join(folder), &stage.join(folder))?;
    }
    // The workspace that tap-common inherits from names its other members; they need not hold anything.
    for member in ["tap-userspace", "xtask", "tests", "tests/init"] {
        copy(&root.join(member).join("Cargo.toml"), &stage.join(member).join("Cargo.toml"))?;
        let library = stage.join(member).join("src/lib.rs");
        std::fs::create_dir_all(stage.join(member).join("src"))?;
        std::fs::write(&library, "").with_context(|| format!("{}", library.display()))?;
    }
    Ok(stage)
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    for entry in std::fs::read_dir(from).with_context(|| format!("{}", from.display()))? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() { copy_folder(&from, &to)? } else { copy(&from, &to)? }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(folder) = to.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))?;
    }
    std::fs::copy(from, to).with_context(|| format!("{}", from.display()))?;
    Ok(())
}

impl Toolchain {
    fn installed() -> Result<Self> {
        let bpf_linker = cargo_home()?.join("bin/bpf-linker");
        Ok(Self {
            rustc: first_line(RUSTC, &["--version"])?,
            rustc_package: first_line("dpkg-query", &["-W", "-f=${Package} ${Version}", "rustc-web"])?,
            llvm: first_line(&format!("{LLVM}/llvm-config"), &["--version"])?,
            bpf_linker: first_line(&bpf_linker.display().to_string(), &["--version"])?,
        })
    }
}

fn cargo_home() -> Result<PathBuf> {
    match std::env::var_os("CARGO_HOME") {
        Some(home) => Ok(home.into()),
        None => Ok(PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cargo")),
    }
}

fn first_line(program: &str, args: &[&str]) -> Result<String> {
    const MEND: &str = "`cargo xtask setup --ebpf` installs what building the BPF object needs";
    let output = Command::new(program).args(args).output().with_context(|| format!("{program} is missing; {MEND}"))?;
    if !output.status.success() {
        bail!("{program} {} failed; {MEND}", args.join(" "));
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().trim().to_owned())
}
