//! Names through the tunnel: rules in a played registry.

use mast_engine::declared::Dns;

use super::*;
use crate::windows::names::{OWN, POLICY, RULE};

fn dns(servers: &[&str]) -> Dns {
    Dns { servers: servers.iter().map(|s| ip(s)).collect() }
}

fn full(servers: Option<&[&str]>) -> Declared {
    Declared { dns: servers.map(dns), ..network(&["10.77.0.1"], &["0.0.0.0/0"]) }
}

type Key = BTreeMap<String, Value>;

fn key(played: &Played, place: &str) -> Option<Key> {
    played.0.0.lock().unwrap().registry.get(&format!(r"{place}\{RULE}")).cloned()
}

fn servers(key: &Key) -> Value {
    key["GenericDNSServers"].clone()
}

/// As another program has them: a rule of its own for its own domain.
fn other_rule(played: &Played, place: &str) {
    let rule: Key = [("Name".to_owned(), Value::Texts(vec![".corp.example".into()]))].into();
    played.change(|state| {
        state.registry.insert(place.to_owned(), Key::new());
        state.registry.insert(format!(r"{place}\{{other}}"), rule);
    });
}

fn registry(played: &Played) -> BTreeMap<String, Key> {
    played.0.0.lock().unwrap().registry.clone()
}

#[tokio::test]
async fn all_names_are_asked_of_the_tunnels_servers_and_as_before_afterwards() {
    let played = laptop();
    other_rule(&played, OWN);
    let before = registry(&played);
    let platform = played.platform();
    let _tun = platform.create_tun(&wish()).await.unwrap();
    let mut keeper = Reconciler::new(platform.host().unwrap());
    let wanted = full(Some(&["10.66.0.53", "fd66::53"]));
    fine(&keeper.apply(&wanted, false));
    let rule = key(&played, OWN).unwrap();
    assert_eq!(rule["Name"], Value::Texts(vec![".".into()]), "all names");
    assert_eq!(servers(&rule), Value::Text("10.66.0.53;fd66::53".into()));
    assert_eq!((&rule["ConfigOptions"], &rule["Version"]), (&Value::Number(8), &Value::Number(2)));
    assert_eq!(key(&played, POLICY), None);
    {
        let state = played.0.0.lock().unwrap();
        assert_eq!(state.adapters.last().unwrap().name_servers, [ip("10.66.0.53"), ip("fd66::53")]);
        assert_eq!(state.forgotten, [false]);
    }
    assert_eq!(keeper.apply(&wanted, true).taken, 0, "nothing differs");
    fine(&keeper.apply(&full(Some(&["10.66.0.54"])), false));
    assert_eq!(servers(&key(&played, OWN).unwrap()), Value::Text("10.66.0.54".into()));
    fine(&keeper.apply(&full(None), false));
    assert_eq!(registry(&played), before);
    assert!(played.0.0.lock().unwrap().adapters.last().unwrap().name_servers.is_empty());
    assert_eq!(played.0.0.lock().unwrap().forgotten.len(), 3);
    // The service ends.
    fine(&keeper.apply(&wanted, false));
    keeper.leave();
    assert_eq!(registry(&played), before);
}

#[tokio::test]
async fn beside_rules_of_group_policy_it_stands_among_them_and_leaves_no_empty_place() {
    let played = laptop();
    let platform = played.platform();
    let _tun = platform.create_tun(&wish()).await.unwrap();
    other_rule(&played, POLICY);
    let before = registry(&played);
    let mut keeper = Reconciler::new(platform.host().unwrap());
    fine(&keeper.apply(&full(Some(&["10.66.0.53"])), false));
    assert!(key(&played, OWN).is_some() && key(&played, OWN) == key(&played, POLICY));
    assert_eq!(played.0.0.lock().unwrap().forgotten, [true]);
    fine(&keeper.apply(&full(None), false));
    let after: BTreeMap<_, _> = registry(&played).into_iter().filter(|(path, _)| path != OWN).collect();
    assert_eq!(after, before);

    // The others' go while MAST's are there: the next look finds that they are not where they count.
    fine(&keeper.apply(&full(Some(&["10.66.0.53"])), false));
    played.change(|state| drop(state.registry.remove(&format!(r"{POLICY}\{{other}}"))));
    fine(&keeper.apply(&full(Some(&["10.66.0.53"])), true));
    assert!(key(&played, OWN).is_some() && key(&played, POLICY).is_none());
    assert!(!registry(&played).contains_key(POLICY), "an empty place would be heeded");
    // They come while it is there.
    other_rule(&played, POLICY);
    fine(&keeper.apply(&full(Some(&["10.66.0.53"])), true));
    assert!(key(&played, POLICY).is_some());
}

#[tokio::test]
async fn what_a_killed_service_left_is_found_and_what_others_changed_is_mended() {
    let played = laptop();
    other_rule(&played, OWN);
    let before = registry(&played);
    let platform = played.platform();
    let tun = platform.create_tun(&wish()).await.unwrap();
    let wanted = full(Some(&["10.66.0.53"]));
    let mut keeper = Reconciler::new(platform.host().unwrap());
    fine(&keeper.apply(&wanted, false));
    for damage in [
        (|state: &mut State| drop(state.registry.remove(&format!(r"{OWN}\{RULE}")))) as fn(&mut State),
        |state| {
            let rule = state.registry.get_mut(&format!(r"{OWN}\{RULE}")).unwrap();
            rule.insert("GenericDNSServers".into(), Value::Text("192.168.1.1".into()));
        },
    ] {
        played.change(damage);
        let outcome = keeper.apply(&wanted, true);
        fine(&outcome);
        assert!(outcome.mended.iter().any(|text| text.contains("name servers")), "{outcome:?}");
        assert_eq!(servers(&key(&played, OWN).unwrap()), Value::Text("10.66.0.53".into()));
    }
    drop((keeper, tun));
    assert!(key(&played, OWN).is_some());
    // `mastd --clear` says so, and does it.
    let mut host = platform.host().unwrap();
    assert!(host.present(None).unwrap().remnants.contains(&Step::ClearDns));
    fine(&Reconciler::new(host).apply(&Declared::default(), true));
    assert_eq!(registry(&played), before);
    let told = played.0.0.lock().unwrap().forgotten.len();
    fine(&Reconciler::new(platform.host().unwrap()).apply(&Declared::default(), true));
    assert_eq!(played.0.0.lock().unwrap().forgotten.len(), told, "there is nothing left to do");
}

#[tokio::test]
async fn refusals_leave_nothing_behind_and_an_old_windows_does_with_the_rule_alone() {
    let played = laptop();
    let platform = played.platform();
    let _tun = platform.create_tun(&wish()).await.unwrap();
    other_rule(&played, POLICY);
    let mut host = platform.host().unwrap();
    let set = Step::SetDns(dns(&["10.66.0.53"]));
    played.change(|state| state.refuse = Some(("write policy", io::ErrorKind::PermissionDenied)));
    let error = host.take(Some("mast0"), std::slice::from_ref(&set)).remove(0).unwrap_err();
    assert!(error.to_string().contains("name servers") && error.to_string().contains("run as administrator"));
    assert_eq!((key(&played, OWN), key(&played, POLICY)), (None, None));
    played.change(|state| state.refuse = Some(("name servers", io::ErrorKind::Unsupported)));
    host.take(Some("mast0"), std::slice::from_ref(&set)).remove(0).unwrap();
    assert!(key(&played, OWN).is_some() && key(&played, POLICY).is_some());
    host.take(Some("mast0"), &[Step::ClearDns]).remove(0).unwrap();
    // Whoever may not read set nothing.
    played.change(|state| state.refuse = Some(("registry is read", io::ErrorKind::PermissionDenied)));
    assert_eq!(host.present(None).unwrap().remnants, []);
}
