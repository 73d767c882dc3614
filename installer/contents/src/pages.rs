//! Man pages and completions, from the command lines as the programs have them.

use std::error::Error;
use std::fs;
use std::path::Path;

use clap::{Command, CommandFactory};
use clap_complete::Shell;

// The very files of the programs, so that nothing else of them is built.
#[allow(dead_code, unexpected_cfgs, reason = "as above")]
#[path = "../../../app-ui/desktop/src-tauri/src/args.rs"]
mod desktop;
#[allow(
    dead_code,
    unexpected_cfgs,
    reason = "only what is said of the words is of use here, without the demonstration"
)]
#[path = "../../../app-ui/cli/src/args.rs"]
mod mast;
#[allow(dead_code, unexpected_cfgs, reason = "as above; what is for benchmarks is not packaged")]
#[path = "../../../platform/daemon/src/args.rs"]
mod mastd;

/// Writes `man/*.1`, `man/*.8` and `completions/*`.
pub fn write(directory: &Path) -> Result<(), Box<dyn Error>> {
    let (man, completions) = (directory.join("man"), directory.join("completions"));
    fs::create_dir_all(&man)?;
    fs::create_dir_all(&completions)?;
    manual(mast::Cli::command(), "mast", "1", &man)?;
    manual(mastd::Args::command(), "mastd", "8", &man)?;
    manual(desktop::Args::command(), "mast-desktop", "1", &man)?;
    for (program, command) in [
        ("mast", mast::Cli::command()),
        ("mastd", mastd::Args::command()),
        ("mast-desktop", desktop::Args::command()),
    ] {
        for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
            clap_complete::generate_to(shell, &mut command.clone(), program, &completions)?;
        }
    }
    Ok(())
}

/// The page of a command, and those of its subcommands.
fn manual(command: Command, name: &str, section: &str, directory: &Path) -> Result<(), Box<dyn Error>> {
    for sub in command.get_subcommands().filter(|c| !c.is_hide_set()) {
        manual(sub.clone(), &format!("{name}-{}", sub.get_name()), section, directory)?;
    }
    // The page is called after the whole way to it.
    let bin = name.replacen('-', " ", if name == "mast-desktop" { 0 } else { usize::MAX });
    let page = clap_mangen::Man::new(
        command.display_name(name.to_owned()).bin_name(bin).version(env!("CARGO_PKG_VERSION")),
    )
    .title(name.to_uppercase())
    .section(section)
    .manual("MAST")
    // The day of the build would make every build another one.
    .date("");
    let mut text = Vec::new();
    page.render(&mut text)?;
    fs::write(directory.join(format!("{name}.{section}")), text)?;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_and_they_are_the_same_each_time() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        write(one.path()).unwrap();
        write(other.path()).unwrap();
        let read = |at: &str| fs::read_to_string(one.path().join(at)).unwrap();
        assert!(read("man/mast.1").contains("mast\\-peer(1)") || read("man/mast.1").contains("mast-peer(1)"));
        assert!(read("man/mast-invite-revoke.1").contains("mast invite revoke"));
        assert!(read("man/mastd.8").contains("state\\-dir"));
        assert!(read("man/mast-desktop.1").contains("mast\\-desktop"));
        assert!(read("completions/mast.bash").contains("invite"));
        for folder in ["man", "completions"] {
            for entry in fs::read_dir(one.path().join(folder)).unwrap() {
                let entry = entry.unwrap();
                let same = fs::read(other.path().join(folder).join(entry.file_name())).unwrap();
                assert_eq!(fs::read(entry.path()).unwrap(), same, "{:?}", entry.file_name());
            }
        }
    }
}
