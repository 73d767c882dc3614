//! What is left of an answer for whoever may look and not change: whether it works, and not with whom, where, and what
//! for.

use crate::layers::{Evidence, LayerStatus};
use crate::report::{Check, DoctorReport, Finding};
use crate::response::{PeerView, Response};
use crate::status::{InterfaceStatus, PeerStatus, PolicyStatus, Status, Trouble, TroubleCause};

/// Stands for a name that is not told.
const HIDDEN: &str = "(hidden)";
/// Stands for a sentence that is not told.
const WITHHELD: &str = "what exactly is told to root and to members of the group `mast`";
/// How a pin names a network.
const NETWORK: &str = "network:";

impl Response {
    /// The same without what is only for those who may change things. What is no answer to a question for everybody is
    /// left as it is.
    pub(crate) fn redacted(self) -> Self {
        match self {
            Self::Status(mut status) => {
                status.redact();
                Self::Status(status)
            }
            Self::Peer(mut view) => {
                view.redact();
                Self::Peer(view)
            }
            Self::Doctor(report) => Self::Doctor(report.redacted()),
            other => other,
        }
    }
}

impl Status {
    fn redact(&mut self) {
        self.redacted = true;
        self.interfaces.iter_mut().for_each(redact_interface);
        self.peers.iter_mut().for_each(redact_peer);
        self.events.clear();
        self.layers.iter_mut().for_each(redact_layer);
        redact_sentences(&mut self.refused);
        if let Some(policy) = &mut self.policy {
            redact_policy(policy);
        }
        if let Some(trouble) = &mut self.trouble {
            if let TroubleCause::NameUnknown { .. } = trouble.cause {
                *trouble = Trouble::new(TroubleCause::NameUnknown { host: HIDDEN.to_owned() });
            } else if trouble.cause == TroubleCause::Other {
                trouble.detail = WITHHELD.to_owned();
            }
        }
        if let Some(unkept) = &mut self.unkept {
            *unkept = WITHHELD.to_owned();
        }
    }
}

impl PeerView {
    fn redact(&mut self) {
        self.redacted = true;
        redact_peer(&mut self.peer);
        self.interfaces.iter_mut().for_each(redact_interface);
    }
}

impl DoctorReport {
    fn redacted(self) -> Self {
        let checks = self.checks.into_iter().filter_map(redacted_check).collect();
        Self { checks, counters: Default::default(), redacted: true }
    }
}

fn redacted_check(mut check: Check) -> Option<Check> {
    match &mut check.finding {
        Finding::AnswersDropped { from: address, .. } | Finding::NothingLeaves { to: address, .. } => {
            *address = HIDDEN.to_owned();
        }
        Finding::Layer { evidence, .. } => redact_evidence(evidence),
        Finding::Unsaved { error } => *error = WITHHELD.to_owned(),
        Finding::Strangers { .. } => return None,
        Finding::Other => {
            let detail = if check.ok { "well".to_owned() } else { WITHHELD.to_owned() };
            return Some(Check { detail, remedy: None, ..check });
        }
        _ => {}
    }
    let ok = check.ok;
    Some(Check { ok, ..Check::new(check.name, check.finding) })
}

fn redact_interface(interface: &mut InterfaceStatus) {
    interface.network = None;
    interface.layers.iter_mut().for_each(redact_layer);
}

fn redact_peer(peer: &mut PeerStatus) {
    peer.public_key.clear();
    (peer.rx_bytes, peer.tx_bytes) = (0, 0);
    redact_policy(&mut peer.policy);
    redact_sentences(&mut peer.troubles);
    peer.layers.iter_mut().for_each(redact_layer);
    for path in &mut peer.paths {
        path.remote = HIDDEN.to_owned();
        (path.rx_bytes, path.tx_bytes) = (0, 0);
    }
}

fn redact_policy(policy: &mut PolicyStatus) {
    for word in policy.pin.iter_mut().filter(|word| word.starts_with(NETWORK)) {
        *word = format!("{NETWORK}{HIDDEN}");
    }
}

/// That there is something is told, and not what.
fn redact_sentences(sentences: &mut Vec<String>) {
    if !sentences.is_empty() {
        *sentences = vec![WITHHELD.to_owned()];
    }
}

fn redact_layer(layer: &mut LayerStatus) {
    let mut evidence = layer.evidence.clone();
    redact_evidence(&mut evidence);
    if evidence != layer.evidence {
        *layer = LayerStatus::new(evidence, layer.checked.take());
    }
}

fn redact_evidence(evidence: &mut Evidence) {
    match evidence {
        Evidence::Resolved { host } | Evidence::Unresolved { host } | Evidence::ResolvePending { host } => {
            *host = HIDDEN.to_owned();
        }
        _ => {}
    }
}
