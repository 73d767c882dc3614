//! What reads bytes from outside and is private, for `tests/fuzz`: each takes any bytes, and asserts what must hold.
//!
//! Nothing of a service or a user interface calls these.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::client::notice;
use crate::request::{Hello, Method, Request};
use crate::wire::{FromServer, Incoming, Lines, Next};
use crate::{
    Check, DoctorReport, DrillProgress, DrillReport, Event, HandedKey, HelloReply, History, Invited, Invites,
    Logs, PeerAdded, PeerView, Status, Story, UsageReport,
};

/// What a user interface sends: lines, and in them requests.
pub fn request(data: &[u8]) {
    for line in lines(data) {
        let Ok(incoming) = Incoming::parse(&line) else { continue };
        assert!(incoming.id.is_number() || incoming.id.is_string());
        let Ok(method) = Method::parse(&incoming.method, incoming.params) else { continue };
        match method {
            Method::Hello(Hello { .. }) => {}
            Method::Call(request) => again(&request),
            _ => {}
        }
    }
}

/// A request that is understood is understood when it is sent again.
fn again(request: &Request) {
    let params = Some(request.params()).filter(|params| !params.is_null());
    match Method::parse(request.method(), params) {
        Ok(Method::Call(same)) => assert_eq!(&same, request),
        other => panic!("{} becomes {other:?}", request.method()),
    }
    let _ = request.only_reads();
}

/// What a service sends: lines, and in them answers and notices of all kinds.
pub fn response(data: &[u8]) {
    for line in lines(data) {
        let Ok(message) = serde_json::from_slice::<FromServer>(&line) else { continue };
        if let Some(method) = message.method {
            let _ = notice(&method, message.params.clone());
            typed::<DrillProgress>(&message.params);
        }
        if let Some(result) = message.result {
            typed::<HelloReply>(&result);
            typed::<Status>(&result);
            typed::<PeerView>(&result);
            typed::<PeerAdded>(&result);
            typed::<Invited>(&result);
            typed::<Invites>(&result);
            typed::<DoctorReport>(&result);
            typed::<DrillReport>(&result);
            typed::<Check>(&result);
            typed::<Story>(&result);
            typed::<Logs>(&result);
            typed::<History>(&result);
            typed::<UsageReport>(&result);
            typed::<HandedKey>(&result);
        }
        if let Some(error) = message.error {
            let _ = crate::ControlError::from(error).to_string();
        }
    }
}

/// An event as it is kept in the file of the story, and told in words.
pub fn event(data: &[u8]) {
    let Ok(event) = serde_json::from_slice::<Event>(data) else { return };
    let _ = (crate::words::reason(&event.what), crate::words::moved(&event, true));
}

fn typed<T: DeserializeOwned>(value: &Value) {
    let _ = serde_json::from_value::<T>(value.clone());
}

/// The lines, with a limit that is reached.
fn lines(data: &[u8]) -> Vec<Vec<u8>> {
    const LIMIT: usize = 4_096;
    let mut lines = Lines::new(data, LIMIT);
    let mut all = Vec::new();
    loop {
        let next = {
            let mut next = pin!(lines.next());
            // All of it is there.
            match next.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(next) => next,
                Poll::Pending => panic!("waits for what is there"),
            }
        };
        match next {
            Ok(Next::Line(line)) => {
                assert!(line.len() <= LIMIT && !line.contains(&b'\n'));
                all.push(line);
            }
            Ok(Next::Blank(bytes)) => assert!(bytes > 0 && bytes <= data.len()),
            Ok(Next::TooLong | Next::End) | Err(_) => return all,
        }
    }
}
