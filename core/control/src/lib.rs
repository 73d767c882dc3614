//! The local control API between `mastd` and its user interfaces: types, client and server.
//!
//! One conversation is JSON-RPC 2.0 over a Unix socket, one message a line. It begins with `hello`, which
//! compares protocol versions. Requests of one connection are answered in order. Anyone on the machine may ask whether
//! it works ([`Audience`]); the rest, and changes, need root, the service's own user, or membership in the group
//! [`GROUP`]. Who may not change things has a quota of connections, requests and time.
//!
//! ```text
//! → {"jsonrpc":"2.0","id":1,"method":"hello","params":{"protocol":1,"client":"mast 0.1.0"}}
//! ← {"jsonrpc":"2.0","id":1,"result":{"protocol":1,"version":"0.1.0","name":"laptop"}}
//! → {"jsonrpc":"2.0","id":2,"method":"peer.remove","params":{"name":"hom"}}
//! ← {"jsonrpc":"2.0","id":2,"error":{"code":-32002,"message":"…","data":{"why":"no-peer","name":"hom","known":["home"]}}}
//! ```
//!
//! What travels are codes and values; sentences are made of them by [`words`], or by an interface in its user's
//! language. Beside each code stands its English, for readers of another version that do not know the code.
//!
//! # Versions
//!
//! Fields and words that a reader does not know are ignored in answers, so that a newer service can talk to an
//! older interface; in requests they are errors, so that a wish is never half understood. So methods, fields and codes
//! may be added under the same [`PROTOCOL`]; a client that meets a service without a method falls back
//! ([`Client::peer`], [`Client::check`]). When the meaning of something changes, the number grows; then `hello` ends in
//! [`ErrorCode::Version`] with both numbers ([`Mismatch`]), and each side can say which of the two is older.
//!
//! # Asking and being told
//!
//! `status` and `peer` change nothing, and nothing is tried because somebody asks; who wants that asks for `check`. A
//! subscriber is told what happens with its content ([`Event`]), in order; if it does not keep up, [`Notice::Missed`]
//! marks the gap.
//!
//! A service implements [`Service`] and hands it to [`Server::run`]; an interface calls [`Client::connect`].

mod access;
pub mod aside;
mod client;
mod connection;
mod error;
mod event;
#[doc(hidden)]
pub mod fuzzing;
pub mod layers;
mod native;
mod note;
pub mod part;
mod presence;
mod quota;
mod redact;
mod report;
mod request;
mod response;
mod server;
mod status;
pub mod timestamp;
pub mod transport;
mod wire;
pub mod words;

pub use access::{Access, Caller, GROUP};
pub use client::{Client, ClientError, Subscription};
pub use error::{ControlError, ErrorCode, InviteProblem, Mismatch, Side, Why};
pub use event::{Ends, Event, SocketCause, What};
pub use layers::{Evidence, LayerState, LayerStatus};
pub use native::{DEFAULT_SOCKET, Living, Socket, living, remove_stale_socket, user_id};
pub use note::{Note, Noted};
pub use part::{Part, UplinkPart};
pub use presence::{PresenceLogin, PresencePeer, PresenceReport, PresenceState};
pub use report::{Check, DoctorReport, DrillProgress, DrillReport, DrillStep, Finding, Verdict};
pub use request::{
    Audience, BudgetSet, CheckPaths, Drill, Hello, InterfaceSet, Invite, InviteRevoke, KeyOwner, KeyUnlock,
    Metered, Pause, PeerAdd, PeerFile, PeerNamed, PeerRemove, PeerSet, PolicyClear, PolicySet, Request,
    SettingsSet, StoryRequest,
};
pub use response::{
    HandedKey, HelloReply, History, InviteState, InviteStatus, Invited, Invites, Logs, MonthUsage, Notice,
    PathHistory, PeerAdded, PeerView, Response, Sample, Story, UplinkUsage, UsageReport,
};
pub use server::{Notices, Server, ServerError, ServerOptions, Service};
pub use status::{
    AddressesTold, Ailment, AtStart, Eids, Fitness, InterfaceKind, InterfaceStatus, KeyPlace, Layer, LeftOut,
    LeftOutWhy, PathState, PathStatus, PeerKind, PeerState, PeerStatus, PolicyMode, PolicyStatus, Protection,
    Settings, Status, Trouble, TroubleCause, Via,
};

/// The version of this API. It grows when an older reader could misunderstand; additions do not count.
pub const PROTOCOL: u32 = 1;

/// The longest request line that the server accepts, in bytes.
pub const MAX_LINE: usize = 256 * 1024;
