//! The outcome of one check of the host.

/// One thing that MAST needs of the host, and whether it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What was checked, as a short stable word such as `tun-device`.
    pub name: &'static str,
    /// Whether it is as MAST needs it.
    pub ok: bool,
    /// What was found; when not ok, also what to do about it.
    pub explanation: String,
}

impl Check {
    pub(crate) fn pass(name: &'static str, explanation: impl Into<String>) -> Self {
        Self { name, ok: true, explanation: explanation.into() }
    }

    pub(crate) fn fail(name: &'static str, explanation: impl Into<String>) -> Self {
        Self { name, ok: false, explanation: explanation.into() }
    }
}
