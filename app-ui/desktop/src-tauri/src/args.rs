//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

/// MAST: keeps connections alive while this machine moves between networks. The desktop app.
#[derive(Debug, Clone, clap::Parser)]
#[command(version)]
pub struct Args {
    /// Stay in the tray.
    #[arg(long)]
    pub hidden: bool,
    /// Where the service listens.
    #[arg(long, value_name = "PATH", env = "MAST_SOCKET", default_value = mast_control::DEFAULT_SOCKET)]
    pub socket: PathBuf,
    /// An invite, mast://…: the window shows it, and adds the peer when you say so.
    #[arg(value_name = "LINK")]
    pub link: Option<String>,
}

impl Args {
    /// What the words of a start say. A Mac may add a number of its own, which says nothing.
    pub fn of(words: impl Iterator<Item = OsString>) -> Self {
        clap::Parser::parse_from(words.filter(|word| !word.as_encoded_bytes().starts_with(b"-psn_")))
    }
}

/// The invite among the arguments of a start. It is untrusted: any web page can have the app started with one.
pub fn link<'a>(arguments: impl IntoIterator<Item = &'a String>) -> Option<&'a str> {
    /// A real one is much shorter.
    const LONGEST: usize = 4096;
    let mut links = arguments.into_iter().map(String::as_str).filter(|a| a.starts_with("mast://"));
    links.next().filter(|link| link.len() <= LONGEST && !link.contains(char::is_control))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_mac_adds_to_a_start_says_nothing() {
        let words = ["mast-desktop", "-psn_0_123456", "--hidden"].map(OsString::from);
        assert!(Args::of(words.into_iter()).hidden);
    }

    #[test]
    fn an_invite_is_found_among_the_arguments_and_nothing_else_is() {
        let all = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        assert_eq!(link(&all(&["mast-desktop", "mast://1/abc"])), Some("mast://1/abc"));
        assert_eq!(link(&all(&["mast-desktop", "--hidden", "https://example.org"])), None);
        assert_eq!(link(&all(&["mast-desktop", "mast://1/a\nb"])), None);
        assert_eq!(link(&all(&["mast-desktop", &format!("mast://{}", "x".repeat(5000))])), None);
    }
}
