//! The result as Markdown.

use std::fmt::Write as _;

use crate::{
    measure::Tally,
    score::SetResult,
    sets::Kind,
    tables::{FOLDER, Figures, SCORERS, TableResult},
};

#[derive(Default)]
pub struct Report {
    pub sets: Vec<SetResult>,
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
            let ranking = |t: &Tally| format!("{:.3} / {:.3}", t.vus_pr(), t.auc_pr());
            let decision = |t: &Tally| format!("{:.3} / {:.4}", t.event_f1(), t.fpr());
            table(&mut out, &format!("{name}: VUS-PR / AUC-PR"), &sets, &ranking);
            table(&mut out, &format!("{name}: event F1 / FPR"), &sets, &decision);
        }
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
        for (name, tally) in self.sets.iter().flat_map(|set| &set.scorers) {
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
        let scored = set.scorers.iter().map(|(_, t)| t.scored_series).fold(0, usize::max);
        let scored = match set.scorers.iter().find(|(name, _)| name == "z-score") {
            Some((_, tally)) => tally.scored_series,
            None => scored,
        };
        let cells: Vec<String> = set
            .scorers
            .iter()
            .map(|(_, tally)| {
                if tally.scored_series == 0 {
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
