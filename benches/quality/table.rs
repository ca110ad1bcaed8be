//! The result as Markdown.

use std::{collections::BTreeSet, fmt::Write as _};

use crate::{
    hourly::{self, HourlyResult},
    measure::Tally,
    score::SetResult,
    sets::Kind,
    tables::{FOLDER, Figures, SCORERS, TableResult},
};

#[derive(Default)]
pub struct Report {
    pub sets: Vec<SetResult>,
    pub hourly: Vec<HourlyResult>,
    pub tables: Vec<TableResult>,
    pub notes: Vec<String>,
    pub secs: f64,
}

impl Report {
    pub fn markdown(&self) -> String {
        let mut out = String::new();
        for kind in Kind::ALL {
            let sets: Vec<&SetResult> = self.sets.iter().filter(|set| set.kind == kind).collect();
            if sets.is_empty() {
                continue;
            }
            let name = kind.folder();
            let ranking =
                |t: &Tally| format!("{:.3} / {:.3}", t.mean(|f| f.vus_pr), t.mean(|f| f.auc_pr));
            table(&mut out, &format!("{name}: VUS-PR / AUC-PR"), &sets, &ranking);
            table(&mut out, &format!("{name}: event F1 / FPR"), &sets, &decision);
        }
        hourly_tables(&mut out, &self.hourly);
        tables(&mut out, &self.tables);
        for note in &self.notes {
            let _ = writeln!(out, "{note}.");
        }
        let _ = writeln!(
            out,
            "\nWall time {:.0} s; CPU seconds of fitting and scoring by detector: {}.",
            self.secs,
            self.timings()
        );
        for failure in self.sets.iter().flat_map(|set| &set.failures) {
            let _ = writeln!(out, "Failed: {failure}.");
        }
        out
    }

    fn timings(&self) -> String {
        let mut totals: Vec<(String, f64)> = Vec::new();
        let hourly = self.hourly.iter().map(|result| &result.set);
        for (name, tally) in self.sets.iter().chain(hourly).flat_map(|set| &set.scorers) {
            match totals.iter_mut().find(|(known, _)| known == name) {
                Some((_, secs)) => *secs += tally.secs,
                None => totals.push((name.clone(), tally.secs)),
            }
        }
        let shown = totals.iter().filter(|(_, secs)| *secs > 0.0);
        shown.map(|(name, secs)| format!("{name} {secs:.0}")).collect::<Vec<_>>().join(", ")
    }
}

fn table(out: &mut String, title: &str, sets: &[&SetResult], cell: &dyn Fn(&Tally) -> String) {
    let Some(first) = sets.first() else { return };
    let names: Vec<String> = first.scorers.iter().map(|(name, _)| name.replace('_', " ")).collect();
    let _ = writeln!(out, "| {title} | series scored (of) | {} |", names.join(" | "));
    let _ = writeln!(out, "|{}", "---|".repeat(names.len() + 2));
    for set in sets {
        // The baselines run on every series.
        let scored = set.scorers.iter().map(|(_, t)| t.scored_series()).fold(0, usize::max);
        let cells: Vec<String> = set
            .scorers
            .iter()
            .map(|(_, tally)| {
                if tally.scored_series() == 0 {
                    return "–".into();
                }
                let note = if tally.failed > 0 {
                    format!(" ({} failed)", tally.failed)
                } else {
                    String::new()
                };
                cell(tally) + &note
            })
            .collect();
        let _ =
            writeln!(out, "| {} | {scored} ({}) | {} |", set.name, set.n_series, cells.join(" | "));
    }
    out.push('\n');
}

fn decision(tally: &Tally) -> String {
    format!("{:.3} / {:.4}", tally.event_f1(), tally.fpr())
}

/// Injected anomalies: ranking, decisions, what was found by kind, and how much there was.
fn hourly_tables(out: &mut String, found: &[HourlyResult]) {
    let Some(first) = found.first() else { return };
    let sets: Vec<&SetResult> = found.iter().map(|result| &result.set).collect();
    let ranking = |t: &Tally| format!("{:.3} / {:.3}", t.mean(|f| f.pod), t.mean(|f| f.vus_pr));
    let folder = hourly::FOLDER;
    table(out, &format!("{folder}: POD at FPR .003 / VUS-PR"), &sets, &ranking);
    table(out, &format!("{folder}: event F1 / FPR"), &sets, &decision);
    let scorers: Vec<&String> = first.set.scorers.iter().map(|(name, _)| name).collect();
    let names: Vec<String> = scorers.iter().map(|name| name.replace('_', " ")).collect();
    let _ = writeln!(out, "| {folder}: found at FPR .003 | injected | {} |", names.join(" | "));
    let _ = writeln!(out, "|{}", "---|".repeat(names.len() + 2));
    for result in found {
        let kinds: BTreeSet<_> = result.by_kind.keys().map(|(_, kind)| *kind).collect();
        for kind in kinds {
            let of = |name: &str| result.by_kind.get(&(name.to_string(), kind)).copied();
            let share = |(found, all): (usize, usize)| format!("{:.3}", found as f64 / all as f64);
            let cells: Vec<String> =
                scorers.iter().map(|name| of(name).map_or("–".into(), share)).collect();
            let injected = of(scorers[0]).map_or(0, |(_, all)| all);
            let _ = writeln!(
                out,
                "| {}, {kind} | {injected} | {} |",
                result.set.name,
                cells.join(" | ")
            );
        }
    }
    out.push('\n');
    for HourlyResult { set, hours, seeds, secs, .. } in found {
        let events = set.scorers.first().map_or(0, |(_, tally)| tally.events());
        let (name, n_series) = (&set.name, set.n_series);
        let _ = writeln!(
            out,
            "`{name}`: {n_series} series of {hours} hours, {seeds} seeds, {events} injections, {secs:.0} s."
        );
    }
    out.push('\n');
}

/// The tables, their mean, and the seconds that each scorer took.
fn tables(out: &mut String, found: &[TableResult]) {
    if found.is_empty() {
        return;
    }
    let names = SCORERS.map(|name| name.replace('_', " "));
    let title = format!("{FOLDER}: AUC-PR / AUC-ROC, F1 / FPR");
    let _ = writeln!(out, "| {title} | rows × columns | anomalous | {} |", names.join(" | "));
    let _ = writeln!(out, "|{}", "---|".repeat(names.len() + 3));
    let cell =
        |f: &Figures| format!("{:.3} / {:.3}, {:.3} / {:.3}", f.auc_pr, f.auc_roc, f.f1, f.fpr);
    for table in found {
        let cells: Vec<String> = table.figures.iter().map(cell).collect();
        let size = format!("{} × {}", table.rows, table.columns);
        let share = 100.0 * table.share;
        let _ = writeln!(out, "| {} | {size} | {share:.2} % | {} |", table.name, cells.join(" | "));
    }
    let means: Vec<Figures> = (0..names.len())
        .map(|k| Figures::mean(found.iter().map(|table| table.figures[k])))
        .collect();
    let cells: Vec<String> = means.iter().map(cell).collect();
    let _ = writeln!(out, "| mean of {} tables | | | {} |", found.len(), cells.join(" | "));
    let total = |k: usize| found.iter().map(|table| table.figures[k].secs).sum::<f64>();
    let secs: Vec<String> = (0..names.len()).map(|k| format!("{:.1} s", total(k))).collect();
    let _ = writeln!(out, "| time of one seed | | | {} |\n", secs.join(" | "));
}
