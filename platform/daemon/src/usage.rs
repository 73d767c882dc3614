//! What each uplink carried, by month, and the budgets that the user set.

use std::collections::{BTreeSet, HashMap};

use mast_control::{InterfaceKind, MonthUsage, UplinkUsage, UsageReport, What};
use mast_engine::api::{Bytes, InterfaceTraffic};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::convert::kind;

/// The most uplinks that are remembered; those that were not used for longest give way, but for budgets.
const UPLINKS: usize = 64;
/// The most months of one.
const MONTHS: usize = 12;
/// When to warn, in hundredths of a budget.
const WARN_AT: [u8; 2] = [80, 100];

/// The file of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Accounts {
    version: u32,
    uplinks: Vec<Account>,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

impl Default for Accounts {
    fn default() -> Self {
        Self { version: 1, uplinks: Vec::new(), extra: Map::new() }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Account {
    uplink: String,
    kind: InterfaceKind,
    #[serde(default)]
    metered: bool,
    /// Newest first.
    #[serde(default)]
    months: Vec<MonthUsage>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    budget: Option<u64>,
    /// The month in which the user was warned last, and at how many hundredths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    warned: Option<(String, u8)>,
}

/// What the engine's counters were when they were last folded in, by the interface's number.
#[derive(Debug, Default)]
pub(crate) struct Meter(HashMap<u32, Bytes>);

impl Accounts {
    /// Folds in what was carried since the last time. `clock` is the month that the clock says, `2026-11`. Answers with
    /// what the user must be told.
    pub fn fold(&mut self, meter: &mut Meter, traffic: Vec<InterfaceTraffic>, clock: &str) -> Vec<What> {
        self.come_back(clock);
        let month = self.present(clock);
        let month = month.as_str();
        for entry in traffic {
            let before = meter.0.insert(entry.id, entry.bytes).unwrap_or_default();
            let rx = entry.bytes.rx.saturating_sub(before.rx);
            let tx = entry.bytes.tx.saturating_sub(before.tx);
            if rx + tx == 0 {
                continue;
            }
            let rx_carried = entry.bytes.rx_carried.saturating_sub(before.rx_carried);
            let tx_carried = entry.bytes.tx_carried.saturating_sub(before.tx_carried);
            let (uplink, seen) = match entry.interface {
                Ok(i) => {
                    let name = i.network.map_or(i.name, |network| format!("network:{network}"));
                    (name, Some((kind(i.kind), i.metered)))
                }
                Err(name) => (name, None),
            };
            let account = self.account(&uplink);
            if let Some((kind, metered)) = seen {
                (account.kind, account.metered) = (kind, metered);
            }
            if account.months.first().is_none_or(|m| m.month != month) {
                account.months.insert(0, MonthUsage { month: month.to_owned(), ..MonthUsage::default() });
                account.months.truncate(MONTHS);
            }
            if let Some(usage) = account.months.first_mut() {
                usage.rx += rx;
                usage.tx += tx;
                usage.rx_overhead += rx.saturating_sub(rx_carried);
                usage.tx_overhead += tx.saturating_sub(tx_carried);
            }
        }
        self.uplinks.iter_mut().filter_map(|account| account.warning(month)).collect()
    }

    /// The month that counts. A clock that was put back begins no other one: what was carried stays carried.
    fn present(&self, clock: &str) -> String {
        let newest = self.uplinks.iter().filter_map(|a| a.months.first()).map(|m| m.month.as_str()).max();
        newest.filter(|newest| *newest > clock).unwrap_or(clock).to_owned()
    }

    /// A clock that was years ahead is right again: what was counted under its month was carried in this one.
    fn come_back(&mut self, clock: &str) {
        let Some(now) = number(clock) else { return };
        let is_ahead = |month: &str| number(month).is_some_and(|month| month > now + AHEAD);
        for account in &mut self.uplinks {
            while account.months.first().is_some_and(|m| is_ahead(&m.month)) {
                let mut wrong = account.months.remove(0);
                if let Some((at, _)) = account.warned.as_mut().filter(|(at, _)| *at == wrong.month) {
                    clock.clone_into(at);
                }
                match account.months.iter_mut().find(|m| m.month == clock) {
                    Some(right) => {
                        right.rx += wrong.rx;
                        right.tx += wrong.tx;
                        right.rx_overhead += wrong.rx_overhead;
                        right.tx_overhead += wrong.tx_overhead;
                    }
                    None => {
                        clock.clone_into(&mut wrong.month);
                        let at = account.months.iter().take_while(|m| m.month.as_str() > clock).count();
                        account.months.insert(at, wrong);
                    }
                }
            }
        }
    }

    fn account(&mut self, uplink: &str) -> &mut Account {
        let at = match self.uplinks.iter().position(|a| a.uplink == uplink) {
            Some(at) => at,
            None => {
                if self.uplinks.len() >= UPLINKS {
                    let idlest = self.uplinks.iter().enumerate().filter(|(_, a)| a.budget.is_none());
                    let idlest = idlest.min_by_key(|(_, a)| a.months.first().map(|m| m.month.clone()));
                    let idlest = idlest.map_or(0, |(at, _)| at);
                    self.uplinks.remove(idlest);
                }
                self.uplinks.push(Account {
                    uplink: uplink.to_owned(),
                    kind: InterfaceKind::Other,
                    metered: false,
                    months: Vec::new(),
                    budget: None,
                    warned: None,
                });
                self.uplinks.len() - 1
            }
        };
        &mut self.uplinks[at]
    }

    /// Sets a budget, or takes it away. False when there is no such uplink.
    pub fn set_budget(&mut self, uplink: &str, bytes: Option<u64>, present: &[String]) -> bool {
        if !self.uplinks.iter().any(|a| a.uplink == uplink) && !present.iter().any(|p| p == uplink) {
            return false;
        }
        let account = self.account(uplink);
        account.budget = bytes;
        account.warned = None;
        true
    }

    /// The uplinks that have carried all of this month's budget; `clock` as for [`Accounts::fold`].
    pub fn spent(&self, clock: &str) -> BTreeSet<String> {
        let month = self.present(clock);
        let spent = |a: &&Account| {
            let used = a.months.first().filter(|m| m.month == month).map_or(0, |m| m.rx + m.tx);
            a.budget.is_some_and(|budget| used >= budget)
        };
        self.uplinks.iter().filter(spent).map(|a| a.uplink.clone()).collect()
    }

    /// The uplinks by name.
    pub fn names(&self) -> Vec<String> {
        self.uplinks.iter().map(|a| a.uplink.clone()).collect()
    }

    /// All of it, the uplinks with the most traffic in the newest month first.
    pub fn report(&self) -> UsageReport {
        let mut uplinks: Vec<_> = self
            .uplinks
            .iter()
            .map(|a| UplinkUsage {
                uplink: a.uplink.clone(),
                kind: a.kind,
                metered: a.metered,
                months: a.months.clone(),
                budget: a.budget,
            })
            .collect();
        uplinks.sort_by_key(|u| {
            let newest = u.months.first().map(|m| (m.month.clone(), m.rx + m.tx));
            std::cmp::Reverse(newest)
        });
        UsageReport { uplinks }
    }
}

impl Account {
    /// What the user must be told of the budget, once for each step and month.
    fn warning(&mut self, month: &str) -> Option<What> {
        let budget = self.budget?;
        let used = self.months.first().filter(|m| m.month == month).map(|m| m.rx + m.tx)?;
        let reached = |step: &u8| u128::from(used) * 100 >= u128::from(budget) * u128::from(*step);
        let step = WARN_AT.into_iter().rev().find(reached)?;
        if self.warned.as_ref().is_some_and(|(at, told)| at == month && *told >= step) {
            return None;
        }
        self.warned = Some((month.to_owned(), step));
        Some(What::Budget { uplink: self.uplink.clone(), percent: step, bytes: budget })
    }
}

/// A clock that was put back by more than this, in months, had been wrong before.
const AHEAD: u32 = 1;

/// Months since the year 0.
fn number(month: &str) -> Option<u32> {
    let (year, month) = month.split_once('-')?;
    Some(year.parse::<u32>().ok()? * 12 + month.parse::<u32>().ok()?)
}

/// The present month of local time.
pub(crate) fn month() -> String {
    jiff::ZonedDateTime::now().strftime("%Y-%m").to_string()
}

#[cfg(test)]
mod tests {
    use mast_proto::{Interface, InterfaceId, InterfaceKind as Kind};

    use super::*;

    fn carried(id: u32, network: Option<&str>, rx: u64, tx: u64) -> InterfaceTraffic {
        let interface = Interface {
            id: InterfaceId(id),
            name: format!("if{id}"),
            kind: Kind::Cellular,
            network: network.map(Into::into),
            metered: true,
            addresses: vec![],
            link_local: None,
            usable: true,
            outlook: Default::default(),
            relayed: Vec::new(),
            reflexive: Vec::new(),
        };
        let bytes = Bytes { rx, tx, rx_carried: rx / 2, tx_carried: tx };
        InterfaceTraffic { interface: Ok(interface), id, bytes }
    }

    #[test]
    fn counters_become_months() {
        let (mut accounts, mut meter) = (Accounts::default(), Meter::default());
        accounts.fold(&mut meter, vec![carried(1, Some("Train"), 100, 10)], "2026-10");
        accounts.fold(
            &mut meter,
            vec![carried(1, Some("Train"), 300, 10), carried(2, None, 5, 5)],
            "2026-11",
        );
        accounts.fold(&mut meter, vec![carried(1, Some("Train"), 300, 10)], "2026-11");
        let report = accounts.report();
        assert_eq!(report.uplinks.iter().map(|u| &*u.uplink).collect::<Vec<_>>(), ["network:Train", "if2"]);
        let train = &report.uplinks[0];
        assert!(train.metered && train.kind == InterfaceKind::Cellular);
        let of = |month: &str, rx, tx, rx_overhead| MonthUsage {
            month: month.into(),
            rx,
            tx,
            rx_overhead,
            tx_overhead: 0,
        };
        assert_eq!(train.months, [of("2026-11", 200, 0, 100), of("2026-10", 100, 10, 50)]);
    }

    #[test]
    fn budgets_warn_once_a_step_and_month() {
        let (mut accounts, mut meter) = (Accounts::default(), Meter::default());
        let mut carry = |accounts: &mut Accounts, rx, month| {
            accounts.fold(&mut meter, vec![carried(1, None, rx, 0)], month)
        };
        carry(&mut accounts, 10, "2026-11");
        assert!(accounts.set_budget("if1", Some(1_000), &[]) && !accounts.set_budget("if9", Some(1), &[]));
        assert!(accounts.set_budget("if3", Some(7), &["if3".into()]));
        assert!(carry(&mut accounts, 799, "2026-11").is_empty());
        let warned = |percent| What::Budget { uplink: "if1".into(), percent, bytes: 1000 };
        assert_eq!(carry(&mut accounts, 800, "2026-11"), [warned(80)]);
        assert!(carry(&mut accounts, 900, "2026-11").is_empty());
        assert!(accounts.spent("2026-11").is_empty());
        assert_eq!(carry(&mut accounts, 2_000, "2026-11"), [warned(100)]);
        assert_eq!(Vec::from_iter(accounts.spent("2026-11")), ["if1"]);
        assert!(accounts.spent("2026-12").is_empty(), "a new month, a new budget");
        assert!(carry(&mut accounts, 3_000, "2026-11").is_empty());
        assert!(carry(&mut accounts, 3_001, "2026-12").is_empty());
        assert_eq!(carry(&mut accounts, 4_100, "2026-12").len(), 1);
    }

    #[test]
    fn a_clock_that_is_put_back_or_was_ahead_gives_no_second_budget() {
        let (mut accounts, mut meter) = (Accounts::default(), Meter::default());
        let mut carry = |accounts: &mut Accounts, rx, month| {
            accounts.fold(&mut meter, vec![carried(1, None, rx, 0)], month)
        };
        carry(&mut accounts, 10, "2026-11");
        assert!(accounts.set_budget("if1", Some(1_000), &[]));
        assert_eq!(carry(&mut accounts, 1_010, "2026-11").len(), 1);
        // Over the end of the month, and forward again.
        for month in ["2026-10", "2026-11", "2026-10"] {
            assert!(carry(&mut accounts, 1_011, month).is_empty(), "{month}");
            assert_eq!(accounts.spent(month).len(), 1, "{month}");
        }
        assert_eq!(accounts.report().uplinks[0].months.len(), 1);
        // Ten years ahead for a moment: a month of its own there, and none when the clock is right again.
        carry(&mut accounts, 1_500, "2036-01");
        assert!(carry(&mut accounts, 1_501, "2026-11").is_empty());
        let months = accounts.report().uplinks[0].months.clone();
        assert_eq!(months.iter().map(|m| (&*m.month, m.rx)).collect::<Vec<_>>(), [("2026-11", 1_501)]);
        assert_eq!(accounts.spent("2026-11").len(), 1);
        assert!(accounts.spent("2026-12").is_empty(), "a new month, a new budget");
    }

    #[test]
    fn remembers_within_bounds() {
        let (mut accounts, mut meter) = (Accounts::default(), Meter::default());
        for id in 0..200 {
            accounts.fold(&mut meter, vec![carried(id, None, 1, 1)], &format!("20{:02}-01", id % 90 + 10));
        }
        assert_eq!(accounts.names().len(), UPLINKS);
    }
}
