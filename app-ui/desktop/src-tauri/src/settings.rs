//! The app's own settings, in the user's configuration directory.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::refusal::Refusal;

const FILE: &str = "desktop.json";

/// What the user chose for the app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// `system`, `light` or `dark`.
    pub theme: String,
    /// Whether to tell of what happens while the window is closed.
    pub notifications: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { theme: "system".into(), notifications: true }
    }
}

/// Where they are kept.
pub fn directory() -> PathBuf {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config"));
    let base = std::env::var_os("XDG_CONFIG_HOME").or_else(|| std::env::var_os("APPDATA"));
    base.map(PathBuf::from).filter(|p| p.is_absolute()).or_else(home).unwrap_or_default().join("mast")
}

/// What a file of an earlier version chose that there is no more, in words. It is no mistake, and goes with the next
/// change.
fn obsolete(text: &[u8]) -> Vec<&'static str> {
    let chosen: serde_json::Value = serde_json::from_slice(text).unwrap_or_default();
    let mut messages = Vec::new();
    if chosen["presence"] == true {
        messages.push(
            "a presence password was kept, which nothing uses: it is still in your key store (\"MAST\", \"presence \
             password\"), where your password manager can remove it",
        );
    }
    if chosen["language"].as_str().is_some_and(|language| language != "en") {
        messages.push("a language was chosen that the window does not have: it is in English");
    }
    messages
}

impl Settings {
    /// Reads them. A file that is damaged is put aside, and the defaults count.
    pub fn load(directory: &Path) -> Self {
        let path = directory.join(FILE);
        let Ok(text) = std::fs::read(&path) else { return Self::default() };
        for message in obsolete(&text) {
            eprintln!("mast-desktop: {}: {message}", path.display());
        }
        serde_json::from_slice(&text).unwrap_or_else(|error| {
            eprintln!("mast-desktop: {} is damaged ({error}) and was put aside", path.display());
            // If not even that can be done, the next change writes over it.
            let _ = std::fs::rename(&path, path.with_extension("json.damaged"));
            Self::default()
        })
    }

    /// Writes them, in one step.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, directory: &Path) -> Result<(), Refusal> {
        let write = || -> std::io::Result<()> {
            std::fs::create_dir_all(directory)?;
            let mut new = tempfile::NamedTempFile::new_in(directory)?;
            new.write_all(&serde_json::to_vec_pretty(self)?)?;
            new.persist(directory.join(FILE))?;
            Ok(())
        };
        write().map_err(|error| {
            let path = directory.join(FILE);
            Refusal::new(format!("the settings cannot be saved in {}: {error}", path.display()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn are_kept_and_a_damaged_file_is_put_aside() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Settings::load(directory.path()), Settings::default());
        let dark = Settings { theme: "dark".into(), ..Settings::default() };
        dark.save(directory.path()).unwrap();
        assert_eq!(Settings::load(directory.path()), dark);
        let earlier = r#"{"theme": "dark", "language": "en", "presence": false}"#;
        std::fs::write(directory.path().join(FILE), earlier).unwrap();
        assert_eq!(Settings::load(directory.path()), dark, "what is chosen no more is no mistake");
        assert!(obsolete(earlier.as_bytes()).is_empty(), "nor was anything meant by it");
        let meant = obsolete(br#"{"language": "de", "presence": true}"#);
        assert!(meant.len() == 2 && meant[0].contains("key store"), "{meant:?}");
        std::fs::write(directory.path().join(FILE), "{").unwrap();
        assert_eq!(Settings::load(directory.path()), Settings::default());
        assert!(directory.path().join("desktop.json.damaged").exists());
    }
}
