//! What is known of the driver's library, and how an adapter is asked for.

use std::time::Duration;

/// How often, and after what pause, an adapter that is refused is asked for again: Windows 11 25H2 refuses at times.
pub const ATTEMPTS: u32 = 4;
pub const PAUSE: Duration = Duration::from_millis(500);

/// The SHA-256 sums of version 0.14.1 as it was signed, by architecture.
const SIGNED: [(&str, &str); 2] = [
    ("x86_64", "e5da8447dc2c320edc0fc52fa01885c103de8c118481f683643cacc3220dafce"),
    ("aarch64", "f7ba89005544be9d85231a9e0d5f23b2d15b3311667e2dad0debd344918a3f80"),
];

/// Whether the library with this sum is the one that was signed for a program of this architecture.
///
/// # Errors
/// What it is otherwise, as the end of a sentence about it.
pub fn verdict(sum: &str, architecture: &str) -> Result<(), String> {
    match SIGNED.iter().find(|(_, signed)| *signed == sum) {
        Some((of, _)) if *of == architecture => Ok(()),
        Some((of, _)) => Err(format!("is made for {of}, and this program for {architecture}")),
        None => Err("is not the one that was signed and shipped".to_owned()),
    }
}

/// Asks for an adapter until it is given, and pauses between. Of the attempts, numbered from 1, the later ones have no
/// wish for what the system shall know it by: something of an earlier one of that name may be in the way.
///
/// # Errors
/// That of the last attempt.
pub fn ask<T, E: std::fmt::Display>(
    mut make: impl FnMut(u32, bool) -> Result<T, E>,
    mut pause: impl FnMut(Duration),
) -> Result<T, E> {
    let mut attempt = 1;
    loop {
        match make(attempt, attempt <= ATTEMPTS / 2) {
            Ok(made) => return Ok(made),
            Err(error) if attempt >= ATTEMPTS => return Err(error),
            Err(error) => {
                tracing::warn!(%error, attempt, "the system refused to make the virtual interface; asking again");
                pause(PAUSE);
                attempt += 1;
            }
        }
    }
}

/// What the system shall know the adapter of a name by: always the same, so that it takes each for the one before, and
/// what the user set for its network stays.
pub fn identity(digest: &[u8]) -> u128 {
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(digest).for_each(|(to, from)| *to = *from);
    // As RFC 9562 has it for what is made of a sum (version 8).
    (u128::from_be_bytes(bytes) & !((0xf << 76) | (0b11 << 62))) | (8 << 76) | (0b10 << 62)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn only_the_signed_library_of_this_architecture_is_taken() {
        for (architecture, sum) in SIGNED {
            verdict(sum, architecture).unwrap();
        }
        let other = verdict(SIGNED[1].1, "x86_64").unwrap_err();
        assert!(other.contains("made for aarch64") && other.contains("x86_64"), "{other}");
        assert!(verdict(&SIGNED[0].1.replace('e', "f"), "x86_64").unwrap_err().contains("not the one"));
        assert!(verdict("", "x86_64").is_err() && verdict(SIGNED[0].1, "riscv64").is_err());
    }

    #[test]
    fn an_adapter_that_is_refused_is_asked_for_again_and_not_for_ever() {
        let mut paused = Vec::new();
        let mut asked = Vec::new();
        let made = ask(
            |attempt, own| {
                asked.push((attempt, own));
                if attempt < 3 { Err("refused") } else { Ok("adapter") }
            },
            |pause| paused.push(pause),
        );
        assert_eq!(made, Ok("adapter"));
        assert_eq!(asked, [(1, true), (2, true), (3, false)]);
        assert_eq!(paused, [PAUSE; 2]);
        let mut count = 0;
        let refused = ask(
            |attempt, _| {
                count += 1;
                Err::<(), _>(format!("refused {attempt}"))
            },
            |_| {},
        );
        assert_eq!((count, refused), (ATTEMPTS, Err(format!("refused {ATTEMPTS}"))));
    }

    #[test]
    fn an_adapter_is_known_by_its_name() {
        let (one, other) = (identity(&[7; 32]), identity(&[9; 32]));
        assert_ne!(one, other);
        for identity in [one, other, identity(&[]), identity(&[0xff; 32])] {
            assert_eq!(((identity >> 76) & 0xf, (identity >> 62) & 0b11), (8, 0b10));
        }
    }
}
