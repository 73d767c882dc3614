//! How long traffic is silent when networks come and go.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use mast_bench::figures::{Row, Target, table};
use mast_bench::mast::{Options, Outcome, Step};
use mast_bench::{BenchError, Setting, accuracy, mast, mptcp, ms, wireguard};
use mast_control::PolicyMode;
use mast_netlab::traffic::EchoReport;
use mast_stage::Program;
use serde_json::{Value, json};

/// Runs of Multipath TCP at most: they are for scale.
const MPTCP_RUNS: u32 = 10;
/// Runs of WireGuard at most: each may last as long as patience does.
const WIREGUARD_RUNS: u32 = 2;
/// A step is given up after so many runs that cannot be carried out.
const FAILURES: usize = 3;

/// Measures how long traffic through MAST is silent when networks come and go, and for scale the same with Multipath
/// TCP and with plain WireGuard.
#[derive(Parser)]
struct Arguments {
    /// Runs of each step
    #[arg(long, value_name = "N", default_value_t = 20)]
    runs: u32,
    /// Only these steps: down, carrier, blackhole, blackhole-up, blackhole-down, pin-cell, pin-wifi, renumber, outage-5, outage-20, restored,
    /// fade, fade-up, fade-down, redundant, plain, mptcp, wireguard
    #[arg(long, value_name = "NAME")]
    step: Vec<String>,
    /// Write everything to a file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Keep the daemons' logs of each run in a directory (set MAST_LOG=debug for more)
    #[arg(long, value_name = "DIRECTORY")]
    logs: Option<PathBuf>,
    /// Count cellular as metered, so that it is measured less often while it stands by
    #[arg(long)]
    metered: bool,
    #[command(flatten)]
    setting: Setting,
}

impl Arguments {
    fn wants(&self, name: &str) -> bool {
        self.step.is_empty() || self.step.iter().any(|s| s == name || name.starts_with(&format!("{s}-")))
    }
}

/// Carries out a run of this name.
type Act<'a> = Box<dyn Fn(&str) -> Result<Outcome, BenchError> + 'a>;

/// A row of the table and how one of its runs is carried out.
struct Plan<'a> {
    name: String,
    event: String,
    targets: Vec<Target>,
    runs: u32,
    obstacle: Option<String>,
    act: Act<'a>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Before any thread: the whole process moves into a network of its own.
    if let Err(error) = mast_netlab::enter() {
        eprintln!("failover: {error}");
        return ExitCode::FAILURE;
    }
    match measure(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(2),
        Err(error) => {
            eprintln!("failover: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> Result<bool, BenchError> {
    let began = Instant::now();
    let make = |path: &PathBuf| {
        std::fs::create_dir_all(path)
            .map_err(|source| BenchError::Io { what: format!("make {}", path.display()), source })
    };
    arguments.logs.as_ref().map(make).transpose()?;
    let setting = arguments.setting;
    let options = Options {
        program: Program::built()?,
        metered: arguments.metered,
        mode: PolicyMode::Auto,
        setting,
        plain: false,
    };
    let redundant = Options { mode: PolicyMode::Redundant, ..options.clone() };
    let plain = Options { plain: true, ..options.clone() };
    let accuracy = accuracy::measure(Duration::from_secs(5), &setting)?;
    println!("{}.\n", setting.words());
    println!("The lab alone, echo at 100 Hz without a tunnel:");
    println!("  Wi-Fi     {}", describe(&accuracy.wifi));
    println!("  cellular  {}\n", describe(&accuracy.cell));
    let rows: Vec<Row> = plans(arguments, [&options, &redundant, &plain]).iter().map(carry_out).collect();
    println!("\nMilliseconds: least / median / p99 (the worst of less than 100 runs)\n");
    print!("{}", table(&rows));
    if let Some(path) = &arguments.json {
        let all = json!({
            "lab": { "wifi": echo_json(&accuracy.wifi), "cell": echo_json(&accuracy.cell) },
            "metered": arguments.metered,
            "setting": setting.json(),
            "seconds": began.elapsed().as_secs(),
            "steps": rows.iter().map(Row::json).collect::<Vec<_>>(),
        });
        std::fs::write(path, format!("{all:#}\n"))
            .map_err(|source| BenchError::Io { what: format!("write {}", path.display()), source })?;
    }
    Ok(rows.iter().all(|row| row.met() != Some(false)))
}

fn plans<'a>(arguments: &'a Arguments, [options, redundant, plain]: [&'a Options; 3]) -> Vec<Plan<'a>> {
    let mut plans = Vec::new();
    for step in Step::ALL {
        plans.push(Plan {
            name: step.name(),
            event: step.event(),
            targets: step.targets(&options.setting),
            runs: arguments.runs,
            obstacle: None,
            act: Box::new(move |run| {
                mast::run(step, options, arguments.logs.as_deref().map(|path| (path, run)))
            }),
        });
    }
    let obstacle = arguments.metered.then(|| "metered links carry no copies".to_owned());
    for step in [Step::Down, Step::Carrier, Step::Blackhole, Step::BlackholeUp, Step::BlackholeDown] {
        plans.push(Plan {
            name: format!("redundant-{}", step.name()),
            event: format!("redundant mode: {}", step.event()),
            targets: Step::redundant_targets(&options.setting),
            runs: arguments.runs,
            obstacle: obstacle.clone(),
            act: Box::new(move |run| {
                mast::run(step, redundant, arguments.logs.as_deref().map(|path| (path, run)))
            }),
        });
    }
    let obstacle = wireguard::obstacle(&options.setting);
    for step in [
        Step::Down,
        Step::Carrier,
        Step::Blackhole,
        Step::BlackholeUp,
        Step::BlackholeDown,
        Step::PinCell,
        Step::PinWifi,
        Step::Restored,
    ] {
        plans.push(Plan {
            name: format!("plain-{}", step.name()),
            event: format!("MAST to wireguard-go: {}", step.event()),
            targets: step.plain_targets(&options.setting),
            runs: arguments.runs,
            obstacle: obstacle.clone(),
            act: Box::new(move |run| {
                mast::run(step, plain, arguments.logs.as_deref().map(|path| (path, run)))
            }),
        });
    }
    let obstacle = mptcp::obstacle(&options.setting);
    for (step, managed) in [
        (Step::Down, false),
        (Step::Down, true),
        (Step::Carrier, false),
        (Step::Carrier, true),
        (Step::Blackhole, false),
    ] {
        let (suffix, words) = manager(managed);
        plans.push(Plan {
            name: format!("mptcp-{}{suffix}", step.name()),
            event: format!("Multipath TCP: {}{words}", step.event()),
            targets: Vec::new(),
            runs: arguments.runs.min(MPTCP_RUNS),
            obstacle: obstacle.clone(),
            act: Box::new(move |_| mptcp::run(step, managed, &options.setting)),
        });
    }
    let obstacle = wireguard::obstacle(&options.setting);
    for (step, managed) in [(Step::Down, false), (Step::Down, true), (Step::Blackhole, false)] {
        let (suffix, words) = manager(managed);
        plans.push(Plan {
            name: format!("wireguard-{}{suffix}", step.name()),
            event: format!("WireGuard: {}{words}", step.event()),
            targets: Vec::new(),
            runs: arguments.runs.min(WIREGUARD_RUNS),
            obstacle: obstacle.clone(),
            act: Box::new(move |_| wireguard::run(step, managed, &options.setting)),
        });
    }
    plans.retain(|plan| arguments.wants(&plan.name));
    plans
}

/// What a manager in user space adds to a name, and to a description.
fn manager(managed: bool) -> (&'static str, &'static str) {
    if managed { ("-managed", ", address withdrawn at once") } else { ("", "") }
}

fn carry_out(plan: &Plan<'_>) -> Row {
    let mut row = Row {
        name: plan.name.clone(),
        event: plan.event.clone(),
        targets: plan.targets.clone(),
        not_measured: plan.obstacle.clone(),
        ..Row::default()
    };
    let mut run = 0;
    while row.not_measured.is_none() && run < plan.runs && row.failed.len() < FAILURES {
        match (plan.act)(&format!("{}-{run}", plan.name)) {
            Ok(Outcome::Measured(sample)) => {
                run += 1;
                let figures: Vec<String> = mast_bench::figures::Metric::ALL
                    .iter()
                    .filter_map(|m| Some(format!("{} {:.1}", m.key(), sample.get(*m)?)))
                    .collect();
                eprintln!("{} {run}/{}: {}", plan.name, plan.runs, figures.join(", "));
                row.samples.push(sample);
            }
            Ok(Outcome::Overrun) => {
                eprintln!("{}: the emulator could not keep up; once more", plan.name);
                row.discarded += 1;
                if row.discarded > plan.runs {
                    row.not_measured = Some("this machine is too busy".into());
                }
            }
            Err(error) => {
                eprintln!("{}: {error}", plan.name);
                let text = error.to_string();
                row.failed.push(text.lines().next().unwrap_or_default().to_owned());
            }
        }
    }
    row
}

fn describe(report: &EchoReport) -> String {
    let of = |time: Option<Duration>| time.map_or(f64::NAN, ms);
    format!(
        "round trip {:.2} ms (median; {:.2} to {:.2}), longest gap {:.2} ms, {} of {} lost",
        of(report.rtt_median),
        of(report.rtt_min),
        of(report.rtt_max),
        ms(report.longest_gap),
        report.lost,
        report.sent
    )
}

fn echo_json(report: &EchoReport) -> Value {
    json!({
        "rtt_min_ms": report.rtt_min.map(ms),
        "rtt_median_ms": report.rtt_median.map(ms),
        "rtt_max_ms": report.rtt_max.map(ms),
        "longest_gap_ms": ms(report.longest_gap),
        "sent": report.sent,
        "lost": report.lost,
    })
}
