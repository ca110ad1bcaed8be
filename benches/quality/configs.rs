//! One config per kind of data, settled before the first run and never tuned on these sets. Where
//! they differ from a shipped config it is for time: the LSTM gets few epochs.

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
members = ["seasonal_profile", "lstm_autoencoder", "zscore", "rolling"]
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
members = ["seasonal_profile", "lstm_autoencoder", "zscore"]
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
members = ["nb2", "seasonal_profile", "lstm_autoencoder", "zscore", "rolling"]
weights = { nb2 = 4, seasonal_profile = 2 }
[ensemble.combination]
strategy = "average"
[decision]
level = 0.99
[lstm_autoencoder]
window_steps = 12
hidden = 16
encoding = 8
"#;
