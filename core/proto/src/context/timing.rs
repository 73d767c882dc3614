//! Every duration of the protocol, with its reason.

use std::time::Duration;

/// Who receives data over a path and sends nothing over it says so after this long. It bounds how soon the sender
/// can tell silence from a quiet application, and costs at most 100 small datagrams a second, under load only. Who sends
/// over several paths paces itself by what it is told, too.
pub const REPORT_DELAY: Duration = Duration::from_millis(10);
/// Who received so many data frames over a path says what arrived, after [`REPORT_DELAY`] too, even while it sends data
/// over the path: the other end keeps what was not confirmed, to send it again should the path die.
pub const REPORT_AFTER: u32 = 32;
/// And at once when there are so many: on a quick path as much is on its way as the other end can keep.
pub const REPORT_AT_ONCE: u32 = 256;
/// Room for the hosts' own scheduling, at both ends.
pub const SCHEDULING: Duration = Duration::from_millis(12);
/// No shorter silence means anything, however short the round trip: hosts and radios pause for this long.
pub const MIN_SILENCE: Duration = Duration::from_millis(60);
/// Where data is sent without a pause, silence shows by the rhythm of what the other end must say to it. The least that
/// means something then: five times its delay.
pub const STEADY_SILENCE: Duration = Duration::from_millis(50);
/// No pause is longer in data that is sent steadily: a call's datagrams are 20 ms apart.
pub const STEADY_PAUSE: Duration = Duration::from_millis(25);
/// No rhythm is slower: what comes more rarely is judged by the round trip.
pub const MAX_RHYTHM: Duration = Duration::from_millis(500);
/// Suspicion sends this many PROBEs over the suspect path in quick succession, so that random loss alone does not
/// condemn it.
pub const SUSPECT_BURST: u32 = 3;
/// The pause between them.
pub const SUSPECT_SPACING: Duration = Duration::from_millis(15);
/// What is sent over a quicker path overtakes what is on its way over the one that was left, for the difference of their
/// delays and this: the delays are estimates, and vary.
pub const OVERTAKING_MARGIN: Duration = Duration::from_millis(20);
/// But not for longer: nobody keeps datagrams in order for so long.
pub const MAX_OVERTAKING: Duration = Duration::from_millis(250);
/// After a silence of this length that ends by itself, what went into it is sent again: a radio that was gone for so
/// long has dropped it. A shorter one is a false alarm.
pub const REAL_SILENCE: Duration = Duration::from_millis(300);
/// PROBEs without an answer until a path counts as failed when no other path answers either.
pub const PROBE_TRIES: u32 = 4;
/// A PROBE tells as much of a path's loss as this many datagrams.
pub const PROBE_WEIGHT: u64 = 3;
/// On a standby path, where PROBEs are all there is, as this many: a loss that is over is forgotten in half a minute.
pub const STANDBY_PROBE_WEIGHT: u64 = 10;

/// The weight of a PROBE on the active or a standby path.
pub(super) fn probe_weight(active: bool) -> u64 {
    if active { PROBE_WEIGHT } else { STANDBY_PROBE_WEIGHT }
}

/// Who heard nothing for so long gives back the memory that tells late datagrams from repeated ones: none can be on its
/// way any more.
pub const REST: Duration = Duration::from_secs(10);
/// The same for the numbers of data: the other end may have held a datagram for as long as
/// [`crate::HoldLimits::tcp_age`], and send it again under the number that it had.
pub const REST_OF_DATA: Duration = Duration::from_secs(200);
/// A context is busy for this long after data: its paths are measured and kept ready.
pub const BUSY: Duration = Duration::from_secs(10);
/// How often the active path of a busy context is measured.
pub const ACTIVE_INTERVAL: Duration = Duration::from_secs(1);
/// How often it is measured while it is young: until then its silence is judged by a guess of how much its round trip
/// varies, which costs a path of 40 ms 16 ms more.
pub const YOUNG_INTERVAL: Duration = Duration::from_millis(150);
/// How often it is measured while there is a question of its fitness.
pub const QUESTION_INTERVAL: Duration = Duration::from_millis(100);
/// How often another path that data was taken from for being unfit is measured, until it is fit again.
pub const RECOVERY_INTERVAL: Duration = Duration::from_millis(200);
/// The same where it is metered.
pub const METERED_RECOVERY_INTERVAL: Duration = Duration::from_secs(1);
/// A path that answered so lately needs no test before data is moved to it from one that is unfit.
pub const TESTED: Duration = Duration::from_millis(2500);
/// How often a standby path of a busy context is measured.
pub const STANDBY_INTERVAL: Duration = Duration::from_secs(2);
/// How often a metered standby path of a busy context is measured: 9 bytes a second.
pub const METERED_INTERVAL: Duration = Duration::from_secs(15);
/// A path that nothing was heard over for this long gets a PROBE: NATs forget UDP after 30 s (RFC 4787 asks for 120).
pub const KEEPALIVE: Duration = Duration::from_secs(25);
/// A path that joins the same two links as another one is asked so many times less often, in traffic and in idleness:
/// mostly one is IPv4 and the other IPv6, and a stateful firewall's binding that is gone is made again in traffic.
pub const ALIKE_FACTOR: u32 = 4;
/// The end with the higher public key waits a little longer, so that only one sends it.
pub const TARGET_EXTRA: Duration = Duration::from_secs(4);
/// Pauses between tries of a failed path: the first, and the most while another path works.
pub const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(8));
/// The most while another path works and the context is idle.
pub const IDLE_RETRY: Duration = Duration::from_secs(60);
/// A path that never answered is most likely one that cannot be: its pauses grow beyond the others', up to this.
pub const HOPELESS_RETRY: Duration = Duration::from_secs(300);
/// Pauses between tries while no path works, by how long that has lasted: a blackhole heals without any sign from
/// the system, and somebody is waiting; but not for hours at this rate.
pub const OUTAGE_RETRY: [(Duration, Duration); 4] = [
    (Duration::from_secs(10), Duration::from_millis(250)),
    (Duration::from_secs(120), Duration::from_secs(1)),
    (Duration::from_secs(600), Duration::from_secs(5)),
    (Duration::MAX, Duration::from_secs(15)),
];
/// While no path works for this long, the other end may have restarted: shake hands again.
pub const RECONTACT: Duration = Duration::from_millis(300);
/// Between two addresses of one round of first contact: long enough not to flood, short enough not to be noticed
/// (RFC 8305 uses 250 ms; a handshake message is 148 bytes, so this can be quicker).
pub const STAGGER: Duration = Duration::from_millis(50);
/// Pauses between rounds of first contact: the first, and the most.
pub const CONTACT_RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));
/// After so many rounds (about ten minutes) without an answer, the pauses grow once more: a peer that is off for the
/// night costs 150 bytes a minute.
pub const PATIENT_ROUNDS: u32 = 40;
/// To this.
pub const CONTACT_PATIENT: Duration = Duration::from_secs(60);
/// First contact is tried again so long after the other end ended the context.
pub const SHUT_PAUSE: Duration = Duration::from_secs(5);
/// Data for a peer that does not answer starts a round of first contact, if the last one is so old.
pub const HURRY: Duration = Duration::from_secs(2);
/// Not more than one new handshake in this time, whatever happens.
pub const CONTACT_MIN: Duration = Duration::from_millis(200);
/// Pauses before INIT is sent again; without an answer after the last, the peer speaks plain WireGuard. In all less
/// than what is held of UDP meanwhile may age.
pub const INIT_RETRY: [Duration; 4] = [
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(600),
    Duration::from_millis(800),
];
/// An answer to INIT is kept for this long, in case the INIT comes again; then its part of the keys is forgotten.
pub const ANSWER_KEPT: Duration = Duration::from_secs(10);
/// The end that answered the handshake waits this long for an INIT before it sends its own.
pub const TARGET_INIT: Duration = Duration::from_secs(3);
/// A new epoch after this much time with traffic (WireGuard's REKEY-AFTER-TIME).
pub const REKEY: Duration = Duration::from_secs(120);
/// The end that did not begin the epoch waits this much longer before it begins the next.
pub const REKEY_EXTRA: Duration = Duration::from_secs(15);
/// Where indices run out, a new epoch, with new ones, is not due before this age.
pub const REKEY_INDICES: Duration = Duration::from_secs(10);
/// A new epoch without traffic: what was sealed by then are PROBEs alone, and a handshake costs as much as ten of them.
pub const EPOCH_IDLE: Duration = Duration::from_secs(1800);
/// So long after a newer epoch was due, one ends, whether there is a newer one or not: somebody who drops nothing but
/// handshakes must not keep keys alive (WireGuard's REJECT-AFTER-TIME).
pub const EPOCH_END: Duration = Duration::from_secs(180);
/// Pauses between tries to begin a new epoch.
pub const REKEY_RETRY: Duration = Duration::from_secs(5);
/// An epoch that this end no longer seals with is kept until neither end has used it for this long. Two ends that
/// began an epoch each at the same time may each have gone over to the other's; within a keepalive's time, plus its
/// tries, each hears which one the other chose.
pub const EPOCH_OVERLAP: Duration = Duration::from_secs(60);
/// Pause before SET and SHUT are sent again where no path has been measured.
pub const CONTROL_RETRY: Duration = Duration::from_millis(250);
/// SHUT is sent this many times at most.
pub const SHUT_TRIES: u32 = 3;
/// Between two initiations of their own over different interfaces, from the second round of first contact on: a
/// WireGuard host holds one unconfirmed session, that of the latest.
pub const OWN_STAGGER: Duration = Duration::from_millis(250);
/// With plain WireGuard peers: no shorter silence means anything. Hosts pause, radios sleep, an acknowledgement may be
/// delayed by 40 ms or more.
pub const PLAIN_SILENCE: Duration = Duration::from_millis(200);
/// No longer silence is lawful, whatever was sent: WireGuard sends a keepalive 10 s after it received data and sent none
/// (its KEEPALIVE-TIMEOUT), and some look at their clock once a second only.
pub const PLAIN_LAWFUL: Duration = Duration::from_millis(12_500);
/// After a false alarm what was missed is not missed for so long; doubled with each in a row, up to four times.
pub const PLAIN_LENIENCE: Duration = Duration::from_secs(60);
/// Bytes that a peer may have earned for the addresses that it names.
pub const ALLOWANCE: u32 = 16 * 1024;
/// Bytes that a peer's word by a presence service, or in the local network, earns: some forty datagrams that try whether it is
/// there.
pub const PRESENCE_ALLOWANCE: u32 = 8 * 1024;
/// Such a word earns that no sooner again.
pub const PRESENCE_PAUSE: Duration = Duration::from_secs(10);
/// So many INITs of a peer are answered, four, in so long: nobody starts anew more often.
pub const INITS_IN: Duration = Duration::from_secs(2);
/// A segment that the peer sends twice in a row is a reason for one look in so long: a single acknowledgement may be lost.
pub const PLAIN_REPEATS: Duration = Duration::from_secs(10);
/// A path that is silent is tried so often before others are: one answer may be lost.
pub const PLAIN_TRIES: u32 = 2;
/// No try waits for less (crypto, scheduling, a radio that wakes); and for so long where the round trip is not known.
pub const PLAIN_WAIT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(500));
/// After the try of another path the peer is called back to the active one: whatever it sends goes there until then. No
/// sooner, and not before the try has come to it.
pub const PLAIN_RECALL: Duration = Duration::from_millis(50);
/// A path beside the active one that answered no longer ago is moved to without asking again.
pub const PLAIN_FRESH: Duration = Duration::from_secs(10);
/// The least pause after the first round over other paths when the active one to a plain WireGuard peer fell silent:
/// somebody is waiting.
pub const PLAIN_ROUND: Duration = Duration::from_millis(300);
/// A plain WireGuard peer counts as unreachable when handshakes went without an answer for so long.
pub const PLAIN_UNREACHABLE: Duration = Duration::from_secs(2);
/// A size does not fit a path when so many PROBEs of it were not answered (RFC 8899's MAX_PROBES).
pub const MTU_TRIES: u32 = 3;
/// How long an answer to a padded PROBE may take beyond the path's timeout: a full-size packet takes 50 ms on a link of
/// 240 kbit/s.
pub const MTU_ALLOWANCE: Duration = Duration::from_millis(50);
/// The same where eight of them go out together.
pub const MTU_SOUND_ALLOWANCE: Duration = Duration::from_millis(100);
/// A proven size is not doubted again sooner: loss that has nothing to do with size raises doubts all the time.
pub const MTU_DOUBT: Duration = Duration::from_millis(500);
/// Loss tells of size only if something large was sent so shortly before.
pub const MTU_RELATED: Duration = Duration::from_secs(3);
/// What RFC 8899 calls PMTU_RAISE_TIMER: a larger size may fit by now.
pub const MTU_RAISE: Duration = Duration::from_secs(600);
/// The peer counts as answering for this long after it was last heard, when idle: a keepalive and its tries.
pub const FRESH: Duration = Duration::from_secs(35);
