//! `cargo xtask package`: Debian packages of the mirror host, the receiving facility and the laboratory.
//!
//! In: the working tree, or a program that is built already. Out: three `.deb` files, the same bytes for the same tree. The
//! bound is one role a machine: each package brings `gwtap` for its role, and two of them never lie on one machine.

mod build;
mod control;
mod deb;
mod layout;
pub(crate) mod pages;
mod sbom;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use crate::command::target;

/// Arguments of `cargo xtask package`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where the packages go
    #[arg(long, value_name = "DIRECTORY")]
    out: Option<PathBuf>,
    /// Build everything twice in different places, and compare the packages byte by byte
    #[arg(long, conflicts_with = "program")]
    check: bool,
    /// Pack this program instead of building one (the layout's tests do)
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Version of the packages; the workspace's unless it is said
    #[arg(long)]
    package_version: Option<String>,
    /// Who answers for these packages
    #[arg(long, default_value = "gwtap packagers <root@localhost.localdomain>")]
    maintainer: String,
}

/// Whom a package is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// The mirror host: without the laboratory verbs.
    Mirror,
    /// The receiving facility: without them too.
    Receive,
    /// The laboratory: all verbs, no service.
    Laboratory,
}

impl Role {
    const ALL: [Self; 3] = [Self::Mirror, Self::Receive, Self::Laboratory];

    /// The package's name.
    const fn name(self) -> &'static str {
        match self {
            Self::Mirror => "gwtap",
            Self::Receive => "gwtap-receive",
            Self::Laboratory => "gwtap-laboratory",
        }
    }

    /// Whether the program has the laboratory verbs.
    fn laboratory(self) -> bool {
        self == Self::Laboratory
    }
}

/// What all packages of one run have in common.
struct Edition {
    version: String,
    maintainer: String,
    /// Seconds since 1970: every date in a package.
    epoch: u64,
}

pub(crate) fn package(args: &Args) -> Result<ExitCode> {
    let edition = Edition {
        version: args.package_version.clone().unwrap_or_else(|| env!("CARGO_PKG_VERSION").to_owned()),
        maintainer: args.maintainer.clone(),
        epoch: build::epoch()?,
    };
    let out = args.out.clone().unwrap_or_else(|| target().join("package"));
    let packages = pack(&edition, args.program.as_deref(), &target().join("package/build"), &out)?;
    if args.check {
        let second = pack(&edition, None, &target().join("package/build-again"), &out.join("again"))?;
        same(&packages, &second)?;
        println!("two builds in two places: the same bytes");
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds where no program is given, and packs for each role.
fn pack(edition: &Edition, program: Option<&Path>, place: &Path, out: &Path) -> Result<Vec<PathBuf>> {
    std::fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    let mut packages = Vec::new();
    for role in Role::ALL {
        let program = program.map_or_else(|| build::program(place, role.laboratory()), |file| Ok(file.to_owned()))?;
        let tree = tempfile::tempdir()?;
        layout::fill(tree.path(), role, edition, &program)?;
        packages.push(deb::build(tree.path(), role, edition, out)?);
    }
    Ok(packages)
}

fn same(first: &[PathBuf], second: &[PathBuf]) -> Result<()> {
    for (one, other) in first.iter().zip(second) {
        if std::fs::read(one)? != std::fs::read(other)? {
            bail!("{} and {} differ: diffoscope says where", one.display(), other.display());
        }
    }
    Ok(())
}
