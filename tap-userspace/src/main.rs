//! The `gwtap` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    tap_userspace::cli::main()
}
