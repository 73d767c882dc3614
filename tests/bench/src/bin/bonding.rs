//! How much of two links one TCP connection gets, beside Multipath TCP in the same run.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use mast_bench::bonding::{BUCKET, Case, Figure, Way, run};
use mast_bench::chart::{Bars, Lines};
use mast_bench::report::{Goal, markdown, median, shown, verdicts, write, write_json};
use mast_bench::{BenchError, Setting, io, mptcp};
use mast_stage::{Addressing, Program};
use serde_json::{Value, json};

/// Runs that are repeated at most because the emulator could not keep up.
const REPEATS: u32 = 5;

/// Measures the goodput of one TCP connection (cubic) over two links at once, through MAST in bonded mode, through
/// MAST over the better link, and with the kernel's Multipath TCP.
#[derive(Parser)]
struct Arguments {
    /// How often each is measured
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// How long each time, after two seconds of start-up
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Only these: uneven, lopsided, equal, loss, halved
    #[arg(long, value_name = "NAME")]
    case: Vec<String>,
    /// From the laptop to the server instead of the other way
    #[arg(long)]
    up: bool,
    /// Versions of IP: v4, v6, both
    #[arg(long, value_name = "VERSIONS", default_value_t)]
    addressing: Addressing,
    /// Write everything to a file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw pictures into a directory
    #[arg(long, value_name = "DIRECTORY")]
    svg: Option<PathBuf>,
}

/// What came of a case with one way.
struct Row {
    way: Way,
    figures: Vec<Figure>,
    /// Runs repeated because the emulator could not keep up.
    repeated: u32,
    /// Why it was not measured, or not as often as wanted.
    failed: Option<String>,
}

impl Row {
    fn median(&self, of: fn(&Figure) -> f64) -> Option<f64> {
        median(self.figures.iter().map(of))
    }

    /// The course of the run that is in the middle by its share.
    fn course(&self) -> Vec<(f64, f64)> {
        let middle = self.median(|f| f.share);
        let figure = self.figures.iter().find(|f| Some(f.share) == middle);
        let course = figure.map(|f| f.course.as_slice()).unwrap_or_default();
        let time = |at: usize| (at as f64 + 0.5) * BUCKET.as_secs_f64();
        course.iter().enumerate().map(|(at, mbit)| (time(at), *mbit)).collect()
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Before any thread: the whole process moves into a network of its own.
    match mast_netlab::enter().map_err(BenchError::from).and_then(|()| measure(&arguments)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(2),
        Err(error) => {
            eprintln!("bonding: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> Result<bool, BenchError> {
    if let Some(directory) = &arguments.svg {
        std::fs::create_dir_all(directory).map_err(io(format!("make {}", directory.display())))?;
    }
    let wants =
        |case: &Case| arguments.case.is_empty() || arguments.case.iter().any(|name| name == case.name);
    let cases: Vec<Case> = Case::ALL.into_iter().filter(wants).collect();
    if cases.is_empty() {
        return Err(BenchError::Missing(
            "--case names none of: uneven, lopsided, equal, loss, halved".into(),
        ));
    }
    let program = Program::built()?;
    let (mut all, mut goals) = (Vec::new(), Vec::new());
    for case in cases {
        let rows = carry_out(arguments, &case, &program);
        print(&case, &rows);
        goals.extend(aims(&case, &rows));
        all.push((case, rows));
    }
    println!("\nTargets:\n\n{}", verdicts(&goals));
    if let Some(path) = &arguments.json {
        write_json(path, &json(arguments, &all, &goals))?;
    }
    draw(arguments, &all)?;
    Ok(goals.iter().all(|goal| goal.met() != Some(false)))
}

fn carry_out(arguments: &Arguments, case: &Case, program: &Program) -> Vec<Row> {
    let setting = Setting { addressing: arguments.addressing, ..Setting::default() };
    let obstacle = |way| if way == Way::Mptcp { mptcp::obstacle(&setting) } else { None };
    let mut rows = Way::ALL.map(|way| Row { way, figures: Vec::new(), repeated: 0, failed: obstacle(way) });
    let time = Duration::from_secs(arguments.seconds);
    // One after the other, again and again, so that whatever else the machine does meets all alike.
    for _ in 0..arguments.runs {
        for row in rows.iter_mut().filter(|row| row.failed.is_none()) {
            loop {
                match run(case, row.way, program, arguments.addressing, !arguments.up, time) {
                    Ok(Some(figure)) => {
                        eprintln!("{}, {}: {:.1} Mbit/s", case.name, row.way.name(), figure.mbit);
                        row.figures.push(figure);
                        break;
                    }
                    Ok(None) if row.repeated < REPEATS => row.repeated += 1,
                    Ok(None) => {
                        row.failed = Some("this machine is too busy".into());
                        break;
                    }
                    Err(error) => {
                        eprintln!("bonding: {}: {error}", row.way.name());
                        row.failed = error.to_string().lines().next().map(str::to_owned);
                        break;
                    }
                }
            }
        }
    }
    rows.into()
}

fn print(case: &Case, rows: &[Row]) {
    println!("\n{}; medians:\n", case.words);
    let head = ["", "runs", "Mbit/s", "share %", "of rates %", "Wi-Fi full %", "cellular full %", "remarks"];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    for row in rows {
        let percent = |of: fn(&Figure) -> f64| shown(row.median(of).map(|share| share * 1e2), 1);
        let repeated = (row.repeated > 0).then(|| format!("{} repeated (overrun)", row.repeated));
        let failed = row.failed.as_ref().map(|why| format!("not measured: {why}"));
        lines.push(vec![
            row.way.name().to_owned(),
            row.figures.len().to_string(),
            shown(row.median(|f| f.mbit), 1),
            percent(|f| f.share),
            percent(|f| f.of_rates),
            percent(|f| f.wifi),
            percent(|f| f.cell),
            repeated.into_iter().chain(failed).collect::<Vec<_>>().join("; "),
        ]);
    }
    print!("{}", markdown(&lines));
}

/// Of what Multipath TCP gets. It has no tunnel and so no overhead, while of a tunnel's bytes 95 % are the stream's:
/// where both fill the links, this cannot be met.
const OF_MPTCP: f64 = 1.0;

/// Bonded mode fills the links, and is not behind Multipath TCP.
fn aims(case: &Case, rows: &[Row]) -> Vec<Goal> {
    let share = |way| rows.iter().find(|row| row.way == way)?.median(|f| f.share);
    let (bonded, peer) = (share(Way::Bonded), share(Way::Mptcp));
    let ratio = bonded.zip(peer).map(|(bonded, peer)| bonded / peer);
    vec![
        Goal::least(format!("{}: share of both links", case.words), case.share, bonded),
        Goal::least(format!("{}: times Multipath TCP", case.words), OF_MPTCP, ratio),
    ]
}

fn json(arguments: &Arguments, all: &[(Case, Vec<Row>)], goals: &[Goal]) -> Value {
    let figure = |figure: &Figure| {
        json!({
            "mbit_per_s": figure.mbit,
            "share": figure.share,
            "share_of_rates": figure.of_rates,
            "wifi_full": figure.wifi,
            "cell_full": figure.cell,
            "course_mbit_per_s": figure.course,
        })
    };
    let row = |row: &Row| {
        json!({
            "way": row.way.name(),
            "median_mbit_per_s": row.median(|f| f.mbit),
            "median_share": row.median(|f| f.share),
            "runs": row.figures.iter().map(figure).collect::<Vec<_>>(),
            "repeated": row.repeated,
            "not_measured": row.failed,
        })
    };
    let case = |(case, rows): &(Case, Vec<Row>)| {
        json!({
            "case": case.name,
            "links": case.words,
            "ways": rows.iter().map(row).collect::<Vec<_>>(),
        })
    };
    json!({
        "runs": arguments.runs,
        "seconds": arguments.seconds,
        "up": arguments.up,
        "addressing": arguments.addressing.to_string(),
        "course_interval_s": BUCKET.as_secs_f64(),
        "cases": all.iter().map(case).collect::<Vec<_>>(),
        "targets": goals.iter().map(Goal::json).collect::<Vec<_>>(),
    })
}

fn draw(arguments: &Arguments, all: &[(Case, Vec<Row>)]) -> Result<(), BenchError> {
    let Some(directory) = &arguments.svg else { return Ok(()) };
    let of = |way: Way| {
        let row = |rows: &[Row]| rows.iter().find(|row| row.way == way)?.median(|f| f.share * 1e2);
        (way.name().to_owned(), all.iter().map(|(_, rows)| row(rows)).collect())
    };
    let bars = Bars {
        title: "One TCP connection over two links".into(),
        unit: "% of the payload that both links can carry".into(),
        groups: all.iter().map(|(case, _)| case.name.to_owned()).collect(),
        series: Way::ALL.map(of).into(),
    };
    write(&directory.join("bonding.svg"), &bars.svg())?;
    for (case, rows) in all {
        let lines = Lines {
            title: case.words.to_owned(),
            unit: "Mbit/s of payload".into(),
            series: rows.iter().map(|row| (row.way.name().to_owned(), row.course())).collect(),
        };
        write(&directory.join(format!("bonding-{}.svg", case.name)), &lines.svg())?;
    }
    Ok(())
}
