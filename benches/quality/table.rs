//! The result as Markdown.

use std::fmt::Write as _;

use crate::{measure::Tally, score::SetResult, sets::Kind};

#[derive(Default)]
pub struct Report {
    pub sets: Vec<SetResult>,
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
        out.push_str("Tables (`tabular`): no detector of this project takes tables yet.\n");
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
