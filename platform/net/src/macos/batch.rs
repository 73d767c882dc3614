//! Many datagrams with one call, of which the system may take some.

use std::io;

use mast_engine::os::{NotSent, SendRefused};

/// What the system made of a batch: it took so many from the front, or none.
pub type Taken = io::Result<usize>;

/// Sends the datagrams of `stride` bytes that lie one after the other in `payload`, at most `most` at once. `push` hands
/// the system some of them; `why` says what an error means.
///
/// # Errors
/// Which are not on their way, and why.
pub fn send(
    payload: &[u8],
    stride: usize,
    most: usize,
    mut push: impl FnMut(&[&[u8]]) -> Taken,
    why: impl Fn(&io::Error) -> SendRefused,
) -> Result<(), NotSent> {
    let all: Vec<&[u8]> = payload.chunks(stride.max(1)).collect();
    let mut sent = 0;
    while let Some(rest) = all.get(sent..).filter(|rest| !rest.is_empty()) {
        let now = rest.get(..most.max(1)).unwrap_or(rest);
        match push(now) {
            // One that is asked again and again must not go on without end.
            Ok(0) => return Err(NotSent { sent, why: SendRefused::Full }),
            Ok(taken) => sent += taken.min(now.len()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(NotSent { sent, why: why(&error) }),
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn why(error: &io::Error) -> SendRefused {
        SendRefused::of(error.kind())
    }

    /// Sends 10 datagrams of which the last is shorter to a system that takes so many each time; what arrived, in order.
    fn play(mut taken: impl FnMut(usize) -> Taken, most: usize) -> (Vec<u8>, Result<(), NotSent>) {
        let payload: Vec<u8> = (0..98).collect();
        let mut arrived = Vec::new();
        let result = send(
            &payload,
            10,
            most,
            |now| {
                assert!(now.len() <= most.max(1) && now.iter().rev().skip(1).all(|d| d.len() == 10));
                let taken = taken(now.len())?;
                now.iter().take(taken).for_each(|d| arrived.extend(*d));
                Ok(taken)
            },
            why,
        );
        (arrived, result)
    }

    #[test]
    fn whatever_a_system_takes_at_a_time_each_leaves_once_and_in_order() {
        let all: Vec<u8> = (0..98).collect();
        for most in [0, 1, 3, 64] {
            for at_once in [1, 2, 3, 64] {
                let (arrived, result) = play(|offered| Ok(offered.min(at_once)), most);
                assert_eq!((arrived, result), (all.clone(), Ok(())), "{most} {at_once}");
            }
        }
        // One that says it took more than it was given.
        assert_eq!(play(|_| Ok(1000), 4).0.len(), 98);
    }

    #[test]
    fn what_is_on_its_way_is_told_when_the_rest_is_refused() {
        for (kind, expected) in [
            (io::ErrorKind::WouldBlock, SendRefused::Full),
            (io::ErrorKind::HostUnreachable, SendRefused::Unreachable),
        ] {
            let mut calls = 0;
            let refused = |offered: usize| {
                calls += 1;
                if calls == 3 { Err(kind.into()) } else { Ok(offered.min(2)) }
            };
            let (arrived, result) = play(refused, 4);
            assert_eq!(result, Err(NotSent { sent: 4, why: expected }));
            assert_eq!(arrived.len(), 40);
        }
        assert_eq!(play(|_| Ok(0), 4).1, Err(NotSent { sent: 0, why: SendRefused::Full }));
        let mut interrupted = false;
        let again = |offered| {
            let first = !std::mem::replace(&mut interrupted, true);
            if first { Err(io::ErrorKind::Interrupted.into()) } else { Ok(offered) }
        };
        assert_eq!(play(again, 64).1, Ok(()));
    }
}
