//! The network in which something is measured, and what may vary of it.

use std::time::Duration;

use clap::Args;
use mast_netlab::LinkProfile;
use mast_stage::{Addressing, TrainProfile};
use serde_json::{Value, json};

use crate::ms;

/// The network of a measurement: a Wi-Fi of 50 Mbit/s and cellular of 30 Mbit/s, and what may vary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub struct Setting {
    /// Versions of IP: v4, v6, both
    #[arg(long, value_name = "VERSIONS", default_value_t)]
    pub addressing: Addressing,
    /// A NAT for IPv4 on both uplinks
    #[arg(long)]
    pub nat: bool,
    /// Round trips over Wi-Fi and cellular, in milliseconds
    #[arg(long, value_name = "WIFI/CELL", default_value_t)]
    pub delays: Delays,
    /// The pace of each TCP stream, in Mbit/s
    #[arg(long, value_name = "MBIT", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=20))]
    pub mbit: u32,
    /// Traffic flows so long before anything happens, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=600))]
    pub warm_up: u32,
}

/// The round trips over both links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delays {
    /// Over Wi-Fi.
    pub wifi: Duration,
    /// Over cellular.
    pub cell: Duration,
}

impl Default for Delays {
    /// 40 and 60 ms.
    fn default() -> Self {
        Self { wifi: Duration::from_millis(40), cell: Duration::from_millis(60) }
    }
}

impl std::str::FromStr for Delays {
    type Err = String;

    /// From `40/60`, in milliseconds.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let part = |text: &str| text.parse().ok().map(Duration::from_millis);
        text.split_once('/')
            .and_then(|(wifi, cell)| Some(Self { wifi: part(wifi)?, cell: part(cell)? }))
            .ok_or_else(|| format!("`{text}` is not like 40/60"))
    }
}

impl std::fmt::Display for Delays {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.wifi.as_millis(), self.cell.as_millis())
    }
}

impl Default for Setting {
    /// Both versions of IP, no NAT, 40 and 60 ms, 10 Mbit/s, and ten seconds: by then a path has been measured so often
    /// that what is thought of its variation is its own.
    fn default() -> Self {
        Self {
            addressing: Addressing::default(),
            nat: false,
            delays: Delays::default(),
            mbit: 10,
            warm_up: 10,
        }
    }
}

impl Setting {
    /// The links with queues of some 50 ms.
    pub fn profile(&self) -> TrainProfile {
        TrainProfile {
            wifi: LinkProfile::delay(self.delays.wifi / 2).with_rate(50_000_000, 312_500),
            cell: LinkProfile::delay(self.delays.cell / 2).with_rate(30_000_000, 187_500),
            addressing: self.addressing,
            nat: self.nat,
        }
    }

    /// In a few words, for people.
    pub fn words(&self) -> String {
        let versions = match self.addressing {
            Addressing::V4 => "IPv4 alone",
            Addressing::V6 => "IPv6 alone",
            Addressing::Both => "IPv4 and IPv6",
        };
        let nat = if self.nat { ", IPv4 behind a NAT on both uplinks" } else { "" };
        format!("{versions}{nat}, round trips of {} ms, TCP at {} Mbit/s each way", self.delays, self.mbit)
    }

    /// For programs.
    pub fn json(&self) -> Value {
        json!({
            "addressing": self.addressing.to_string(),
            "nat": self.nat,
            "wifi_rtt_ms": ms(self.delays.wifi),
            "cell_rtt_ms": ms(self.delays.cell),
            "tcp_mbit_per_s": self.mbit,
            "warm_up_s": self.warm_up,
        })
    }
}
