//! The `rblk` command: arguments in, exit code out. Everything else is in [`rblk::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    rblk::cli::run(std::env::args_os())
}
