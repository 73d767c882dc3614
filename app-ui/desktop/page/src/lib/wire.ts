// Made by src-tauri/src/record.rs from the types of core/control and of the app, and checked by its test.

export type AddressesTold = "all" | "public-only" | "relayed-only" | "unknown";

export type AtStart = "last" | "up" | "down" | "unknown";

export type Fitness = "fit" | "strained" | "unfit" | "unknown";

export type InterfaceKind = "wifi" | "cellular" | "ethernet" | "other";

export type KeyPlace = "file" | "session" | "locked" | "unknown";

export type Layer = "link" | "address" | "portal" | "dns" | "nat" | "peer" | "service" | "unknown";

export type LayerState = "ok" | "bad" | "unknown";

export type PathState = "candidate" | "validating" | "validated" | "suspect" | "failed" | "unknown";

export type PeerKind = "mast" | "wireguard" | "unknown";

export type PeerState = "connected" | "partial" | "connecting" | "unreachable" | "down" | "unknown";

export type PolicyMode = "auto" | "pin" | "redundant" | "bonded" | "unknown";

export type Via = "direct" | "relay" | "unknown";

export type Part = "carries" | "excluded" | "unusable" | "no-path" | "drill" | "policy" | "peer-refuses" | "untried" | "silent" | "unfit" | "order" | "peer-wish" | "metered" | "strained" | "alike" | "slower" | "spare" | "unknown";

export type Metered = "yes" | "no" | "auto";

export type SocketCause = "in-use" | "not-permitted" | "other";

export type Verdict = "passed" | "failed" | "inconclusive";

export type InviteState = "open" | "used" | "expired" | "revoked" | "unknown";

export type InviteStatus = { 
/**
 * What it is called when it is revoked: eight hexadecimal digits.
 */
id: string, 
/**
 * What the peer that accepts it will be called, where that was said.
 */
name: string | null, 
/**
 * Until when it may be accepted, as [`crate::timestamp`] writes it.
 */
expires: string, 
/**
 * Whether it can be accepted still.
 */
state: InviteState, };

export type Ailment = { 
/**
 * Of a hundred datagrams so many do not arrive.
 */
lost_percent: number, 
/**
 * By how many milliseconds its round trip is longer than it can be.
 */
late_ms: number, 
/**
 * Nothing comes through for moments.
 */
stalled: boolean, };

export type Eids = { 
/**
 * This end's, IPv4.
 */
local_v4: string | null, 
/**
 * This end's, IPv6.
 */
local_v6: string | null, 
/**
 * The peer's, IPv4.
 */
remote_v4: string | null, 
/**
 * The peer's, IPv6.
 */
remote_v6: string | null, };

export type Ends = { 
/**
 * The local address; none where it is not known any more.
 */
local?: string, 
/**
 * The remote address and port.
 */
remote: string, };

export type Evidence = { "code": "connected", 
/**
 * Which.
 */
interfaces: Array<string>, } | { "code": "unconnected", 
/**
 * Which.
 */
interface: string, } | { "code": "no-interface" } | { "code": "excluded", 
/**
 * One of them.
 */
interface: string, } | { "code": "addressed", 
/**
 * So many.
 */
count: number, } | { "code": "no-address" } | { "code": "no-portal" } | { "code": "online" } | { "code": "portal" } | { "code": "portal-unasked" } | { "code": "resolved", 
/**
 * One of them.
 */
host: string, } | { "code": "unresolved", 
/**
 * Which.
 */
host: string, } | { "code": "resolve-pending", 
/**
 * Which.
 */
host: string, } | { "code": "udp-passes" } | { "code": "udp-untold" } | { "code": "udp-stopped" } | { "code": "serving" } | { "code": "key-locked" } | { "code": "forbidden" } | { "code": "unprotected" } | { "code": "peer-answers", 
/**
 * So many.
 */
answering: number, 
/**
 * Of so many.
 */
of: number, } | { "code": "peer-silent", 
/**
 * So many do not.
 */
silent: number, 
/**
 * Of so many.
 */
of: number, } | { "code": "peer-tried" } | { "code": "peer-untried" } | { "code": "behind" } | { "code": "other" };

export type LayerStatus = { 
/**
 * Which.
 */
layer: Layer, 
/**
 * How it stands.
 */
state: LayerState, 
/**
 * When it was looked at, as [`timestamp`] writes it; none where it was not.
 */
checked: string | null, 
/**
 * The evidence in English, for readers that do not know its code.
 */
detail: string, } & ({ "code": "connected", 
/**
 * Which.
 */
interfaces: Array<string>, } | { "code": "unconnected", 
/**
 * Which.
 */
interface: string, } | { "code": "no-interface" } | { "code": "excluded", 
/**
 * One of them.
 */
interface: string, } | { "code": "addressed", 
/**
 * So many.
 */
count: number, } | { "code": "no-address" } | { "code": "no-portal" } | { "code": "online" } | { "code": "portal" } | { "code": "portal-unasked" } | { "code": "resolved", 
/**
 * One of them.
 */
host: string, } | { "code": "unresolved", 
/**
 * Which.
 */
host: string, } | { "code": "resolve-pending", 
/**
 * Which.
 */
host: string, } | { "code": "udp-passes" } | { "code": "udp-untold" } | { "code": "udp-stopped" } | { "code": "serving" } | { "code": "key-locked" } | { "code": "forbidden" } | { "code": "unprotected" } | { "code": "peer-answers", 
/**
 * So many.
 */
answering: number, 
/**
 * Of so many.
 */
of: number, } | { "code": "peer-silent", 
/**
 * So many do not.
 */
silent: number, 
/**
 * Of so many.
 */
of: number, } | { "code": "peer-tried" } | { "code": "peer-untried" } | { "code": "behind" } | { "code": "other" });

export type PolicyStatus = { 
/**
 * Who chooses.
 */
mode: PolicyMode, 
/**
 * With [`PolicyMode::Pin`]: interfaces, kinds, or networks as `network:NAME`; the first that works is used.
 */
pin: Array<string>, 
/**
 * With [`PolicyMode::Pin`]: whether other paths may be used while no pinned one works.
 */
fallback: boolean, 
/**
 * With [`PolicyMode::Redundant`]: whether only small datagrams go over two paths.
 */
small: boolean, 
/**
 * With [`PolicyMode::Redundant`] and [`PolicyMode::Bonded`]: whether metered paths take part, too.
 */
metered: boolean, };

export type PathStatus = { 
/**
 * Its number within the context.
 */
id: number, 
/**
 * The local interface's name.
 */
interface: string, 
/**
 * The local address.
 */
local: string, 
/**
 * The remote address and port.
 */
remote: string, 
/**
 * Whether its datagrams go straight to the remote address, or through a relay.
 */
via: Via, 
/**
 * The peer's own number for the link that the remote address is on, where it tells one.
 */
peer_link?: number, 
/**
 * What is known of it.
 */
state: PathState, 
/**
 * Whether the context sends over it now.
 */
active: boolean, 
/**
 * How fit it is to carry data, where it works.
 */
fitness?: Fitness, 
/**
 * What is wrong with it, where it works and is not fit.
 */
ailment?: Ailment, 
/**
 * Whether it takes part in carrying data now, or why it does not.
 */
part: Part, 
/**
 * Milliseconds since the peer last answered over it; none if never.
 */
answered_ms: number | null, 
/**
 * Smoothed round-trip time in milliseconds, once measured.
 */
srtt_ms: number | null, 
/**
 * Share of datagrams lost lately, 0 to 1, once measured.
 */
loss: number | null, 
/**
 * The largest datagram that is known to pass, in bytes.
 */
mtu: number, 
/**
 * Bytes received over it.
 */
rx_bytes: number, 
/**
 * Bytes sent over it.
 */
tx_bytes: number, };

export type UplinkPart = { 
/**
 * The interface.
 */
interface: string, 
/**
 * Its part.
 */
part: Part, };

export type PeerStatus = { 
/**
 * The name under which this host knows the peer.
 */
name: string, 
/**
 * Its public key, in base64.
 */
public_key: string, 
/**
 * Whether the peer answers.
 */
state: PeerState, 
/**
 * What the peer speaks.
 */
kind: PeerKind, 
/**
 * The endpoint identifiers of both ends.
 */
eid: Eids, 
/**
 * What decides between paths.
 */
policy: PolicyStatus, 
/**
 * Bytes received from the peer.
 */
rx_bytes: number, 
/**
 * Bytes sent to the peer.
 */
tx_bytes: number, 
/**
 * Milliseconds since the peer was last heard on any path; none if never.
 */
last_heard_ms: number | null, 
/**
 * Its paths, by number.
 */
paths: Array<PathStatus>, 
/**
 * Whether it has a policy of its own; else that of all counts.
 */
own_policy: boolean, 
/**
 * Whether all traffic of this host goes to it; none where that cannot be had.
 */
full_tunnel: boolean | null, 
/**
 * Of a peer that came from a WireGuard file: whether MAST may be spoken with it; none for others.
 */
mast: boolean | null, 
/**
 * Which addresses of this host it is told, in MAST.
 */
addresses: AddressesTold, 
/**
 * It is the user's own: it is told private addresses, too, that it may be unable to use.
 */
own: boolean, 
/**
 * The modes that can be chosen for it.
 */
modes: Array<PolicyMode>, 
/**
 * What of its addresses and routes is not set on this machine as it should be, in English.
 */
troubles?: Array<string>, 
/**
 * What each interface has to do with its data now.
 */
uplinks: Array<UplinkPart>, 
/**
 * Its own layers, the lowest first.
 */
layers: Array<LayerStatus>, };

export type InterfaceStatus = { 
/**
 * Its name, such as `wlan0`.
 */
name: string, 
/**
 * What it is attached to.
 */
kind: InterfaceKind, 
/**
 * The network's name (an SSID, an operator), where known. It comes from the network: do not trust it.
 */
network: string | null, 
/**
 * Its addresses.
 */
addresses: Array<string>, 
/**
 * Whether traffic over it costs the user money.
 */
metered: boolean, 
/**
 * Whether it can carry datagrams now.
 */
usable: boolean, 
/**
 * What the user said of its cost by hand; none where the system's word counts.
 */
metered_by_hand: boolean | null, 
/**
 * Whether the user said never to use it.
 */
excluded: boolean, 
/**
 * Whether its radio is weak now.
 */
weak: boolean, 
/**
 * Whether it has carried all of this month's budget.
 */
spent: boolean, 
/**
 * Its layers, the lowest first.
 */
layers: Array<LayerStatus>, };

export type LeftOutWhy = "ignored" | "port" | "tunnel" | "inside" | "unknown";

export type LeftOut = { 
/**
 * Its name.
 */
name: string, 
/**
 * Why.
 */
why: LeftOutWhy, };

export type Protection = { "state": "idle" } | { "state": "in-force" } | { "state": "routes-only", 
/**
 * What the system lacks, in English.
 */
why: string, } | { "state": "missing", 
/**
 * Why, in English.
 */
why: string, } | { "state": "other" };

export type Settings = { 
/**
 * What the tunnel does when the service starts.
 */
at_start: AtStart, 
/**
 * Whether traffic that belongs into a full tunnel is refused rather than sent around it, even when the service
 * is not running; `down` and `pause` let everything go its usual way.
 */
leak_protection: boolean, 
/**
 * Whether the local network may be spoken with all the same: private and link-local ranges, but no name servers
 * there.
 */
local_network: boolean, };

export type TroubleCause = { "code": "no-interface" } | { "code": "excluded", 
/**
 * One of them.
 */
interface: string, } | { "code": "name-unknown", 
/**
 * The name.
 */
host: string, } | { "code": "forbidden" } | { "code": "unprotected" } | { "code": "no-answer" } | { "code": "portal" } | { "code": "key-locked" } | { "code": "other" };

export type Trouble = { 
/**
 * Which layer.
 */
layer: Layer, 
/**
 * The cause in English, with the remedy where there is one, for readers that do not know its code.
 */
detail: string, } & ({ "code": "no-interface" } | { "code": "excluded", 
/**
 * One of them.
 */
interface: string, } | { "code": "name-unknown", 
/**
 * The name.
 */
host: string, } | { "code": "forbidden" } | { "code": "unprotected" } | { "code": "no-answer" } | { "code": "portal" } | { "code": "key-locked" } | { "code": "other" });

export type What = { "code": "link-down" } | { "code": "address-gone" } | { "code": "silent" } | { "code": "peer-silent" } | { "code": "peer-address-gone" } | { "code": "no-route" } | { "code": "policy" } | { "code": "peer-wish" } | { "code": "better" } | { "code": "connected" } | { "code": "restored" } | { "code": "drill" } | { "code": "unfit", 
/**
 * Of a hundred datagrams so many did not arrive.
 */
lost_percent: number, 
/**
 * By how many milliseconds its round trip was longer than it can be.
 */
late_ms: number, 
/**
 * Nothing came through for moments.
 */
stalled: boolean, } | { "code": "restarted" } | { "code": "peer-off" } | { "code": "removed-by-peer" } | { "code": "came-by-invite" } | { "code": "invite-accepted" } | { "code": "routes-refused", 
/**
 * What the system says.
 */
error: string, } | { "code": "put-back", 
/**
 * What, in words.
 */
what: string, 
/**
 * It does so again and again.
 */
again: boolean, } | { "code": "tunnel-lost", 
/**
 * What the system says.
 */
error: string, } | { "code": "no-socket", 
/**
 * The interface.
 */
interface: string, 
/**
 * The UDP port.
 */
port: number, 
/**
 * Why.
 */
cause: SocketCause, 
/**
 * What the system says.
 */
error: string, } | { "code": "watch-ended" } | { "code": "name-unknown", 
/**
 * The name.
 */
host: string, } | { "code": "budget", 
/**
 * The uplink, as `usage` names it.
 */
uplink: string, 
/**
 * So many hundredths of the budget.
 */
percent: number, 
/**
 * The budget in bytes a month.
 */
bytes: number, } | { "code": "unsaved", 
/**
 * What the system says.
 */
error: string, } | { "code": "pause-over" } | { "code": "pause-stuck", 
/**
 * Why.
 */
error: string, } | { "code": "protection-refused", 
/**
 * What the system says.
 */
error: string, } | { "code": "missed", 
/**
 * So many events were left out.
 */
count: number, } | { "code": "other" };

export type Event = { 
/**
 * When, as [`timestamp`] writes it.
 */
time: string, 
/**
 * The peer's name; empty when it concerns none.
 */
peer: string, 
/**
 * The interface that carried traffic before.
 */
from: string | null, 
/**
 * The interface that carries traffic now.
 */
to: string | null, 
/**
 * The path that carried traffic before.
 */
from_path?: Ends, 
/**
 * The path that carries traffic now.
 */
to_path?: Ends, 
/**
 * [`Event::what`] in English, for readers that do not know the code, in words that continue "wifi …": "went
 * silent". Only [`What::Other`] says more by it than by its code.
 */
reason: string, 
/**
 * How long nothing arrived, in milliseconds.
 */
gap_ms: number | null, 
/**
 * How many sessions of this host went over from the one interface to the other: open TCP connections and
 * connected UDP sockets.
 */
sessions?: number, } & ({ "code": "link-down" } | { "code": "address-gone" } | { "code": "silent" } | { "code": "peer-silent" } | { "code": "peer-address-gone" } | { "code": "no-route" } | { "code": "policy" } | { "code": "peer-wish" } | { "code": "better" } | { "code": "connected" } | { "code": "restored" } | { "code": "drill" } | { "code": "unfit", 
/**
 * Of a hundred datagrams so many did not arrive.
 */
lost_percent: number, 
/**
 * By how many milliseconds its round trip was longer than it can be.
 */
late_ms: number, 
/**
 * Nothing came through for moments.
 */
stalled: boolean, } | { "code": "restarted" } | { "code": "peer-off" } | { "code": "removed-by-peer" } | { "code": "came-by-invite" } | { "code": "invite-accepted" } | { "code": "routes-refused", 
/**
 * What the system says.
 */
error: string, } | { "code": "put-back", 
/**
 * What, in words.
 */
what: string, 
/**
 * It does so again and again.
 */
again: boolean, } | { "code": "tunnel-lost", 
/**
 * What the system says.
 */
error: string, } | { "code": "no-socket", 
/**
 * The interface.
 */
interface: string, 
/**
 * The UDP port.
 */
port: number, 
/**
 * Why.
 */
cause: SocketCause, 
/**
 * What the system says.
 */
error: string, } | { "code": "watch-ended" } | { "code": "name-unknown", 
/**
 * The name.
 */
host: string, } | { "code": "budget", 
/**
 * The uplink, as `usage` names it.
 */
uplink: string, 
/**
 * So many hundredths of the budget.
 */
percent: number, 
/**
 * The budget in bytes a month.
 */
bytes: number, } | { "code": "unsaved", 
/**
 * What the system says.
 */
error: string, } | { "code": "pause-over" } | { "code": "pause-stuck", 
/**
 * Why.
 */
error: string, } | { "code": "protection-refused", 
/**
 * What the system says.
 */
error: string, } | { "code": "missed", 
/**
 * So many events were left out.
 */
count: number, } | { "code": "other" });

export type Status = { 
/**
 * Whether the service carries traffic: the virtual interface exists.
 */
up: boolean, 
/**
 * This endpoint's name, as its peers see it.
 */
name: string, 
/**
 * The service's version.
 */
version: string, 
/**
 * This endpoint's public key, in base64.
 */
public_key: string, 
/**
 * The local interfaces that could carry paths.
 */
interfaces: Array<InterfaceStatus>, 
/**
 * The interfaces that are up and have an address, and are not used.
 */
left_out?: Array<LeftOut>, 
/**
 * The peers, in the order in which they were added.
 */
peers: Array<PeerStatus>, 
/**
 * The last few events, oldest first.
 */
events: Array<Event>, 
/**
 * While the tunnel is paused: when it comes up again by itself, as [`timestamp`] writes it.
 */
paused_until: string | null, 
/**
 * What keeps the peers from answering, as far as the service can tell; none while all is well or down.
 */
trouble: Trouble | null, 
/**
 * Why something that was changed is in effect and not on the disk: a restart forgets it. None while all is kept.
 */
unkept?: string, 
/**
 * What the system refuses of addresses, routes and protection, or other programs keep taking away, in English.
 */
refused?: Array<string>, 
/**
 * How leak protection stands.
 */
protection: Protection, 
/**
 * The layers between this machine and its peers, the lowest first: what is known of each, and by what. None
 * while nothing is tried.
 */
layers: Array<LayerStatus>, 
/**
 * The policy of all, which peers without one of their own follow.
 */
policy: PolicyStatus | null, 
/**
 * What the user chose.
 */
settings: Settings, 
/**
 * Where this endpoint's private key is.
 */
key: KeyPlace, 
/**
 * What is only for those who may change things was left out: addresses and keys of peers, names of networks and
 * hosts, what happened, and how much was carried.
 */
redacted?: boolean, };

export type MonthUsage = { 
/**
 * Year and month of local time, `2026-11`.
 */
month: string, 
/**
 * Bytes received, all told.
 */
rx: number, 
/**
 * Bytes sent, all told.
 */
tx: number, 
/**
 * Those of `rx` that carried nothing of an application: headers, seals, probes, copies.
 */
rx_overhead: number, 
/**
 * Those of `tx`.
 */
tx_overhead: number, };

export type UplinkUsage = { 
/**
 * `network:NAME`, or the interface's name. It may come from the network: do not trust it.
 */
uplink: string, 
/**
 * What it is attached to.
 */
kind: InterfaceKind, 
/**
 * Whether it costs, when it was last seen.
 */
metered: boolean, 
/**
 * The months in which it carried anything, the newest first; twelve at most.
 */
months: Array<MonthUsage>, 
/**
 * Bytes a month, both directions together, beyond which the user is warned.
 */
budget: number | null, };

export type Sample = { 
/**
 * Milliseconds since 1970.
 */
at_ms: number, 
/**
 * Smoothed round-trip time in milliseconds; none while the path does not work.
 */
srtt_ms: number | null, 
/**
 * Whether it carried the data.
 */
active: boolean, };

export type PathHistory = { 
/**
 * The peer's name.
 */
peer: string, 
/**
 * The interface's name.
 */
interface: string, 
/**
 * The local address.
 */
local: string, 
/**
 * The remote address and port.
 */
remote: string, 
/**
 * Oldest first.
 */
samples: Array<Sample>, };

export type History = { 
/**
 * Between two samples of a path, in milliseconds, while the service is up.
 */
interval_ms: number, 
/**
 * The paths, also those that are gone.
 */
paths: Array<PathHistory>, };

export type PresenceState = "off" | "starting" | "working" | "failed" | "unknown";

export type PresencePeer = { 
/**
 * The peer's name.
 */
peer: string, 
/**
 * Its account.
 */
account: string, 
/**
 * Nobody said which account the peer has: this one is this machine's own, which the user's machines may share.
 */
assumed: boolean, };

export type PresenceReport = { 
/**
 * The account, where there is one.
 */
account: string | null, 
/**
 * The server, where the user named one.
 */
server: string | null, 
/**
 * How it fares.
 */
state: PresenceState, 
/**
 * Why it cannot be used, in one sentence; only of [`PresenceState::Failed`].
 */
why: string | null, 
/**
 * What helps, in one sentence.
 */
remedy: string | null, 
/**
 * Whose accounts are listened to.
 */
peers: Array<PresencePeer>, };

export type DrillStep = { 
/**
 * The number of the first path of the link that was silenced.
 */
path: number, 
/**
 * How many paths were of it; 0 from a service that does not tell.
 */
paths: number, 
/**
 * Its interface.
 */
interface: string, 
/**
 * The interface that took over; none if none did.
 */
to: string | null, 
/**
 * How long nothing arrived, in milliseconds; none if nothing arrived any more.
 */
gap_ms: number | null, 
/**
 * Probe datagrams sent through the context meanwhile.
 */
sent: number, 
/**
 * Those that never arrived.
 */
lost: number, };

export type DrillReport = { 
/**
 * What happened to each path.
 */
steps: Array<DrillStep>, 
/**
 * Whether traffic survived.
 */
verdict: Verdict, 
/**
 * So many links were to be silenced.
 */
links: number, 
/**
 * The verdict in English: [`words::drill_verdict`].
 */
detail: string, };

export type DrillProgress = { 
/**
 * The same in English: "silencing wlan0".
 */
message: string, 
/**
 * So many links will be silenced.
 */
links: number, 
/**
 * The step that just ended, if one did.
 */
step?: DrillStep, };

export type Light = "good" | "working" | "partial" | "bad" | "paused" | "off";

export type Now = { 
/**
 * The light.
 */
light: Light, 
/**
 * The layer that fails.
 */
layer: Layer | null, 
/**
 * One sentence.
 */
sentence: string, 
/**
 * What to do, or what else to know; may be empty.
 */
detail: string, };

export type State = "ok" | "connecting" | "missing" | "stopped" | "lost" | "old" | "new" | "forbidden" | "broken";

export type Remedy = { 
/**
 * What the button says.
 */
label: string, 
/**
 * The command as one would type it.
 */
command: string, };

export type Service = { 
/**
 * One word.
 */
state: State, 
/**
 * A sentence; empty when all is well.
 */
detail: string, 
/**
 * The one step that mends it.
 */
remedy: Remedy | null, 
/**
 * The command to be typed where that fails.
 */
by_hand: string | null, 
/**
 * The service's version.
 */
version: string | null, 
/**
 * Whether the user may change things.
 */
may_change: boolean, };

export type Place = "shown" | "no-host" | "no-library";

export type Tray = { 
/**
 * Whether it can be seen.
 */
place: Place, 
/**
 * Where it cannot: why, and what to do.
 */
detail: string, };

export type Store = { 
/**
 * What it is called.
 */
name: string, 
/**
 * Whether it can be used.
 */
usable: boolean, 
/**
 * Why not, and what to do.
 */
detail: string, };

export type Throughput = { 
/**
 * Received.
 */
rx: Array<number>, 
/**
 * Sent.
 */
tx: Array<number>, };

export type StoryEvent = { 
/**
 * The same in words, without its time and peer.
 */
sentence: string, 
/**
 * When, as [`timestamp`] writes it.
 */
time: string, 
/**
 * The peer's name; empty when it concerns none.
 */
peer: string, 
/**
 * The interface that carried traffic before.
 */
from: string | null, 
/**
 * The interface that carries traffic now.
 */
to: string | null, 
/**
 * The path that carried traffic before.
 */
from_path?: Ends, 
/**
 * The path that carries traffic now.
 */
to_path?: Ends, 
/**
 * [`Event::what`] in English, for readers that do not know the code, in words that continue "wifi …": "went
 * silent". Only [`What::Other`] says more by it than by its code.
 */
reason: string, 
/**
 * How long nothing arrived, in milliseconds.
 */
gap_ms: number | null, 
/**
 * How many sessions of this host went over from the one interface to the other: open TCP connections and
 * connected UDP sockets.
 */
sessions?: number, } & ({ "code": "link-down" } | { "code": "address-gone" } | { "code": "silent" } | { "code": "peer-silent" } | { "code": "peer-address-gone" } | { "code": "no-route" } | { "code": "policy" } | { "code": "peer-wish" } | { "code": "better" } | { "code": "connected" } | { "code": "restored" } | { "code": "drill" } | { "code": "unfit", 
/**
 * Of a hundred datagrams so many did not arrive.
 */
lost_percent: number, 
/**
 * By how many milliseconds its round trip was longer than it can be.
 */
late_ms: number, 
/**
 * Nothing came through for moments.
 */
stalled: boolean, } | { "code": "restarted" } | { "code": "peer-off" } | { "code": "removed-by-peer" } | { "code": "came-by-invite" } | { "code": "invite-accepted" } | { "code": "routes-refused", 
/**
 * What the system says.
 */
error: string, } | { "code": "put-back", 
/**
 * What, in words.
 */
what: string, 
/**
 * It does so again and again.
 */
again: boolean, } | { "code": "tunnel-lost", 
/**
 * What the system says.
 */
error: string, } | { "code": "no-socket", 
/**
 * The interface.
 */
interface: string, 
/**
 * The UDP port.
 */
port: number, 
/**
 * Why.
 */
cause: SocketCause, 
/**
 * What the system says.
 */
error: string, } | { "code": "watch-ended" } | { "code": "name-unknown", 
/**
 * The name.
 */
host: string, } | { "code": "budget", 
/**
 * The uplink, as `usage` names it.
 */
uplink: string, 
/**
 * So many hundredths of the budget.
 */
percent: number, 
/**
 * The budget in bytes a month.
 */
bytes: number, } | { "code": "unsaved", 
/**
 * What the system says.
 */
error: string, } | { "code": "pause-over" } | { "code": "pause-stuck", 
/**
 * Why.
 */
error: string, } | { "code": "protection-refused", 
/**
 * What the system says.
 */
error: string, } | { "code": "missed", 
/**
 * So many events were left out.
 */
count: number, } | { "code": "other" });

export type UplinkWords = { 
/**
 * What people call it.
 */
called: string, 
/**
 * Whether it carries data.
 */
carries: boolean, 
/**
 * Why it does not; empty where it does.
 */
why: string, };

export type PeerWords = { 
/**
 * Its policy.
 */
policy: string, 
/**
 * What each interface has to do with its data now, those that carry first.
 */
uplinks: Array<UplinkWords>, 
/**
 * What its mode lacks, and the remedy.
 */
missing: string | null, 
/**
 * How fit each of its paths is, in their order; empty where a path does not work.
 */
fitness: Array<string>, };

export type AppSettings = { 
/**
 * `system`, `light` or `dark`.
 */
theme: string, 
/**
 * Whether the app starts with the session.
 */
start_at_login: boolean, 
/**
 * Whether to tell of what happens.
 */
notifications: boolean, 
/**
 * The tray icon.
 */
tray: Tray, 
/**
 * The key store.
 */
key_store: Store, 
/**
 * This app's version.
 */
version: string, };

export type Snapshot = { 
/**
 * How the app stands with the service.
 */
service: Service, 
/**
 * How things are, in a sentence.
 */
now: Now, 
/**
 * The last status that may be believed.
 */
status: Status | null, 
/**
 * What is to be said of each peer, by name.
 */
words: { [key in string]: PeerWords }, 
/**
 * What happened last.
 */
last: StoryEvent | null, 
/**
 * Bytes a second, by interface.
 */
throughput: { [key in string]: Throughput }, 
/**
 * The app's own settings.
 */
settings: AppSettings, 
/**
 * Grows when the story must be read again; what happens comes as `events`.
 */
story_version: number, };

export type Code = { 
/**
 * Modules a side.
 */
size: number, 
/**
 * Row after row; `1` is dark.
 */
modules: string, };

export type Added = { 
/**
 * What it is called here.
 */
name: string, };

export type Invitation = { 
/**
 * The link.
 */
link: string, 
/**
 * Until when it is good.
 */
expires: string, 
/**
 * The link as a QR code.
 */
qr: Code, };

export type Refusal = { 
/**
 * What is wrong and what to do.
 */
message: string, 
/**
 * The field that is wrong.
 */
field: string | null, };
