//! Why something the user wanted was not done.

use mast_control::{ClientError, words};
use serde::Serialize;

/// What the page shows beside the field, or at the top.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{message}")]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Refusal {
    /// What is wrong and what to do.
    pub message: String,
    /// The field that is wrong.
    pub field: Option<String>,
}

impl Refusal {
    /// A refusal that concerns no field.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), field: None }
    }

    /// A refusal for what is in a field.
    pub fn of(field: &str, message: impl Into<String>) -> Self {
        Self { message: message.into(), field: Some(field.to_owned()) }
    }
}

impl From<ClientError> for Refusal {
    fn from(error: ClientError) -> Self {
        let ClientError::Refused(refused) = &error else { return Self::new(error.to_string()) };
        let mut message = words::error(refused);
        if !refused.known.is_empty() {
            message.push_str(&format!("; there are: {}", refused.known.join(", ")));
        }
        Self { message, field: refused.field.clone() }
    }
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        Self::new(error.to_string())
    }
}
