//! Switches for benchmarks, which measure one thing against another on the same machine. Without the feature `measuring`
//! they are not there, and nothing can be switched.

#[cfg(feature = "measuring")]
use std::sync::OnceLock;

/// What is measured.
#[cfg_attr(not(feature = "measuring"), expect(dead_code, reason = "nothing can be switched"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Plain WireGuard with everybody, as if the other end's MAST were not there.
    Plain,
    /// AES-256-GCM, whatever suits the processor.
    Aes,
    /// ChaCha20-Poly1305, whatever suits the processor.
    ChaCha20,
    /// A second thread under load, whether it is worth it or not.
    Lane,
}

#[cfg(feature = "measuring")]
static MEASURE: OnceLock<Measure> = OnceLock::new();

#[cfg(feature = "measuring")]
impl Measure {
    /// By its name: `plain`, `aes`, `chacha20`, `lane`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "plain" => Some(Self::Plain),
            "aes" => Some(Self::Aes),
            "chacha20" => Some(Self::ChaCha20),
            "lane" => Some(Self::Lane),
            _ => None,
        }
    }

    /// Switches every engine of this process that is started from now on. Only the first call counts.
    pub fn set(self) {
        let _ = MEASURE.set(self);
    }
}

/// What was switched.
#[cfg(feature = "measuring")]
pub(crate) fn switched() -> Option<Measure> {
    MEASURE.get().copied()
}

/// Nothing: there is no switch.
#[cfg(not(feature = "measuring"))]
pub(crate) fn switched() -> Option<Measure> {
    None
}
