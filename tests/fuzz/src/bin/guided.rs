//! The targets under libFuzzer; `tests/fuzz/guided` builds and calls this. `MAST_FUZZ` names the target.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use mast_fuzz::Target;

fuzz_target!(|data: &[u8]| {
    static TARGET: OnceLock<Target> = OnceLock::new();
    let target = TARGET.get_or_init(|| {
        let name = std::env::var("MAST_FUZZ").unwrap_or_default();
        Target::named(&name).unwrap_or_else(|| panic!("MAST_FUZZ must name a target, not {name:?}"))
    });
    (target.run)(data);
});
