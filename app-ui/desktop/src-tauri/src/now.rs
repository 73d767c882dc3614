//! How things are, in one honest sentence: as the service says, or of the service itself.

use mast_control::words::{Light, Now};
use mast_control::{Layer, Status};

use crate::link::{Service, State};

/// How things are by what is known.
pub fn of(service: &Service, status: Option<&Status>) -> Now {
    let bad = |sentence: &str| Now::bad(Layer::Service, sentence, service.detail.as_str());
    match (service.state, status) {
        (State::Ok, Some(status)) => Now::with(status),
        (State::Ok | State::Connecting, _) => Now::new(Light::Working, "Looking for the service …", ""),
        (State::Lost, _) => bad("The service stopped."),
        (State::Stopped, _) => bad("The service does not run."),
        (State::Missing, _) => bad("The service is not installed."),
        (State::Forbidden, _) => bad("The service is closed to you."),
        (State::Old | State::New | State::Broken, _) => bad("The app and the service do not fit."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_service_nothing_is_good() {
        for state in [
            State::Lost,
            State::Stopped,
            State::Missing,
            State::Forbidden,
            State::Old,
            State::New,
            State::Broken,
        ] {
            let now = of(&Service { state, ..Service::default() }, None);
            assert_eq!((now.light, now.layer), (Light::Bad, Some(Layer::Service)), "{state:?}");
        }
    }
}
