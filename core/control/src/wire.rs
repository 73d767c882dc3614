//! JSON-RPC messages as lines.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt};
use zeroize::{Zeroize, Zeroizing};

use crate::error::{ControlError, ErrorCode, WireError};
use crate::report::DrillProgress;
use crate::response::Notice;

/// How much is read at once.
const CHUNK: usize = 8 * 1024;

/// What came next on a connection.
pub(crate) enum Next {
    /// A line, without its end.
    Line(Vec<u8>),
    /// So many bytes of blank lines, which mean nothing.
    Blank(usize),
    /// A line longer than the limit; what follows cannot be trusted to begin at a line's start.
    TooLong,
    /// The other side closed; an unfinished line is dropped.
    End,
}

/// Splits a stream into lines of bounded length. What a line holds may be a secret: nothing of it is left in memory.
pub(crate) struct Lines<R> {
    stream: R,
    buffer: Zeroizing<Vec<u8>>,
    /// Where the line begins that is read.
    start: usize,
    /// So much of the buffer holds no line's end, from its start on.
    scanned: usize,
    limit: usize,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(crate) fn new(stream: R, limit: usize) -> Self {
        Self { stream, buffer: Zeroizing::default(), start: 0, scanned: 0, limit }
    }

    /// What comes next. May be cancelled: nothing that was read is lost. What it does at once is bounded by what one
    /// read brings.
    pub(crate) async fn next(&mut self) -> std::io::Result<Next> {
        loop {
            let blank = self.skip_blank();
            if blank > 0 {
                return Ok(Next::Blank(blank));
            }
            if let Some(line) = self.take_line() {
                return Ok(if line.len() > self.limit { Next::TooLong } else { Next::Line(line) });
            }
            if self.buffer.len() - self.start > self.limit {
                return Ok(Next::TooLong);
            }
            self.make_room();
            if self.stream.read_buf(&mut *self.buffer).await? == 0 {
                return Ok(Next::End);
            }
        }
    }

    /// Room for one read, whatever was read before it. A buffer that grows leaves no copy behind.
    fn make_room(&mut self) {
        if self.buffer.capacity() - self.buffer.len() >= CHUNK {
            return;
        }
        let rest = self.buffer.get(self.start..).unwrap_or_default();
        let mut larger = Zeroizing::new(Vec::with_capacity((rest.len() * 2).max(2 * CHUNK)));
        larger.extend_from_slice(rest);
        self.scanned -= self.start;
        self.start = 0;
        self.buffer = larger;
    }

    /// Passes over lines that hold nothing, and says how many bytes they were.
    fn skip_blank(&mut self) -> usize {
        let unread = self.buffer.get(self.start..).unwrap_or_default();
        let blank = unread.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        // What stands before a line on the same line is its own.
        let ended = unread.get(..blank).unwrap_or_default();
        let ended = ended.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        self.pass(self.start + ended);
        ended
    }

    /// What stands before here is read.
    fn pass(&mut self, to: usize) {
        self.start = to;
        self.scanned = self.scanned.max(to);
        if to == self.buffer.len() {
            self.buffer.clear();
            (self.start, self.scanned) = (0, 0);
        }
    }

    fn take_line(&mut self) -> Option<Vec<u8>> {
        let unseen = self.buffer.get(self.scanned..).unwrap_or_default();
        let Some(at) = unseen.iter().position(|byte| *byte == b'\n') else {
            self.scanned = self.buffer.len();
            return None;
        };
        let end = self.scanned + at;
        let line = self.buffer.get(self.start..end).unwrap_or_default().to_vec();
        if let Some(read) = self.buffer.get_mut(self.start..end) {
            read.zeroize();
        }
        self.pass(end + 1);
        Some(line)
    }
}

/// A request as the server reads it.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) id: Value,
    pub(crate) method: String,
    pub(crate) params: Option<Value>,
}

impl Incoming {
    /// Reads a line. An error comes with the identifier to answer to, null where none could be read.
    pub(crate) fn parse(line: &[u8]) -> Result<Self, Box<(Value, ControlError)>> {
        let invalid = |id: &Value, message: &str| {
            Err(Box::new((id.clone(), ControlError::new(ErrorCode::InvalidRequest, message))))
        };
        let mut object = match serde_json::from_slice(line) {
            Ok(Value::Object(object)) => object,
            Ok(Value::Array(_)) => {
                return invalid(&Value::Null, "batches are not supported: one request a line");
            }
            Ok(_) => return invalid(&Value::Null, "a request is a JSON object"),
            Err(error) => {
                let error = ControlError::new(ErrorCode::Parse, format!("not JSON: {error}"));
                return Err(Box::new((Value::Null, error)));
            }
        };
        let id = match object.remove("id") {
            Some(id @ (Value::Number(_) | Value::String(_))) => id,
            _ => return invalid(&Value::Null, "`id` must be a number or a string"),
        };
        if object.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
            return invalid(&id, "`jsonrpc` must be \"2.0\"");
        }
        match object.remove("method") {
            Some(Value::String(method)) => Ok(Self { id, method, params: object.remove("params") }),
            _ => invalid(&id, "`method` must be a string"),
        }
    }
}

/// A message as the client reads it: an answer or a notification.
#[derive(Debug, Deserialize)]
pub(crate) struct FromServer {
    #[serde(default)]
    pub(crate) id: Option<Value>,
    #[serde(default)]
    pub(crate) method: Option<String>,
    #[serde(default)]
    pub(crate) params: Value,
    #[serde(default)]
    pub(crate) result: Option<Value>,
    #[serde(default)]
    pub(crate) error: Option<WireError>,
}

/// A request as a line.
pub(crate) fn request(id: u64, method: &str, params: &Value) -> Vec<u8> {
    line(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))
}

/// An answer as a line.
pub(crate) fn answer<T: Serialize>(id: &Value, result: Result<T, ControlError>) -> Vec<u8> {
    let body = result.and_then(|value| {
        serde_json::to_value(value)
            .map_err(|error| ControlError::internal(format!("unwritable answer: {error}")))
    });
    match body {
        Ok(result) => line(&json!({"jsonrpc": "2.0", "id": id, "result": result})),
        Err(error) => line(&json!({"jsonrpc": "2.0", "id": id, "error": WireError::from(error)})),
    }
}

/// The name of the notification to a subscriber that did not keep up; `missed` tells how many it lost.
pub(crate) const LOST: &str = "events.lost";

/// A drill's progress as a line.
pub(crate) fn progress(progress: &DrillProgress) -> Vec<u8> {
    notification("drill.progress", &json!(progress))
}

/// A notice as a line.
pub(crate) fn notice(notice: &Notice) -> Vec<u8> {
    match notice {
        Notice::Event(event) => notification("event", &json!(**event)),
        Notice::StatusChanged => notification("status.changed", &json!({})),
        Notice::Missed(missed) => notification(LOST, &json!({"missed": missed})),
    }
}

fn notification(method: &str, params: &Value) -> Vec<u8> {
    line(&json!({"jsonrpc": "2.0", "method": method, "params": params}))
}

fn line(message: &Value) -> Vec<u8> {
    let mut line = message.to_string().into_bytes();
    line.push(b'\n');
    line
}
