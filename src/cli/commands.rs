//! One function per command.

use std::{io::Write, path::Path, sync::Arc};

use super::{
    CliError, Outcome,
    args::{
        ChartFormatArg, Cli, Command, ConfigArgs, ConfigCommand, DataFormat, EvaluateArgs,
        GenerateArgs, GenerateKind, InjectArgs, RecordModelArg, ReportArgs, SeverityArg,
        parse_sets,
    },
    compare, evaluation_text, inject_text, interrupt,
    progress::Bars,
    text,
};
use crate::{
    config::{Config, Override, PRESETS, Preset, RecordOutput},
    device,
    pipeline::{self, ChartFormat, EvaluateJob, Job, Progress, RunSummary},
};

/// How results are shown.
#[derive(Clone, Copy)]
struct Show {
    json: bool,
    quiet: bool,
}

pub fn dispatch(cli: Cli) -> Result<Outcome, CliError> {
    let show = Show { json: cli.json, quiet: cli.quiet };
    match cli.command {
        Command::Run(args) => {
            let summary = pipeline::run(&job(&args.config, "", show)?)?;
            finish(&summary, args.fail_on, show)
        }
        Command::Train(args) => {
            let summary = pipeline::train(&job(&args.config, "-checkpoint", show)?)?;
            finish(&summary, None, show)
        }
        Command::Detect(args) => {
            let mut job = job(&args.config, "-detect", show)?;
            if let Some(model) = args.model {
                choose_model(&mut job.config, model)?;
            }
            if job.config.source.path.is_none() {
                return Err(CliError::Usage(
                    "detect needs data to score: give --input PATH".into(),
                ));
            }
            let summary = pipeline::detect(&job, &args.checkpoint, args.allow_unready)?;
            finish(&summary, args.fail_on, show)
        }
        Command::Inject(args) => inject(args, show),
        Command::Generate(args) => generate(&args, show),
        Command::Evaluate(args) => evaluate(&args, show),
        Command::Report(args) => report(&args, show),
        Command::Compare(args) => compare::run(&args, show.json, show.quiet),
        Command::Devices => devices(show),
        Command::Config(ConfigCommand::Check { config }) => check(&config, show),
        Command::Config(ConfigCommand::Show { preset }) => show_preset(preset.as_deref(), show),
    }
}

/// The config that the arguments name: a file, or else a shipped one by name.
fn config(args: &ConfigArgs) -> Result<Config, CliError> {
    let overrides = args.overrides().map_err(CliError::Usage)?;
    let mut config = load(&args.config, &overrides)?;
    // Whoever asks for another seed expects other generated data too.
    if let Some(seed) = args.seed {
        if let Some(spec) = &mut config.generate.weekly {
            spec.seed = seed;
        }
        if let Some(spec) = &mut config.generate.funnel {
            spec.seed = seed;
        }
        if let Some(spec) = &mut config.generate.records {
            spec.seed = seed;
        }
    }
    Ok(config)
}

/// `--model`, which is about records alone.
fn choose_model(config: &mut Config, model: RecordModelArg) -> Result<(), CliError> {
    let Some(section) = &mut config.records else {
        return Err(CliError::Usage(
            "--model is about records: name a config with a [records] table".into(),
        ));
    };
    section.output = match model {
        RecordModelArg::Ensemble => RecordOutput::Ensemble,
        RecordModelArg::Iforest => RecordOutput::Iforest,
        RecordModelArg::Rcf => RecordOutput::Rcf,
        RecordModelArg::Lof => RecordOutput::Lof,
    };
    Ok(())
}

fn load(name: &str, overrides: &[Override]) -> Result<Config, CliError> {
    let path = Path::new(name);
    match Preset::find(name).filter(|_| !path.is_file()) {
        Some(preset) => {
            // A shipped config reads the sample data beside it, wherever `configs` is.
            let base = Path::new("configs");
            Ok(Config::parse(preset.text, preset.name, base, overrides)?)
        }
        None => Ok(Config::load(path, overrides)?),
    }
}

/// `suffix` tells the default folders of the commands apart.
fn job(args: &ConfigArgs, suffix: &str, show: Show) -> Result<Job, CliError> {
    let config = config(args)?;
    let out = args.out.clone().unwrap_or_else(|| config.default_out(suffix));
    Ok(Job { config, out, progress: Arc::new(Bars::new(show.quiet)), cancelled: interrupt::flag() })
}

fn finish(
    summary: &RunSummary,
    fail_on: Option<SeverityArg>,
    show: Show,
) -> Result<Outcome, CliError> {
    if show.json {
        print_json(summary)?;
    } else {
        print(&text::summary(summary, show.quiet))?;
    }
    let found = fail_on.is_some_and(|severity| text::has_at_least(summary, severity.as_str()));
    Ok(if found { Outcome::Found } else { Outcome::Done })
}

fn inject(mut args: InjectArgs, show: Show) -> Result<Outcome, CliError> {
    if let Some(repeats) = args.repeats {
        args.config.set.push(format!("inject.repeats={repeats}"));
    }
    let summary = pipeline::inject(&job(&args.config, "-inject", show)?)?;
    if show.json {
        print_json(&summary)?;
    } else {
        print(&inject_text::summary(&summary, show.quiet))?;
    }
    Ok(Outcome::Done)
}

fn generate(args: &GenerateArgs, show: Show) -> Result<Outcome, CliError> {
    let (table, config) = match args.kind {
        GenerateKind::Weekly => ("generate.weekly", "[generate.weekly]\n"),
        GenerateKind::Funnel => ("generate.funnel", "[generate.funnel]\n"),
        GenerateKind::Records => ("generate.records", "[records]\n[generate.records]\n"),
    };
    let mut overrides: Vec<Override> = parse_sets(&args.set).map_err(CliError::Usage)?;
    for entry in &mut overrides {
        entry.key = format!("{table}.{}", entry.key);
    }
    let wrong_kind = |option: &str| {
        CliError::Usage(format!("{option} is not an option of this kind: see generate --help"))
    };
    for (option, value, kind) in [
        ("weeks", args.weeks, GenerateKind::Weekly),
        ("keys", args.keys, GenerateKind::Weekly),
        ("brands", args.brands, GenerateKind::Funnel),
        ("days", args.days, GenerateKind::Funnel),
        ("rows", args.rows, GenerateKind::Records),
    ] {
        let Some(value) = value else { continue };
        if kind != args.kind {
            return Err(wrong_kind(&format!("--{option}")));
        }
        overrides.push(Override {
            key: format!("{table}.{option}"),
            value: value.to_string(),
            typed: format!("--{option} {value}"),
        });
    }
    overrides.push(Override {
        key: format!("{table}.seed"),
        value: args.seed.to_string(),
        typed: format!("--seed {}", args.seed),
    });
    let config = Config::parse(config, "generate", Path::new(""), &overrides)?;
    let extension = match args.format {
        DataFormat::Csv => "csv",
        DataFormat::Parquet => "parquet",
    };
    let bars = Bars::new(show.quiet);
    let (files, summary) = pipeline::generate(&config, &args.out, extension, &bars)?;
    bars.finish();
    if show.json {
        print_json(&serde_json::json!({
            "data": files.data, "labels": files.labels, "known_events": files.known_events,
            "rows": summary.rows, "events": summary.events.values().sum::<usize>(),
        }))?;
    } else {
        let preset = match args.kind {
            GenerateKind::Weekly => "weekly",
            GenerateKind::Funnel => "funnel",
            GenerateKind::Records => "records",
        };
        let mut lines = format!(
            "{} rows in {}\n{} labelled anomalies in {}\n",
            summary.rows,
            files.data.display(),
            summary.events.values().sum::<usize>(),
            files.labels.display()
        );
        let mut command = format!(
            "anomalist run {preset} --input {} --labels {}",
            files.data.display(),
            files.labels.display()
        );
        if let Some(events) = &files.known_events {
            lines.push_str(&format!("known events in {}\n", events.display()));
            command.push_str(&format!(" --known-events {}", events.display()));
        }
        print(&format!("{lines}next: {command}\n"))?;
    }
    Ok(Outcome::Done)
}

fn report(args: &ReportArgs, show: Show) -> Result<Outcome, CliError> {
    let format = args.format.map(chart_format);
    let bars = Bars::new(show.quiet);
    let page = pipeline::report(&args.run_dir, format, args.top, &bars)?;
    if show.json {
        print_json(&serde_json::json!({ "report": page }))?;
    } else {
        print(&format!("{}\n", page.display()))?;
    }
    Ok(Outcome::Done)
}

fn chart_format(format: ChartFormatArg) -> ChartFormat {
    match format {
        ChartFormatArg::Png => ChartFormat::Png,
        ChartFormatArg::Svg => ChartFormat::Svg,
        ChartFormatArg::Both => ChartFormat::Both,
    }
}

fn evaluate(args: &EvaluateArgs, show: Show) -> Result<Outcome, CliError> {
    let metrics = pipeline::evaluate(&EvaluateJob {
        run_dir: args.run_dir.clone(),
        labels: args.labels.clone(),
        out: args.out.clone(),
        format: args.format.map(chart_format).unwrap_or_default(),
    })?;
    if show.json {
        print_json(&metrics)?;
    } else {
        print(&evaluation_text::metrics(&metrics))?;
    }
    Ok(Outcome::Done)
}

fn devices(show: Show) -> Result<Outcome, CliError> {
    let listing = device::list();
    if show.json {
        print_json(&text::devices_json(&listing))?;
    } else {
        print(&text::devices(&listing))?;
    }
    Ok(Outcome::Done)
}

fn check(args: &ConfigArgs, show: Show) -> Result<Outcome, CliError> {
    let config = config(args)?;
    if show.json {
        print_json(&config)?;
    } else {
        print(&format!("{}: no problem found\n", args.config))?;
    }
    Ok(Outcome::Done)
}

fn show_preset(name: Option<&str>, show: Show) -> Result<Outcome, CliError> {
    let names: Vec<&str> = PRESETS.iter().map(|preset| preset.name).collect();
    match name {
        None if show.json => print_json(&names)?,
        None => print(&format!("{}\n", names.join("\n")))?,
        Some(name) => {
            let preset = Preset::find(name).ok_or_else(|| {
                CliError::Usage(format!("no config `{name}` is shipped: take {}", names.join(", ")))
            })?;
            print(preset.text)?;
        }
    }
    Ok(Outcome::Done)
}

pub(super) fn print(text: &str) -> Result<(), CliError> {
    Ok(std::io::stdout().lock().write_all(text.as_bytes())?)
}

pub(super) fn print_json<T: serde::Serialize>(value: &T) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(value).map_err(std::io::Error::from)?;
    print(&format!("{text}\n"))
}
