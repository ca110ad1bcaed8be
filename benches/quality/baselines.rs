//! Plain scorers that a detector has to beat. Missing values are carried forward.

use anomalist::math::{
    fourier::{Complex, transform},
    random::stream,
};
use rand::RngExt;

use crate::{
    pca,
    sets::{Kind, Series, Set},
};

/// Name and scores by row, higher = more anomalous.
pub type Baseline = (&'static str, Vec<f64>);

/// Share of the training part's scores below a baseline's threshold.
const QUANTILE: f64 = 0.99;

/// The baselines' names, in the order of the table.
pub const NAMES: [&str; 5] =
    ["plain z-score", "plain moving average", "plain spectral residual", "plain PCA", RANDOM];
/// The one baseline that is drawn.
pub const RANDOM: &str = "random";
/// How often it is drawn.
pub const DRAWS: u64 = 3;

/// Every baseline on a series; the random one comes once a draw.
pub fn all(set: &Set, series: &Series) -> Vec<Baseline> {
    let columns = filled(series);
    let m = series.train_rows;
    let (width, window) = match (set.kind, series.rows.len()) {
        (Kind::Weekly, _) => (8, 8),
        (_, 0..500) => (8, 24),
        _ => (24, 48),
    };
    let mut found = vec![
        (NAMES[0], largest(&columns, |x| z_score(x, m))),
        (NAMES[1], largest(&columns, |x| moving_average(x, m, width))),
        (NAMES[2], largest(&columns, |x| spectral_residual(x, m))),
        (NAMES[3], pca::scores(&columns, m, window)),
    ];
    found.extend((0..DRAWS).map(|draw| {
        let mut rng = stream(draw, &series.id, 0);
        (RANDOM, series.rows.iter().map(|_| rng.random::<f64>()).collect())
    }));
    found
}

/// Rows whose score lies above the [`QUANTILE`] of the training rows'.
pub fn flags(series: &Series, score: &[f64]) -> Vec<bool> {
    let mut training = score[..series.train_rows].to_vec();
    training.sort_unstable_by(f64::total_cmp);
    let place = (QUANTILE * training.len() as f64) as usize;
    let threshold = training.get(place).copied().unwrap_or(f64::INFINITY);
    score.iter().map(|s| *s > threshold).collect()
}

/// Metrics as columns without gaps.
fn filled(series: &Series) -> Vec<Vec<f64>> {
    let n_metrics = series.rows.first().map_or(0, Vec::len);
    (0..n_metrics)
        .map(|metric| {
            let first = series.rows.iter().map(|row| row[metric]).find(|x| x.is_finite());
            let mut last = first.unwrap_or(0.0);
            let carry = series.rows.iter().map(|row| {
                if row[metric].is_finite() {
                    last = row[metric];
                }
                last
            });
            carry.collect()
        })
        .collect()
}

/// The largest score of any metric, by row.
fn largest(columns: &[Vec<f64>], score: impl Fn(&[f64]) -> Vec<f64>) -> Vec<f64> {
    let mut found: Vec<f64> = vec![f64::NEG_INFINITY; columns.first().map_or(0, Vec::len)];
    for column in columns {
        found.iter_mut().zip(score(column)).for_each(|(most, x)| *most = most.max(x));
    }
    found
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => 0.5 * (sorted[n / 2 - 1] + sorted[n / 2]),
    }
}

fn deviation(values: &[f64]) -> f64 {
    let n = (values.len() as f64).max(1.0);
    let mean = values.iter().sum::<f64>() / n;
    (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt()
}

/// The median absolute deviation, else the standard deviation, else 1.
fn spread(values: &[f64]) -> f64 {
    let centre = median(values);
    let mad = 1.4826 * median(&values.iter().map(|x| (x - centre).abs()).collect::<Vec<_>>());
    let sd = deviation(values);
    [mad, sd].into_iter().find(|s| *s > 1e-6 * sd.max(1e-3)).unwrap_or(1.0)
}

/// Distance from the training median in robust standard deviations of the training part.
fn z_score(x: &[f64], m: usize) -> Vec<f64> {
    let (centre, scale) = (median(&x[..m]), spread(&x[..m]));
    x.iter().map(|x| (x - centre).abs() / scale).collect()
}

/// Distance from the mean of the `width` rows before, by the same scale of that in training.
fn moving_average(x: &[f64], m: usize, width: usize) -> Vec<f64> {
    let mut sum = 0.0;
    let residuals: Vec<f64> = (0..x.len())
        .map(|t| {
            let n = t.min(width);
            let residual = if n == 0 { 0.0 } else { x[t] - sum / n as f64 };
            sum += x[t];
            if t >= width {
                sum -= x[t - width];
            }
            residual
        })
        .collect();
    let scale = spread(&residuals[..m]);
    residuals.iter().map(|r| r.abs() / scale).collect()
}

/// Ren et al., "Time-Series Anomaly Detection Service at Microsoft", KDD 2019. Sees the whole
/// series, its future too.
fn spectral_residual(x: &[f64], m: usize) -> Vec<f64> {
    const MEAN_OF: usize = 21;
    let n = x.len();
    let mean = x[..m].iter().sum::<f64>() / (m as f64).max(1.0);
    let sd = deviation(&x[..m]);
    let scale = if sd > 0.0 { sd } else { 1.0 };
    let scaled: Vec<Complex> = x.iter().map(|x| ((x - mean) / scale, 0.0)).collect();
    let spectrum = transform(&scaled, -1.0);
    let log: Vec<f64> = spectrum.iter().map(|c| (c.0.hypot(c.1) + 1e-8).ln()).collect();
    let residual: Vec<Complex> = (0..n)
        .map(|k| {
            let around = (log[(k + n - 1) % n] + log[k] + log[(k + 1) % n]) / 3.0;
            let size = (log[k] - around).exp();
            let phase = spectrum[k].1.atan2(spectrum[k].0);
            (size * phase.cos(), size * phase.sin())
        })
        .collect();
    let saliency: Vec<f64> = transform(&residual, 1.0).iter().map(|c| c.0.hypot(c.1)).collect();
    let mut sum = 0.0;
    (0..n)
        .map(|t| {
            let before = t.min(MEAN_OF);
            let usual = if before == 0 { saliency[0] } else { sum / before as f64 };
            sum += saliency[t];
            if t >= MEAN_OF {
                sum -= saliency[t - MEAN_OF];
            }
            (saliency[t] - usual) / usual.max(1e-8)
        })
        .collect()
}
