//! What of the page is made here, and kept with it: the types of what it is given, and the scenes of its pictures of
//! record. Both are compared with what is kept, so that neither can differ from the program. `MAST_RECORD=write cargo
//! test --release -p mast-desktop record` makes them anew.

use std::path::Path;

use mast_control::words::{Light, Now};
use mast_control::*;
use ts_rs::{Config, TS};

mod scenes;

use crate::commands::{Added, Invitation};
use crate::{link, mend, panel, qr, refusal, said, secrets, snapshot, throughput};

/// Compares what is made with what is kept, or keeps it.
fn keep(file: &str, made: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../page").join(file);
    if std::env::var("MAST_RECORD").is_ok_and(|wanted| wanted == "write") {
        std::fs::write(&path, made).unwrap();
        return;
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = kept.lines().zip(made.lines()).position(|(kept, made)| kept != made);
    assert!(
        kept == made,
        "{file} is not what the program makes (line {}): run `MAST_RECORD=write cargo test --release -p mast-desktop \
         record`, and look at what changed",
        differs.unwrap_or_default() + 1
    );
}

#[test]
fn the_types_of_the_page_are_those_of_the_program() {
    let config = Config::new().with_large_int("number");
    let mut made = String::from(
        "// Made by src-tauri/src/record.rs from the types of core/control and of the app, and checked by its test.\n",
    );
    macro_rules! types {
        ($($name:ty),* $(,)?) => {
            $(made += &format!("\nexport {}\n", <$name>::decl(&config));)*
        };
    }
    types!(
        AddressesTold,
        AtStart,
        Fitness,
        InterfaceKind,
        KeyPlace,
        Layer,
        LayerState,
        PathState,
        PeerKind,
        PeerState,
        PolicyMode,
        Via,
        Part,
        Metered,
        SocketCause,
        Verdict,
        InviteState,
        InviteStatus,
        Ailment,
        Eids,
        Ends,
        Evidence,
        LayerStatus,
        PolicyStatus,
        PathStatus,
        UplinkPart,
        PeerStatus,
        InterfaceStatus,
        LeftOutWhy,
        LeftOut,
        Protection,
        Settings,
        TroubleCause,
        Trouble,
        What,
        Event,
        Status,
        MonthUsage,
        UplinkUsage,
        Sample,
        PathHistory,
        History,
        PresenceState,
        PresencePeer,
        PresenceReport,
        DrillStep,
        DrillReport,
        DrillProgress,
        Light,
        Now,
        link::State,
        mend::Remedy,
        link::Service,
        panel::Place,
        panel::Tray,
        secrets::Store,
        throughput::Throughput,
        said::StoryEvent,
        said::UplinkWords,
        said::PeerWords,
        snapshot::AppSettings,
        snapshot::Snapshot,
        qr::Code,
        Added,
        Invitation,
        refusal::Refusal,
    );
    keep("src/lib/wire.ts", &made);
}

#[test]
fn the_scenes_of_the_pictures_are_made_by_the_program() {
    let scenes = scenes::all();
    for (name, snapshot) in &scenes {
        scenes::check(name, snapshot);
    }
    let made = serde_json::to_value(&scenes).unwrap();
    // One scene a line, so that a change shows which.
    let lines: Vec<_> =
        made.as_object().unwrap().iter().map(|(name, scene)| format!("{name:?}: {scene}")).collect();
    keep("tests/scenes/made.json", &format!("{{\n{}\n}}\n", lines.join(",\n")));
    keep("tests/scenes/said.json", &format!("{}\n", serde_json::to_string_pretty(&scenes::story()).unwrap()));
}
