//! Labelled tables: rows without time, judged by the models of records.
//!
//! Each model is fitted to all rows of a table, unlabelled, and scores them, as the tables' publishers
//! do; sizes and percentiles are the defaults of `[records]`. The random cut forest and the local
//! outlier factor see standardised columns. Figures are means over [`SEEDS`] seeds.

use std::{fs, path::Path, time::Instant};

use anomalist::{
    config::RecordsSection,
    detectors::{isolation_forest, lof::factor::LocalOutlierFactor, random_cut_forest},
    evaluation::{auc_pr, auc_roc},
    math::{random::stream, robust::quantile},
};
use ndarray::{Array2, ArrayView2, Axis};
use rand::RngExt;

use crate::sets::Columns;

pub const FOLDER: &str = "tabular";
pub const SCORERS: [&str; 5] =
    ["isolation_forest", "random_cut_forest", "lof", "z-score", "random"];
const SEEDS: u64 = 3;

/// A table with the figures of [`SCORERS`].
pub struct TableResult {
    pub name: String,
    pub rows: usize,
    pub columns: usize,
    /// Share of rows that are labelled anomalous.
    pub share: f64,
    pub figures: Vec<Figures>,
    pub secs: f64,
}

/// One scorer's figures.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    pub auc_pr: f64,
    pub auc_roc: f64,
    pub f1: f64,
    pub fpr: f64,
    /// Seconds of fitting and scoring on all threads, of one seed.
    pub secs: f64,
}

impl Figures {
    /// Figures of scores, rows above the percentile being flagged.
    fn new(scores: &[f64], labels: &[bool], percentile: f64) -> Self {
        let mut scored: Vec<(f64, bool)> =
            scores.iter().copied().zip(labels.iter().copied()).collect();
        scored.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        let threshold = quantile(&mut scores.to_vec(), percentile / 100.0).unwrap_or(f64::INFINITY);
        let flagged = |truth| scored.iter().filter(|(x, t)| *x > threshold && *t == truth).count();
        let (hits, alarms) = (flagged(true) as f64, flagged(false) as f64);
        let anomalies = labels.iter().filter(|label| **label).count() as f64;
        Self {
            auc_pr: auc_pr(&scored).unwrap_or(0.0),
            auc_roc: auc_roc(&scored).unwrap_or(0.0),
            f1: 2.0 * hits / (hits + alarms + anomalies),
            fpr: alarms / (labels.len() as f64 - anomalies),
            secs: 0.0,
        }
    }

    pub fn mean(all: impl Iterator<Item = Self>) -> Self {
        let (mut sum, mut n) = (Self::default(), 0.0);
        for one in all {
            sum.auc_pr += one.auc_pr;
            sum.auc_roc += one.auc_roc;
            sum.f1 += one.f1;
            sum.fpr += one.fpr;
            sum.secs += one.secs;
            n += 1.0;
        }
        Self {
            auc_pr: sum.auc_pr / n,
            auc_roc: sum.auc_roc / n,
            f1: sum.f1 / n,
            fpr: sum.fpr / n,
            secs: sum.secs / n,
        }
    }
}

/// Every labelled table of the folder, in the order of their names.
pub fn run(dir: &Path, notes: &mut Vec<String>) -> Result<Vec<TableResult>, String> {
    let Ok(entries) = fs::read_dir(dir.join(FOLDER)) else {
        notes.push(format!("no folder `{FOLDER}`"));
        return Ok(Vec::new());
    };
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    let mut results = Vec::new();
    for path in paths {
        if !path.extension().is_some_and(|e| e == "parquet" || e == "csv") {
            continue;
        }
        if let Some((rows, labels)) = Columns::read(&path)?.table() {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let result = run_table(name, rows.view(), &labels);
            eprintln!(
                "{FOLDER:12} {:28} {:7} rows {:6.1} s",
                result.name, result.rows, result.secs
            );
            results.push(result);
        }
    }
    Ok(results)
}

fn run_table(name: String, rows: ArrayView2<f64>, labels: &[bool]) -> TableResult {
    let since = Instant::now();
    let standard = standardised(rows);
    let runs: Vec<Vec<Figures>> =
        (0..SEEDS).map(|seed| one_seed(rows, standard.view(), labels, seed)).collect();
    TableResult {
        name,
        rows: rows.nrows(),
        columns: rows.ncols(),
        share: labels.iter().filter(|label| **label).count() as f64 / labels.len() as f64,
        figures: (0..SCORERS.len()).map(|k| Figures::mean(runs.iter().map(|run| run[k]))).collect(),
        secs: since.elapsed().as_secs_f64(),
    }
}

/// The figures of [`SCORERS`]; not a number where a model cannot be fitted.
fn one_seed(
    rows: ArrayView2<f64>,
    standard: ArrayView2<f64>,
    labels: &[bool],
    seed: u64,
) -> Vec<Figures> {
    let RecordsSection { iforest, rcf, lof, .. } = RecordsSection::default();
    let timed = |percentile: f64, score: &dyn Fn() -> Option<Vec<f64>>| {
        let since = Instant::now();
        let scores = score().unwrap_or_else(|| vec![f64::NAN; labels.len()]);
        let secs = since.elapsed().as_secs_f64();
        Figures { secs, ..Figures::new(&scores, labels, percentile) }
    };
    let isolation = || {
        let fit = isolation_forest::forest::Forest::fit;
        Some(fit(rows, iforest.trees, iforest.sample_rows, seed)?.score(rows))
    };
    let random_cut = || {
        let fit = random_cut_forest::forest::Forest::fit;
        Some(fit(standard, rcf.trees, rcf.sample_rows, seed)?.score(standard))
    };
    let outlier_factor = || {
        let wanted = lof.reference_rows.min(standard.nrows());
        let places: Vec<usize> = (0..wanted).map(|i| i * standard.nrows() / wanted).collect();
        let reference = standard.select(Axis(0), &places);
        let fit = LocalOutlierFactor::fit_score;
        let (fitted, own) = fit(reference.view(), lof.neighbours.min(wanted / 2))?;
        let mut scores = fitted.score(standard);
        places.into_iter().zip(own).for_each(|(place, score)| scores[place] = score);
        Some(scores)
    };
    let z_score = || {
        let largest =
            |row: ndarray::ArrayView1<f64>| row.fold(0.0, |most: f64, x| most.max(x.abs()));
        Some(standard.outer_iter().map(largest).collect())
    };
    let mut rng = stream(seed, "quality tables", 0);
    let noise: Vec<f64> = labels.iter().map(|_| rng.random::<f64>()).collect();
    vec![
        timed(iforest.threshold_percentile, &isolation),
        timed(rcf.threshold_percentile, &random_cut),
        timed(lof.threshold_percentile, &outlier_factor),
        timed(iforest.threshold_percentile, &z_score),
        timed(iforest.threshold_percentile, &|| Some(noise.clone())),
    ]
}

/// Columns of mean 0 and variance 1; a constant column is all 0.
fn standardised(rows: ArrayView2<f64>) -> Array2<f64> {
    let mut out = rows.to_owned();
    for mut column in out.columns_mut() {
        let mean = column.mean().unwrap_or(0.0);
        let sd = column.std(0.0);
        column.mapv_inplace(|x| if sd > 0.0 { (x - mean) / sd } else { 0.0 });
    }
    out
}
