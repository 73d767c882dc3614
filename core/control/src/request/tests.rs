use super::*;

fn refusal(method: &str, params: Value) -> String {
    let error = Method::parse(method, Some(params)).expect_err("must be refused");
    assert_eq!(error.code, ErrorCode::BadParams);
    error.message
}

#[test]
fn refusals_name_the_field() {
    assert!(refusal("invite", json!({"expires_s": "soon"})).starts_with("`expires_s`: invalid type"));
    assert!(refusal("invite", json!({"expires_s": 0})).contains("`expires_s`"));
    assert!(refusal("peer.remove", json!({})).contains("missing field `name`"));
    assert!(refusal("status", json!({"verbose": true})).contains("unknown field `verbose`"));
    assert!(refusal("policy.set", json!({"mode": "random"})).contains("`mode`"));
    assert!(refusal("policy.set", json!({"mode": "pin", "pin": ["a", 1]})).starts_with("`pin[1]`"));
    assert!(refusal("policy.set", json!({"mode": "pin"})).contains("`pin`"));
    assert!(refusal("policy.set", json!({"mode": "bonded", "small": 1})).starts_with("`small`"));
    assert!(refusal("peer.add", json!({})).contains("`link` or `file`"));
    assert!(
        refusal("peer.add", json!({"file": {"name": "x"}})).starts_with("`file`: missing field `contents`")
    );
    assert!(refusal("status", json!([1])).contains("object"));
}

#[test]
fn requests_read_back_what_was_written() {
    let requests = [
        Request::Status,
        Request::Up,
        Request::Down,
        Request::Doctor,
        Request::PeerAdd(PeerAdd { link: Some("mast://x".into()), ..PeerAdd::default() }),
        Request::PeerRemove(PeerRemove { name: "home".into() }),
        Request::Invite(Invite { expires_s: 60, name: Some("laptop".into()) }),
        Request::PolicySet(PolicySet {
            peer: Some("home".into()),
            mode: PolicyMode::Pin,
            pin: vec!["wifi".into()],
            fallback: false,
            ..PolicySet::default()
        }),
        Request::PolicySet(PolicySet {
            mode: PolicyMode::Redundant,
            small: true,
            metered: true,
            ..PolicySet::default()
        }),
        Request::PolicySet(PolicySet { mode: PolicyMode::Bonded, ..PolicySet::default() }),
        Request::PolicyClear(PolicyClear { peer: "home".into() }),
        Request::Pause(Pause { seconds: 3600 }),
        Request::InterfaceSet(InterfaceSet {
            name: "wwan0".into(),
            metered: Some(Metered::Auto),
            excluded: None,
        }),
        Request::PeerSet(PeerSet {
            name: "home".into(),
            full_tunnel: Some(true),
            mast: Some(true),
            addresses: Some(AddressesTold::PublicOnly),
            own: Some(false),
            presence: Some("bob@example.org".into()),
        }),
        Request::SettingsSet(SettingsSet {
            at_start: Some(AtStart::Up),
            leak_protection: Some(true),
            local_network: None,
        }),
        Request::Usage,
        Request::BudgetSet(BudgetSet { uplink: "wwan0".into(), bytes: None }),
        Request::Story(StoryRequest { limit: 5 }),
        Request::History,
        Request::Logs,
        Request::KeyHandOver,
        Request::KeyUnlock(KeyUnlock { private_key: "AAAA".into() }),
        Request::KeyKeep,
        Request::Presence,
        Request::PresenceLogin(PresenceLogin {
            account: "alice@example.org".into(),
            password: "hush".into(),
            server: Some("xmpp.example.org:5223".into()),
            authority: None,
        }),
        Request::PresenceLogout,
    ];
    for request in requests {
        match Method::parse(request.method(), Some(request.params())) {
            Ok(Method::Call(read)) => assert_eq!(read, request),
            other => panic!("{request:?} became {other:?}"),
        }
    }
}

#[test]
fn a_mode_takes_only_what_belongs_to_it() {
    let cases = [
        (json!({"mode": "auto", "pin": ["wifi"]}), "`pin`", "\"auto\"", "to \"pin\""),
        (json!({"mode": "auto", "fallback": false}), "`fallback`", "\"auto\"", "to \"pin\""),
        (json!({"mode": "redundant", "pin": ["wifi"]}), "`pin`", "\"redundant\"", "to \"pin\""),
        (json!({"mode": "bonded", "fallback": false}), "`fallback`", "\"bonded\"", "to \"pin\""),
        (json!({"mode": "bonded", "small": true}), "`small`", "\"bonded\"", "to \"redundant\""),
        (json!({"mode": "auto", "small": true}), "`small`", "\"auto\"", "to \"redundant\""),
        (
            json!({"mode": "pin", "pin": ["a"], "metered": true}),
            "`metered`",
            "\"pin\"",
            "\"redundant\" or \"bonded\"",
        ),
    ];
    for (params, field, mode, remedy) in cases {
        let message = refusal("policy.set", params);
        assert!(message.starts_with(field), "{message}");
        assert!(message.contains(mode) && message.contains(remedy), "{message}");
    }
    assert!(refusal("policy.set", json!({"mode": "random"})).contains("\"bonded\""));
}

#[test]
fn older_clients_and_services_are_understood() {
    let read = |params: Value| match Method::parse("policy.set", Some(params)) {
        Ok(Method::Call(Request::PolicySet(set))) => set,
        other => panic!("{other:?}"),
    };
    let auto = json!({"mode": "auto", "pin": [], "fallback": true});
    assert_eq!(read(auto.clone()), PolicySet::default());
    assert_eq!(Request::PolicySet(PolicySet::default()).params(), auto);
    let redundant = read(json!({"mode": "redundant"}));
    assert!(!redundant.small && !redundant.metered && redundant.mode == PolicyMode::Redundant);
}

#[test]
fn secrets_stay_out_of_debug_output() {
    let file = PeerFile { name: "wg0.conf".into(), contents: "PrivateKey = hush".into() };
    let add = PeerAdd { link: Some("mast://hush".into()), file: Some(file), name: None };
    assert!(!format!("{add:?}").contains("hush"));
    let login =
        PresenceLogin { account: "a@b".into(), password: "hush".into(), server: None, authority: None };
    assert!(!format!("{login:?}").contains("hush"));
    assert!(!format!("{:?}", KeyUnlock { private_key: "hush".into() }).contains("hush"));
}

#[test]
fn a_login_names_an_account_and_a_password() {
    let login = |account: &str, password: &str| json!({"account": account, "password": password});
    assert!(refusal("presence.login", login("", "x")).starts_with("`account`"));
    assert!(refusal("presence.login", login("a@b", "")).starts_with("`password`"));
    assert!(refusal("presence.login", login("a@b", &"x".repeat(1025))).contains("1 to 1024 bytes"));
    assert!(refusal("presence.login", json!({"account": "a@b"})).contains("password"));
}
