//! What is noticed of interfaces.

use mast_engine::api::LeftOut;
use mast_proto::InterfaceKind;

use super::*;

#[tokio::test]
async fn uplinks_are_told_from_what_leads_nowhere() {
    let played = laptop();
    let list = played.platform().watch_interfaces().unwrap().borrow().clone();
    let names: Vec<&str> = list.interfaces.iter().map(|i| i.name.as_str()).collect();
    assert_eq!(names, ["Ethernet", "Ethernet 2", "Wi-Fi", "Cellular"]);
    let wifi = interface(&list, "Wi-Fi").unwrap();
    assert_eq!((wifi.kind, wifi.id.0, wifi.metered), (InterfaceKind::Wifi, 5, false));
    assert_eq!(wifi.addresses, [ip("192.0.2.5"), ip("2001:db8::5")]);
    assert_eq!(wifi.link_local.map(IpAddr::V6), Some(ip("fe80::5")));
    assert!(interface(&list, "Cellular").unwrap().metered);
    assert!(!interface(&list, "Ethernet 2").unwrap().usable, "an address that it gave itself leads nowhere");
    let left: Vec<_> = list.left_out.iter().map(|(name, why)| (name.as_str(), *why)).collect();
    assert_eq!(
        left,
        [
            ("OtherVPN", LeftOut::Tunnel),
            ("TapVPN", LeftOut::Tunnel),
            ("vEthernet (Default Switch)", LeftOut::Inside)
        ]
    );
    assert_eq!(
        list.occupied.get(&prefix("172.20.16.0/24")).map(String::as_str),
        Some("the network on vEthernet (Default Switch)")
    );

    // What the user says counts.
    let overrides = Overrides {
        ignore: vec!["Ethernet".into()],
        named: vec!["vEthernet (Default Switch)".into()],
        metered: [("Wi-Fi".to_owned(), true)].into(),
        ..Overrides::default()
    };
    let list = On::over(played, overrides).watch_interfaces().unwrap().borrow().clone();
    assert!(interface(&list, "Ethernet").is_none());
    assert!(interface(&list, "vEthernet (Default Switch)").is_some());
    assert!(interface(&list, "Wi-Fi").unwrap().metered);
}

#[tokio::test]
async fn networks_have_names_prices_and_a_signal() {
    let played = laptop();
    let wifi = Notes { network: Some("Home".into()), metered: Some(true), signal: Some(-50) };
    let modem = Notes { metered: Some(false), ..Notes::default() };
    played.change(|state| state.notes = [(1005, wifi.clone()), (1006, modem)].into());
    let mut list = played.platform().watch_interfaces().unwrap();
    let now = list.borrow_and_update().clone();
    let home = interface(&now, "Wi-Fi").unwrap();
    assert_eq!((home.network.as_deref(), home.metered, home.outlook.weak), (Some("Home"), true, false));
    assert!(!interface(&now, "Cellular").unwrap().metered, "the system knows better");
    assert_eq!(interface(&now, "Ethernet").unwrap().network, None);

    // On the way out of the house, and back.
    let hears = |dbm| {
        played.change(|state| state.notes.get_mut(&1005).unwrap().signal = Some(dbm));
    };
    hears(-80);
    wait(&mut list, "weak", |l| interface(l, "Wi-Fi").unwrap().outlook.weak).await;
    hears(-75);
    has_been_read(&played, &mut list, 100).await;
    assert!(interface(&list.borrow(), "Wi-Fi").unwrap().outlook.weak, "not well yet");
    // Nothing is announced: it is looked at more often now.
    played.change_silently(|state| state.notes.get_mut(&1005).unwrap().signal = Some(-60));
    let begun = std::time::Instant::now();
    wait(&mut list, "well", |l| !interface(l, "Wi-Fi").unwrap().outlook.weak).await;
    assert!(begun.elapsed() < Duration::from_millis(2_500), "{:?}", begun.elapsed());
    hears(-80);
    wait(&mut list, "weak again", |l| interface(l, "Wi-Fi").unwrap().outlook.weak).await;
    // The network is left: nothing is known of it any more.
    played.change(|state| state.notes.clear());
    let gone = wait(&mut list, "gone", |l| interface(l, "Wi-Fi").unwrap().network.is_none()).await;
    assert!(
        !interface(&gone, "Wi-Fi").unwrap().outlook.weak && interface(&gone, "Cellular").unwrap().metered
    );
}

#[tokio::test]
async fn a_default_route_makes_a_switch_an_uplink() {
    let played = laptop();
    let mut list = played.platform().watch_interfaces().unwrap();
    let route =
        Route { luid: 1007, prefix: prefix("0.0.0.0/0"), gateway: Some(ip("172.20.16.254")), metric: 0 };
    played.change(|state| {
        state.routes.insert(route);
    });
    let now = wait(&mut list, "the switch", |l| interface(l, "vEthernet (Default Switch)").is_some()).await;
    assert_eq!(now.routes_changed, 1);
}

#[tokio::test]
async fn a_cable_that_is_pulled_shows_by_its_address_alone_and_without_announcement() {
    let played = laptop();
    let mut list = played.platform().watch_interfaces().unwrap();
    // The adapter stays up for the system; only its address goes.
    played.change(|state| state.adapters[2].addresses.clear());
    wait(&mut list, "announced", |l| !interface(l, "Ethernet").unwrap().usable).await;
    // Nothing is announced any more: the poll finds it.
    played.change(|state| state.announces = false);
    played.change(|state| state.adapters[1].up = false);
    wait(&mut list, "polled", |l| !interface(l, "Wi-Fi").unwrap().usable).await;
    // An announcement that is late finds nothing new.
    let before = list.borrow_and_update().clone();
    played.change(|state| state.announces = true);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(*list.borrow(), before);
}

#[tokio::test]
async fn a_system_that_announces_nothing_is_polled() {
    let played = laptop();
    played.change(|state| state.refuse = Some(("notify", io::ErrorKind::Unsupported)));
    let mut list = played.platform().watch_interfaces().unwrap();
    played.change(|state| state.adapters.retain(|a| a.name != "Ethernet"));
    wait(&mut list, "polled", |l| interface(l, "Ethernet").is_none()).await;
}

#[tokio::test]
async fn adapters_that_cannot_be_read_are_read_again() {
    let played = laptop();
    let mut list = played.platform().watch_interfaces().unwrap();
    played.change(|state| {
        state.refuse = Some(("adapters", io::ErrorKind::Other));
        state.adapters.retain(|a| a.name != "Ethernet");
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(interface(&list.borrow_and_update(), "Ethernet").is_some(), "what was known stays");
    played.change(|state| state.refuse = None);
    wait(&mut list, "read again", |l| interface(l, "Ethernet").is_none()).await;
    // At the start it is an error with a remedy.
    played.change(|state| state.refuse = Some(("adapters", io::ErrorKind::Other)));
    let error = played.platform().watch_interfaces().unwrap_err();
    assert!(error.to_string().contains("restart"), "{error}");
}

#[tokio::test]
async fn a_sleep_is_noticed_and_a_rounding_error_is_none() {
    let played = laptop();
    let mut list = played.platform().watch_interfaces().unwrap();
    played.change(|state| state.asleep += Duration::from_millis(20));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(list.borrow_and_update().resumed, 0);
    played.change(|state| state.asleep += Duration::from_secs(3600));
    wait(&mut list, "awake", |l| l.resumed == 1).await;
}

#[tokio::test]
async fn a_rename_keeps_the_number_and_deprecated_addresses_come_last() {
    let played = laptop();
    let mut list = played.platform().watch_interfaces().unwrap();
    played.change(|state| {
        let wifi = &mut state.adapters[1];
        wifi.name = "Home".into();
        wifi.addresses[1].deprecated = true;
        wifi.addresses.push(Address { ip: ip("192.0.2.99"), prefix: 24, usable: false, deprecated: false });
    });
    let now = wait(&mut list, "renamed", |l| interface(l, "Home").is_some()).await;
    let wifi = interface(&now, "Home").unwrap();
    assert_eq!(wifi.id.0, 5);
    assert_eq!(wifi.addresses, [ip("2001:db8::5"), ip("192.0.2.5")], "a tentative one is none");
}
