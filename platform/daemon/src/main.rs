//! The MAST service.

use std::process::ExitCode;

fn main() -> ExitCode {
    mastd::main(std::env::args_os().skip(1))
}
