//! What is said to a server and read from one: publishing, subscribing, asking for items, and what this end is able to.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use xmpp_parsers::caps::{Caps, compute_disco, hash_caps};
use xmpp_parsers::data_forms::{DataForm, DataFormType, Field};
use xmpp_parsers::disco::{DiscoInfoResult, Identity};
use xmpp_parsers::hashes::Algo;
use xmpp_parsers::iq::Iq;
use xmpp_parsers::jid::{BareJid, FullJid};
use xmpp_parsers::minidom::Element;
use xmpp_parsers::ns;
use xmpp_parsers::presence::Presence;
use xmpp_parsers::pubsub::owner::Payload as OwnerPayload;
use xmpp_parsers::pubsub::pubsub::{Item, Items, Publish, PublishOptions, Subscribe};
use xmpp_parsers::pubsub::{ItemId, NodeName, Owner, PubSub};
use xmpp_parsers::stanza_error::{DefinedCondition, ErrorType, StanzaError};

use crate::sealed;

/// The node that holds the items, and the namespace of what is in them.
pub(super) const NODE: &str = "urn:mast:addresses:1";
/// The most items of one message that are looked at: one for each machine of an account.
pub(super) const MOST_ITEMS: usize = 16;
/// Base64 of the longest publication, with line breaks.
const MOST_TEXT: usize = sealed::MOST_BYTES * 3 / 2;
/// What this program calls itself in its capabilities.
const SOFTWARE: &str = "urn:mast";
/// What everybody's messages, such as chats, never go to.
const PRIORITY: i8 = -1;

fn node() -> NodeName {
    NodeName(NODE.to_owned())
}

/// What the node has to be like: readable by whoever asks, since everything in it is sealed, and room for every machine.
fn settings(form_type: &str) -> DataForm {
    let most_items = MOST_ITEMS.to_string();
    let fields = [
        ("pubsub#access_model", "open"),
        ("pubsub#persist_items", "true"),
        ("pubsub#max_items", most_items.as_str()),
    ];
    let fields = fields.map(|(name, value)| Field::text_single(name, value));
    DataForm::new(DataFormType::Submit, form_type, fields.into())
}

/// Publishes as the item of this machine; with what the node has to be like, unless that was refused before.
pub(super) fn publish(id: &str, item: &str, publication: &[u8], with_settings: bool) -> Iq {
    let payload = Element::builder("addresses", NODE).append(STANDARD.encode(publication)).build();
    let item = Item { id: Some(ItemId(item.to_owned())), publisher: None, payload: Some(payload) };
    let form = with_settings.then(|| settings("http://jabber.org/protocol/pubsub#publish-options"));
    Iq::from_set(
        id,
        PubSub::Publish {
            publish: Publish { node: node(), items: vec![item] },
            publish_options: form.map(|form| PublishOptions { form: Some(form) }),
        },
    )
}

/// Makes a node that exists what it has to be like.
pub(super) fn configure(id: &str) -> Iq {
    let form = settings("http://jabber.org/protocol/pubsub#node_config");
    Iq::from_set(id, Owner { payload: OwnerPayload::Configure { node: Some(node()), form: Some(form) } })
}

/// Asks for the items of an account.
pub(super) fn items(id: &str, of: &BareJid) -> Iq {
    Iq::from_get(id, PubSub::Items(Items::new(NODE))).with_to(of.clone().into())
}

/// Asks to be told of every new item of an account, in this session.
pub(super) fn subscribe(id: &str, of: &BareJid, session: &FullJid) -> Iq {
    let subscribe = Subscribe { jid: session.clone().into(), node: Some(node()) };
    Iq::from_set(id, PubSub::Subscribe { subscribe: Some(subscribe), options: None })
        .with_to(of.clone().into())
}

/// What this end is able to, and wants to be told of.
pub(super) fn capabilities() -> DiscoInfoResult {
    let features = [ns::DISCO_INFO, ns::CAPS, ns::PING, &format!("{NODE}+notify")];
    DiscoInfoResult {
        node: None,
        identities: vec![Identity {
            category: "client".into(),
            type_: "bot".into(),
            lang: None,
            name: Some("MAST".into()),
        }],
        features: features.map(str::to_owned).into(),
        extensions: Vec::new(),
    }
}

fn caps() -> Option<Caps> {
    let hash = hash_caps(&compute_disco(&capabilities()), Algo::Sha_1).ok()?;
    Some(Caps::new(SOFTWARE, hash))
}

/// Whether a question about capabilities is about those of this end.
pub(super) fn is_own_node(asked: Option<&str>) -> bool {
    let Some(asked) = asked else { return true };
    caps().is_some_and(|caps| asked == format!("{SOFTWARE}#{}", STANDARD.encode(caps.ver)))
}

/// This end's presence. Any later one has to be this one as well: one without capabilities ends notifications.
pub(super) fn presence() -> Presence {
    let presence = Presence::available().with_priority(PRIORITY);
    match caps() {
        Some(caps) => presence.with_payload(caps),
        None => presence,
    }
}

/// The answer to what is not known here, the same as that of a server for a session that does not exist.
pub(super) fn unknown() -> StanzaError {
    let mut error = StanzaError::new(ErrorType::Cancel, DefinedCondition::ServiceUnavailable, "en", "");
    error.texts.clear();
    error
}

/// An item as it was read: its id, and the publication.
pub(super) struct Read {
    pub(super) id: String,
    pub(super) publication: Vec<u8>,
}

/// The publications in the answer to a question for items, or in a notification. Whatever is not as it has to be is left
/// out.
pub(super) fn publications(payload: &Element) -> Vec<Read> {
    let namespace = payload.ns();
    if !payload.is("pubsub", ns::PUBSUB) && !payload.is("event", ns::PUBSUB_EVENT) {
        return Vec::new();
    }
    let items =
        payload.get_child("items", namespace.as_str()).filter(|items| items.attr("node") == Some(NODE));
    let items = items.into_iter().flat_map(Element::children).take(MOST_ITEMS);
    items.filter(|item| item.is("item", namespace.as_str())).filter_map(read).collect()
}

fn read(item: &Element) -> Option<Read> {
    let text = item.get_child("addresses", NODE)?.texts().try_fold(String::new(), |mut all, piece| {
        (all.len().saturating_add(piece.len()) <= MOST_TEXT).then_some(())?;
        all.extend(piece.chars().filter(|c| !c.is_ascii_whitespace()));
        Some(all)
    })?;
    let publication = STANDARD.decode(text).ok()?;
    Some(Read { id: item.attr("id").unwrap_or_default().to_owned(), publication })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(items: &str) -> Element {
        format!("<event xmlns='{}'><items node='{NODE}'>{items}</items></event>", ns::PUBSUB_EVENT)
            .parse()
            .unwrap()
    }

    fn item(id: &str, text: &str) -> String {
        format!("<item id='{id}'><addresses xmlns='{NODE}'>{text}</addresses></item>")
    }

    #[test]
    fn items_are_read_with_white_space_and_others_left_out() {
        let items =
            [item("a", " AQI\n D "), item("b", "!"), "<item id='c'/>".into(), "<retract id='d'/>".into()];
        let read = publications(&event(&items.concat()));
        assert_eq!(read.len(), 1);
        assert_eq!((read[0].id.as_str(), read[0].publication.as_slice()), ("a", &[1, 2, 3][..]));
    }

    #[test]
    fn sizes_and_counts_are_bounded() {
        let long = item("a", &"A".repeat(MOST_TEXT + 4));
        assert!(publications(&event(&long)).is_empty());
        let fits = item("a", &STANDARD.encode(vec![1; sealed::MOST_BYTES]));
        assert_eq!(publications(&event(&fits)).len(), 1);
        let many: String = (0..100).map(|id| item(&id.to_string(), "AQID")).collect();
        assert_eq!(publications(&event(&many)).len(), MOST_ITEMS);
    }

    #[test]
    fn other_nodes_are_left_out() {
        let other = format!(
            "<event xmlns='{}'><items node='x'>{}</items></event>",
            ns::PUBSUB_EVENT,
            item("a", "AQID")
        );
        assert!(publications(&other.parse().unwrap()).is_empty());
        let elsewhere = format!("<x xmlns='y'><items node='{NODE}'>{}</items></x>", item("a", "AQID"));
        assert!(publications(&elsewhere.parse().unwrap()).is_empty());
    }

    #[test]
    fn presence_asks_for_notifications_and_takes_no_chats() {
        let presence = presence();
        assert!(presence.priority.0 < 0);
        let caps = Caps::try_from(presence.payloads[0].clone()).unwrap();
        let asked = format!("{}#{}", caps.node, STANDARD.encode(&caps.ver));
        assert!(is_own_node(Some(&asked)) && is_own_node(None) && !is_own_node(Some("urn:mast#x")));
        assert!(capabilities().features.contains("urn:mast:addresses:1+notify"));
    }
}
