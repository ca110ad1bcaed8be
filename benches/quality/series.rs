//! The figures of every series, for paired comparisons.

use std::{collections::BTreeMap, path::Path};

use crate::{hourly, score::SetResult, table::Report};

const HEADER: [&str; 7] = ["kind", "set", "series", "repeat", "scorer", "figure", "value"];

/// Writes one line a series, scorer and figure. `repeat` numbers the lines of a series that comes more
/// than once: the random baseline's draws, the seeds of injections.
pub fn write(path: &Path, report: &Report) -> Result<(), csv::Error> {
    let mut writer = csv::Writer::from_path(path)?;
    writer.write_record(HEADER)?;
    for set in &report.sets {
        write_set(&mut writer, set.kind.folder(), set)?;
    }
    for result in &report.hourly {
        write_set(&mut writer, hourly::FOLDER, &result.set)?;
    }
    writer.flush()?;
    Ok(())
}

fn write_set(
    writer: &mut csv::Writer<std::fs::File>,
    kind: &str,
    set: &SetResult,
) -> Result<(), csv::Error> {
    for (scorer, tally) in &set.scorers {
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        for (series, figures) in &tally.rows {
            let repeat = seen.entry(series).or_default();
            for (figure, value) in figures.named() {
                writer.write_record([
                    kind,
                    &set.name,
                    series,
                    &repeat.to_string(),
                    scorer,
                    figure,
                    &format!("{value:.6}"),
                ])?;
            }
            *repeat += 1;
        }
    }
    Ok(())
}
