//! One config per kind of data: the members that the shipped config of that kind has, and others of
//! weight 0, which are measured and not heard. Nothing is tuned per set or series; the sets that
//! defaults were chosen on are named in `RESULTS.md`. Where an LSTM setting differs from a shipped config
//! it is for time: few epochs.

use crate::sets::Kind;

/// The config of a kind, without source, level and metrics.
pub fn of(kind: Kind) -> &'static str {
    match kind {
        Kind::Univariate => UNIVARIATE,
        Kind::Multivariate => MULTIVARIATE,
        Kind::Weekly => WEEKLY,
    }
}

const UNIVARIATE: &str = r#"
name = "quality"
[source]
path = "read by the bench"
[split]
plan = "split"
[ensemble]
members = ["seasonal_profile", "lstm_autoencoder", "subsequence_pca", "zscore", "spectral_residual", "change_points", "prophet", "isolation_forest", "random_cut_forest", "lof", "rolling"]
weights = { zscore = 0, spectral_residual = 0, change_points = 0, prophet = 0, isolation_forest = 0, random_cut_forest = 0, lof = 0, rolling = 0 }
[decision]
level = 0.99
[lstm_autoencoder]
window_steps = 48
hidden = 32
encoding = 16
epochs = 8
max_windows_per_epoch = 1024
"#;

const MULTIVARIATE: &str = r#"
name = "quality"
[source]
path = "read by the bench"
[split]
plan = "split"
[ensemble]
members = ["seasonal_profile", "lstm_autoencoder", "subsequence_pca", "zscore", "spectral_residual", "change_points", "isolation_forest", "random_cut_forest", "lof"]
weights = { zscore = 0, spectral_residual = 0, change_points = 0, isolation_forest = 0, random_cut_forest = 0, lof = 0 }
[decision]
level = 0.99
[lstm_autoencoder]
window_steps = 24
hidden = 32
encoding = 16
epochs = 5
max_windows_per_epoch = 1024
"#;

const WEEKLY: &str = r#"
name = "quality"
[source]
path = "read by the bench"
[split]
plan = "split"
[ensemble]
members = ["nb2", "seasonal_profile", "lstm_autoencoder", "zscore", "change_points", "rolling"]
weights = { nb2 = 8, seasonal_profile = 2, zscore = 0, change_points = 0, rolling = 0 }
[ensemble.combination]
strategy = "average"
[decision]
level = 0.99
[lstm_autoencoder]
window_steps = 12
hidden = 16
encoding = 8
"#;

/// Of the hourly panels, which have no [`Kind`].
pub const HOURLY: &str = r#"
name = "quality"
[source]
path = "read by the bench"
[split]
plan = "split"
[ensemble]
members = ["seasonal_profile", "lstm_autoencoder"]
[decision]
level = 0.997
[lstm_autoencoder]
window_steps = 168
hidden = 32
encoding = 16
epochs = 8
max_windows_per_epoch = 1024
"#;
