//! How well NB2 detects on weekly counts whose truth is known; prints the figures that the
//! documentation quotes.
//!
//! ```sh
//! cargo bench --bench weekly_quality -- --case year --seeds 1000..1020
//! ```
//!
//! Cases: `year` (52 weeks, all scored), `newest` (156 weeks, the newest 48 one step ahead),
//! `noufaily` (42 scenarios, the newest 49 weeks, one-sided), `clean` and `clean_newest` (no
//! events: the share of p <= 0.01 by length and level), `speed` (series per CPU-second; each seed is a
//! panel of `--keys`), `bulk` (the full pipeline over `--seeds` panels of `--keys` years, one after
//! another: wall, CPU and peak memory). `--set "key = value"` changes a parameter of NB2, `--dump DIR`
//! writes counts, labels and scores for other programs (`benches/peers/nb2_farrington.py`).

#[path = "support/weekly.rs"]
mod weekly;

use std::{fmt::Write, ops::Range, time::Instant};

use anomalist::detectors::{
    Detector, FitContext, FitMask, Scores, ScoringPlan,
    nb2::{FourierK, Nb2, Nb2Params, Scoring},
};
use weekly::{Key, NOUFAILY_NEWEST, NOUFAILY_WEEKS, Spec, Tally};

/// Levels of p at which flags are counted.
const LEVELS: [f64; 5] = [0.018, 0.015, 0.01, 0.005, 0.002];

struct Arguments {
    case: String,
    seeds: Range<u64>,
    settings: String,
    dump: Option<String>,
    keys: usize,
}

fn arguments() -> Arguments {
    let mut found = Arguments {
        case: "year".into(),
        seeds: 1000..1020,
        settings: String::new(),
        dump: None,
        keys: 60,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_else(|| panic!("{word} needs a value"));
        match word.as_str() {
            "--case" => found.case = value(),
            "--keys" => found.keys = value().parse().expect("a number"),
            "--seeds" => {
                let text = value();
                let (first, end) = text.split_once("..").expect("FIRST..END");
                found.seeds = first.parse().expect("a seed")..end.parse().expect("a seed");
            }
            "--set" => {
                found.settings += &value();
                found.settings.push('\n');
            }
            "--dump" => found.dump = Some(value()),
            "--bench" => {}
            other => panic!("unknown argument {other}"),
        }
    }
    found
}

fn scored(keys: &[Key], params: &Nb2Params, plan: ScoringPlan, seed: u64) -> Scores {
    let panel = weekly::panel(keys);
    let nb2 = Nb2::new(params.clone()).expect("valid parameters");
    nb2.fit_score(&panel, &FitMask::all(&panel), plan, &FitContext::new(seed)).expect("a fit").1
}

fn dump(folder: &str, seed: u64, keys: &[Key], scores: &Scores, newest: usize) {
    let mut text = String::from("series_id,week_start,count,label,in_test,kind,score\n");
    let first = jiff::civil::date(2013, 1, 7);
    for (i, key) in keys.iter().enumerate() {
        for (t, count) in key.counts.iter().enumerate() {
            let day = first + jiff::Span::new().days(7 * t as i64);
            let kind = key.events.iter().find(|e| e.weeks.contains(&t)).map_or("", |e| e.kind);
            let (label, test) = (u8::from(key.labels[t]), u8::from(t + newest >= key.counts.len()));
            let kind = if key.labels[t] { kind } else { "" };
            let score = scores.score[[i, t]];
            writeln!(text, "p{}|x|k{i},{day},{count},{label},{test},{kind},{score:.4}", key.pair)
                .expect("a string");
        }
    }
    std::fs::create_dir_all(folder).expect("a folder");
    std::fs::write(format!("{folder}/counts_{seed}.csv"), text).expect("written");
}

/// A table of the seeds: what NB2 finds and what the truth would.
fn compare(
    arguments: &Arguments,
    params: &Nb2Params,
    make: impl Fn(u64) -> Vec<Key>,
    plan: ScoringPlan,
    scored_weeks: Range<usize>,
    one_sided: bool,
) {
    let mut found = LEVELS.map(|_| Tally::default());
    let mut truth = Tally::default();
    let (mut seconds, mut series) = (0.0, 0);
    for seed in arguments.seeds.clone() {
        let keys = make(seed);
        let start = Instant::now();
        let scores = scored(&keys, params, plan, seed);
        seconds += start.elapsed().as_secs_f64();
        if let Some(folder) = &arguments.dump {
            dump(folder, seed, &keys, &scores, scored_weeks.len());
        }
        series += keys.len();
        for (s, key) in keys.iter().enumerate() {
            for (tally, level) in found.iter_mut().zip(LEVELS) {
                tally.add(key, scored_weeks.clone(), -level.log10(), |t| scores.score[[s, t]]);
            }
            truth.add(key, scored_weeks.clone(), 2.0, |t| {
                -weekly::oracle_ln_p(key, t, one_sided) * std::f64::consts::LOG10_E
            });
        }
    }
    for (tally, level) in found.iter().zip(LEVELS) {
        tally.print(&format!("NB2, p <= {level}"));
    }
    truth.print("oracle, point test, p <= 0.01");
    println!("{series} series in {seconds:.2} s wall");
}

fn main() {
    let arguments = arguments();
    let params: Nb2Params = toml_params(&arguments.settings);
    let cross = ScoringPlan::CrossFitted { block: 4 };
    let spec = |weeks| Spec { weeks, keys: arguments.keys, events_per_key_year: 1.0, level: None };
    match arguments.case.as_str() {
        "year" => {
            compare(&arguments, &params, |seed| weekly::years(seed, spec(52)), cross, 0..52, false)
        }
        "newest" => {
            let plan = ScoringPlan::Split { train_len: 108 };
            compare(
                &arguments,
                &params,
                |seed| weekly::years(seed, spec(156)),
                plan,
                108..156,
                false,
            );
        }
        "noufaily" => {
            let first = NOUFAILY_WEEKS - NOUFAILY_NEWEST;
            let plan = ScoringPlan::Split { train_len: first };
            compare(&arguments, &params, weekly::noufaily, plan, first..NOUFAILY_WEEKS, true);
        }
        "clean" => {
            for weeks in [52, 104, 260] {
                println!("{weeks} weeks without events");
                let spec = Spec { events_per_key_year: 0.0, ..spec(weeks) };
                compare(
                    &arguments,
                    &params,
                    |seed| weekly::years(seed, spec),
                    cross,
                    0..weeks,
                    false,
                );
            }
        }
        "clean_newest" => {
            let plan = ScoringPlan::Split { train_len: 108 };
            let spec = Spec { events_per_key_year: 0.0, ..spec(156) };
            compare(&arguments, &params, |seed| weekly::years(seed, spec), plan, 108..156, false);
        }
        "speed" => speed(&arguments, spec(52)),
        "bulk" => bulk(&arguments, &params, spec(52)),
        other => panic!("unknown case {other}"),
    }
}

/// CPU seconds of all threads of this process so far (user and system, in ticks of 10 ms).
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let after_name = stat.rsplit(')').next().expect("a name");
    after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|n| n.parse::<f64>().expect("ticks"))
        .sum::<f64>()
        / 100.0
}

/// Series of a year per CPU-second: plain fits, and everything.
fn speed(arguments: &Arguments, spec: Spec) {
    let plain = Nb2Params {
        scoring: Scoring::InSample,
        mask_rounds: 0,
        pooling: false,
        fourier_k: FourierK::Fixed(1),
        event_scan: false,
        ..Nb2Params::default()
    };
    for (name, params) in [("plain fits", plain), ("the full pipeline", Nb2Params::default())] {
        let (mut cpu, mut wall, mut series) = (0.0, 0.0, 0);
        for seed in arguments.seeds.clone() {
            let keys = weekly::years(seed, spec);
            let panel = weekly::panel(&keys);
            let nb2 = Nb2::new(params.clone()).expect("valid parameters");
            let (mask, context) = (FitMask::all(&panel), FitContext::new(seed));
            let (start, clock) = (cpu_seconds(), Instant::now());
            if name == "plain fits" {
                nb2.fit(&panel, &mask, &context).expect("a fit");
            } else {
                let plan = ScoringPlan::CrossFitted { block: 4 };
                nb2.fit_score(&panel, &mask, plan, &context).expect("a fit");
            }
            cpu += cpu_seconds() - start;
            wall += clock.elapsed().as_secs_f64();
            series += keys.len();
        }
        println!(
            "{name}: {series} series, {:.0} per CPU-second, {wall:.1} s wall",
            series as f64 / cpu
        );
    }
    println!("{}", peak_memory());
}

fn peak_memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default().to_string()
}

/// More series than one panel should hold: panel after panel, each with its own pairs, so that no
/// more than one is in memory. Data are made outside the timing.
fn bulk(arguments: &Arguments, params: &Nb2Params, spec: Spec) {
    let (mut cpu, mut wall, mut series, mut flagged) = (0.0, 0.0, 0, 0);
    for seed in arguments.seeds.clone() {
        let keys = weekly::years(seed, spec);
        let (start, clock) = (cpu_seconds(), Instant::now());
        let scores = scored(&keys, params, ScoringPlan::CrossFitted { block: 4 }, seed);
        cpu += cpu_seconds() - start;
        wall += clock.elapsed().as_secs_f64();
        series += keys.len();
        flagged += scores.score.iter().filter(|score| **score >= 2.0).count();
    }
    println!(
        "{series} series of a year, {flagged} weeks with p <= 0.01: {wall:.0} s wall, {cpu:.0} CPU-seconds ({:.0} series each)",
        series as f64 / cpu
    );
    println!("{}", peak_memory());
}

fn toml_params(settings: &str) -> Nb2Params {
    toml::from_str(settings).unwrap_or_else(|error| panic!("{error}"))
}
