//! What differs between the systems that the app runs on: whom it asks, what it says to type, what it is told.

use std::path::{Path, PathBuf};

use tauri::RunEvent;

/// A system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum System {
    /// Linux, with systemd.
    Linux,
    /// Windows 10 and later.
    Windows,
    /// macOS 13 and later.
    MacOs,
}

/// The one that this is.
pub const HERE: System = if cfg!(windows) {
    System::Windows
} else if cfg!(target_os = "macos") {
    System::MacOs
} else {
    System::Linux
};

impl System {
    /// Starts the service, now and at every boot; as one would type it.
    pub fn start(self) -> &'static str {
        match self {
            Self::Linux => "sudo systemctl enable --now mastd",
            Self::Windows => "sc.exe start mastd",
            Self::MacOs => "sudo launchctl kickstart system/org.mast.mastd",
        }
    }

    /// Starts it anew.
    pub fn restart(self) -> &'static str {
        match self {
            Self::Linux => "sudo systemctl restart mastd",
            Self::Windows => "powershell.exe -NoProfile -Command Restart-Service mastd",
            Self::MacOs => "sudo launchctl kickstart -k system/org.mast.mastd",
        }
    }

    /// Lets a user change things. None where those may who administer the machine, whom nobody should become for that.
    pub fn join(self, user: &str) -> Option<String> {
        match self {
            Self::Linux => Some(format!("sudo usermod -aG mast {user}")),
            // The first fails where there is the group already.
            Self::Windows => {
                Some(format!("cmd.exe /c net localgroup mast /add & net localgroup mast {user} /add"))
            }
            Self::MacOs => None,
        }
    }

    /// Why a user may not change things.
    pub fn outside(self) -> &'static str {
        match self {
            Self::Linux | Self::Windows => "you are not in the group `mast`",
            Self::MacOs => "you do not administer this Mac",
        }
    }

    /// Builds the service where there is none.
    pub fn build(self) -> &'static str {
        "cargo build --release -p mast-cli -p mastd --no-default-features"
    }

    /// What runs a command as administrator: the system asks who that is. The command is one of those above, without
    /// what no shell shall see.
    pub fn elevated(self, command: &str) -> Vec<String> {
        let plain = command.strip_prefix("sudo ").unwrap_or(command);
        let (program, arguments) = plain.split_once(' ').unwrap_or((plain, ""));
        match self {
            Self::Linux => {
                std::iter::once("pkexec").chain(plain.split_whitespace()).map(Into::into).collect()
            }
            Self::Windows => {
                let script = format!(
                    "try {{ $p = Start-Process -Verb RunAs -WindowStyle Hidden -Wait -PassThru -FilePath '{program}' \
                     -ArgumentList '{arguments}'; exit $p.ExitCode }} catch {{ exit 126 }}"
                );
                ["powershell.exe", "-NoProfile", "-NonInteractive", "-Command", &script]
                    .map(Into::into)
                    .into()
            }
            Self::MacOs => {
                let script = format!(
                    "try\ndo shell script \"{plain}\" with administrator privileges\non error text number code\nif code is -128 \
                     then return \"declined\"\nerror text number code\nend try"
                );
                ["/usr/bin/osascript", "-e", &script].map(Into::into).into()
            }
        }
    }

    /// What opens a package that was fetched, in the system's installer; None where a package manager updates.
    #[cfg(any(feature = "updater", test))]
    pub fn install(self, package: &Path) -> Option<Vec<String>> {
        let package = package.to_str()?;
        match self {
            Self::Linux => None,
            Self::Windows => {
                // Within single quotes only those themselves mean something, and two stand for one.
                let quoted = package.replace('\'', "''");
                let script =
                    format!("try {{ Start-Process -Verb RunAs -FilePath '{quoted}' }} catch {{ exit 126 }}");
                Some(
                    ["powershell.exe", "-NoProfile", "-NonInteractive", "-Command", &script]
                        .map(Into::into)
                        .into(),
                )
            }
            Self::MacOs => Some(vec!["/usr/bin/open".into(), package.into()]),
        }
    }

    /// Whether an administrator can be asked.
    pub fn can_ask(self) -> bool {
        match self {
            Self::Linux => Path::new("/usr/bin/pkexec").exists(),
            Self::Windows | Self::MacOs => true,
        }
    }

    /// The variable that says who the user is, and how a shell is told to read it.
    pub fn user(self) -> (&'static str, &'static str) {
        match self {
            Self::Linux | Self::MacOs => ("USER", "$USER"),
            Self::Windows => ("USERNAME", "%USERNAME%"),
        }
    }

    /// What somebody is told who has no terminal, where no window comes up. `runtime` says whether what draws it is there.
    pub fn without_window(self, runtime: bool) -> Option<&'static str> {
        match (self, runtime) {
            // Who starts it from a terminal reads why.
            (Self::Linux, _) => None,
            (Self::Windows, false) => Some(
                "The window needs the Microsoft Edge WebView2 Runtime, which Windows 11 has and this Windows has not: install \
                 it from https://developer.microsoft.com/microsoft-edge/webview2, and start MAST again. Connections are kept \
                 without it.",
            ),
            _ => Some("The window could not be opened: restart MAST. Connections are kept without it."),
        }
    }

    /// What keeps a user's secrets.
    pub fn key_store(self) -> &'static str {
        match self {
            Self::Linux => "Secret Service (GNOME Keyring, KWallet)",
            Self::Windows => "Windows Credential Manager",
            Self::MacOs => "macOS Keychain",
        }
    }

    /// Where the service's program may lie. `own` is the folder of the app's.
    pub fn services(self, own: Option<&Path>) -> Vec<PathBuf> {
        match self {
            Self::Linux => ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"]
                .map(|folder| Path::new(folder).join("mastd"))
                .into(),
            Self::Windows => own.map(|folder| folder.join("mastd.exe")).into_iter().collect(),
            Self::MacOs => vec!["/Library/Application Support/MAST/mastd".into()],
        }
    }
}

/// Does what an event of the system asks of an app that runs: to open links, to show itself since its icon was clicked.
#[cfg(target_os = "macos")]
pub fn wish(event: &RunEvent, open: impl FnOnce(&[String]), show: impl FnOnce()) {
    match event {
        RunEvent::Opened { urls } => open(&urls.iter().map(ToString::to_string).collect::<Vec<_>>()),
        RunEvent::Reopen { has_visible_windows: false, .. } => show(),
        _ => {}
    }
}

/// Elsewhere than on macOS a second instance is started, and says so.
#[cfg(not(target_os = "macos"))]
pub fn wish(_event: &RunEvent, _open: impl FnOnce(&[String]), _show: impl FnOnce()) {}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [System; 3] = [System::Linux, System::Windows, System::MacOs];

    #[test]
    fn every_system_has_its_own_words() {
        for system in ALL {
            let join = system.join("ada");
            for command in
                [Some(system.start()), Some(system.restart()), join.as_deref()].into_iter().flatten()
            {
                let words = system.elevated(command);
                assert!(words.len() > 2 && !words.iter().any(|word| word == "sudo"), "{words:?}");
                // Quoted once, by what runs it: nothing in a command may end the quotes.
                assert!(!command.contains(['\'', '"', '\\', '`', '$']), "{command}");
                assert_eq!(command.starts_with("sudo "), system != System::Windows);
            }
            assert!(join.is_none_or(|join| join.contains("mast") && system.outside().contains("`mast`")));
        }
        let linux = System::Linux.elevated(System::Linux.restart());
        assert_eq!(linux, ["pkexec", "systemctl", "restart", "mastd"]);
        let windows = System::Windows.elevated(System::Windows.start()).join(" ");
        assert!(windows.contains("-FilePath 'sc.exe'") && windows.contains("-ArgumentList 'start mastd'"));
        let mac = System::MacOs.elevated(System::MacOs.start()).join(" ");
        assert!(mac.contains("do shell script \"launchctl kickstart system/org.mast.mastd\" with"), "{mac}");
    }

    #[test]
    fn a_package_is_opened_whatever_its_folder_is_called() {
        let package = Path::new("/home/o'neill/mast.exe");
        assert_eq!(System::Linux.install(package), None);
        let windows = System::Windows.install(package).unwrap().join(" ");
        assert!(windows.contains("-FilePath '/home/o''neill/mast.exe' }"), "{windows}");
        assert_eq!(System::MacOs.install(package).unwrap()[1], "/home/o'neill/mast.exe");
    }

    #[test]
    fn who_sees_no_terminal_is_told_why_there_is_no_window() {
        assert_eq!(System::Linux.without_window(false), None);
        assert!(System::Windows.without_window(false).unwrap().contains("WebView2"));
        for system in [System::Windows, System::MacOs] {
            assert!(!system.without_window(true).unwrap().contains("WebView2"));
        }
    }

    #[test]
    fn the_service_is_sought_where_its_package_puts_it() {
        let own = Path::new("/Program Files/MAST");
        assert_eq!(System::Windows.services(Some(own)), [own.join("mastd.exe")]);
        assert!(System::Windows.services(None).is_empty());
        assert!(System::Linux.services(Some(own)).contains(&"/usr/bin/mastd".into()));
    }
}
