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
    /// A language of the page.
    pub language: String,
    /// Whether to tell of what happens while the window is closed.
    pub notifications: bool,
    /// Whether a presence password is in the key store.
    pub presence: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { theme: "system".into(), language: "en".into(), notifications: true, presence: false }
    }
}

/// Where they are kept.
pub fn directory() -> PathBuf {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config"));
    let base = std::env::var_os("XDG_CONFIG_HOME").or_else(|| std::env::var_os("APPDATA"));
    base.map(PathBuf::from).filter(|p| p.is_absolute()).or_else(home).unwrap_or_default().join("mast")
}

impl Settings {
    /// Reads them. A file that is damaged is put aside, and the defaults count.
    pub fn load(directory: &Path) -> Self {
        let path = directory.join(FILE);
        let Ok(text) = std::fs::read(&path) else { return Self::default() };
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
        std::fs::write(directory.path().join(FILE), "{").unwrap();
        assert_eq!(Settings::load(directory.path()), Settings::default());
        assert!(directory.path().join("desktop.json.damaged").exists());
    }
}
