//! How the LSTM is built, trained and scored.

use serde::{Deserialize, Serialize};

use crate::panel::Step;

/// What the network sees of a metric.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// The standardised residual from the series' robust seasonal profile: season and slow level
    /// are gone, so the network learns what is left between hours and metrics.
    #[default]
    SeasonalResidual,
    /// `log(1 + x)` of counts and amounts, other metrics as they are, centred and scaled per series
    /// by the median and the median absolute deviation of its training cells.
    LogScale,
}

/// What the network learns to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// An autoencoder: give the window back through a bottleneck. A point's error is that of the
    /// window that ends with it.
    Reconstruction,
    /// Predict each step from what was known `horizon_steps` before it. Trains and scores several
    /// times faster.
    Forecast,
    /// Two networks: the autoencoder on `input`, and a forecaster on `log_scale`, which has no
    /// profile between it and the data. What one takes for normal the other may not, and a step is
    /// judged by both.
    #[default]
    Both,
}

/// How the errors of several metrics become one number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Distance {
    /// `mahalanobis` up to 8 metrics, `mean_deviation` for more: of many metrics' correlations too
    /// much is chance, and the distance grows along directions that hardly vary.
    #[default]
    Auto,
    /// Mahalanobis' distance, under a correlation drawn towards none by `shrinkage`: breaking a
    /// habit of two metrics is worse than both following it.
    Mahalanobis,
    /// The mean of the metrics' absolute errors, each in its own spread.
    MeanDeviation,
}

/// Metrics up to which [`Distance::Auto`] is Mahalanobis'.
const MAX_CORRELATED: usize = 8;

/// How the LSTM is built, trained and scored.
///
/// | name | default | purpose | range |
/// |---|---|---|---|
/// | `window_steps` | 168 | steps that the network sees at once; for weekly data take 12 | 2 to 4096 |
/// | `hidden` | 64 | width of the outer LSTM layers | 1 to 1024 |
/// | `encoding` | 32 | width of the bottleneck | 1 to 1024 |
/// | `input` | `seasonal_residual` | what the network sees | `seasonal_residual`, `log_scale` |
/// | `objective` | `both` | what it learns to do | `reconstruction`, `forecast`, `both` |
/// | `horizon_steps` | 1 | how far a forecast looks ahead; no use to `reconstruction` | 1 to 4096 |
/// | `epochs` | 50 | passes over the training windows, at most | 1 to 10000 |
/// | `patience_epochs` | 6 | epochs without a better validation loss before it stops | 1 to 10000 |
/// | `batch_windows` | 64 | windows per gradient step | 1 to 65536 |
/// | `max_windows_per_epoch` | 2048 | windows drawn anew for every epoch | 1 to 10 million |
/// | `learning_rate` | 0.001 | step size of Adam | above 0, to 1 |
/// | `gradient_clip` | 1 | largest norm of the gradient by one weight matrix | above 0 |
/// | `validation_share` | 0.1 | newest share of every series' training time that early stopping watches | 0 to 0.5 |
/// | `widths_steps` | none: 1, 3; below an hour 1, 3, 12 | trailing steps whose errors are averaged, the newest counting most; the width at which a step is furthest out counts | up to 8 of 1 to 1000 |
/// | `distance` | `auto` | how the errors of several metrics become one number | `auto`, `mahalanobis`, `mean_deviation` |
/// | `shrinkage` | 0.1 | how far `mahalanobis` draws the correlation of the metrics' errors towards none | 0 to 1 |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LstmParams {
    pub window_steps: usize,
    pub hidden: usize,
    pub encoding: usize,
    pub input: Input,
    pub objective: Objective,
    pub horizon_steps: usize,
    pub epochs: usize,
    pub patience_epochs: usize,
    pub batch_windows: usize,
    pub max_windows_per_epoch: usize,
    pub learning_rate: f64,
    pub gradient_clip: f32,
    pub validation_share: f64,
    /// Empty: derived from the step.
    pub widths_steps: Vec<usize>,
    pub distance: Distance,
    pub shrinkage: f64,
}

impl Default for LstmParams {
    fn default() -> Self {
        Self {
            window_steps: 168,
            hidden: 64,
            encoding: 32,
            input: Input::default(),
            objective: Objective::default(),
            horizon_steps: 1,
            epochs: 50,
            patience_epochs: 6,
            batch_windows: 64,
            max_windows_per_epoch: 2_048,
            learning_rate: 1e-3,
            gradient_clip: 1.0,
            validation_share: 0.1,
            widths_steps: Vec::new(),
            distance: Distance::default(),
            shrinkage: 0.1,
        }
    }
}

/// The widest errors are averaged over, in steps.
pub(super) const MAX_WIDTH: usize = 1_000;

const HOUR_SECS: i64 = 3_600;

/// Widths at most.
const MAX_WIDTHS: usize = 8;

/// A parameter out of its range: its name, its value, what it must be.
pub(super) type Problem = (&'static str, String, &'static str);

impl LstmParams {
    /// Every parameter out of its range, with what it must be.
    pub fn check(&self) -> Vec<(String, String)> {
        let text = |(name, value, expected): Problem| {
            (name.to_string(), format!("is {value}, but must be {expected}"))
        };
        self.problems().into_iter().map(text).collect()
    }

    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut wrong: Vec<Problem> = Vec::new();
        let counts = [
            ("window_steps", self.window_steps, 2, 4_096, "between 2 and 4096"),
            ("hidden", self.hidden, 1, 1_024, "between 1 and 1024"),
            ("encoding", self.encoding, 1, 1_024, "between 1 and 1024"),
            ("horizon_steps", self.horizon_steps, 1, 4_096, "between 1 and 4096"),
            ("epochs", self.epochs, 1, 10_000, "between 1 and 10000"),
            ("patience_epochs", self.patience_epochs, 1, 10_000, "between 1 and 10000"),
            ("batch_windows", self.batch_windows, 1, 65_536, "between 1 and 65536"),
            (
                "max_windows_per_epoch",
                self.max_windows_per_epoch,
                1,
                10_000_000,
                "between 1 and 10000000",
            ),
        ];
        for (name, value, low, high, expected) in counts {
            if !(low..=high).contains(&value) {
                wrong.push((name, value.to_string(), expected));
            }
        }
        // Written so that NaN is out of every range.
        if !(self.learning_rate > 0.0 && self.learning_rate <= 1.0) {
            wrong.push(("learning_rate", self.learning_rate.to_string(), "above 0 and at most 1"));
        }
        if !(self.gradient_clip > 0.0 && self.gradient_clip.is_finite()) {
            wrong.push(("gradient_clip", self.gradient_clip.to_string(), "a number above 0"));
        }
        if !(0.0..=0.5).contains(&self.validation_share) {
            wrong.push((
                "validation_share",
                self.validation_share.to_string(),
                "between 0 and 0.5",
            ));
        }
        if !(0.0..=1.0).contains(&self.shrinkage) {
            wrong.push(("shrinkage", self.shrinkage.to_string(), "between 0 and 1"));
        }
        let widths = &self.widths_steps;
        if widths.len() > MAX_WIDTHS || widths.iter().any(|w| !(1..=MAX_WIDTH).contains(w)) {
            wrong.push((
                "widths_steps",
                format!("{widths:?}"),
                "at most 8 widths of 1 to 1000 steps",
            ));
        }
        wrong
    }

    /// Steps between what the network knows and what it predicts.
    pub(super) fn horizon(&self) -> usize {
        match self.objective {
            Objective::Reconstruction => 0,
            Objective::Forecast | Objective::Both => self.horizon_steps,
        }
    }

    /// The parameters of each of its networks, none of which has [`Objective::Both`].
    pub(super) fn views(&self) -> Vec<Self> {
        match self.objective {
            Objective::Reconstruction | Objective::Forecast => vec![self.clone()],
            Objective::Both => vec![
                Self { objective: Objective::Reconstruction, ..self.clone() },
                Self { objective: Objective::Forecast, input: Input::LogScale, ..self.clone() },
            ],
        }
    }

    /// The distance of so many metrics, never [`Distance::Auto`].
    pub(super) fn distance(&self, metrics: usize) -> Distance {
        match self.distance {
            Distance::Auto if metrics <= MAX_CORRELATED => Distance::Mahalanobis,
            Distance::Auto => Distance::MeanDeviation,
            chosen => chosen,
        }
    }

    /// The widths to average errors over.
    pub(super) fn widths(&self, step: Step) -> Vec<usize> {
        match (self.widths_steps.as_slice(), step) {
            ([], Step::Seconds(secs)) if secs < HOUR_SECS => vec![1, 3, 12],
            ([], _) => vec![1, 3],
            (given, _) => given.to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_in_range_and_survive_a_round_trip() {
        let params = LstmParams::default();
        assert!(params.check().is_empty());
        let json = serde_json::to_string(&params).unwrap();
        assert_eq!(serde_json::from_str::<LstmParams>(&json).unwrap(), params);
        assert!(serde_json::from_str::<LstmParams>("{\"hiden\": 3}").is_err());
    }

    #[test]
    fn both_is_an_autoencoder_and_a_forecaster_of_plain_values() {
        let params = LstmParams { window_steps: 7, ..LstmParams::default() };
        let views = params.views();
        assert_eq!(views.len(), 2);
        assert_eq!(views[0].objective, Objective::Reconstruction);
        assert_eq!(views[0].input, params.input);
        assert_eq!((views[1].objective, views[1].input), (Objective::Forecast, Input::LogScale));
        assert_eq!((views[0].horizon(), views[1].horizon()), (0, params.horizon_steps));
        assert!(views.iter().all(|view| view.window_steps == 7));
        let alone = LstmParams { objective: Objective::Forecast, ..params };
        assert_eq!(alone.views(), [alone]);
    }

    #[test]
    fn widths_and_distance_follow_the_data_unless_they_are_given() {
        let params = LstmParams::default();
        assert_eq!(params.widths(Step::Seconds(60)), [1, 3, 12]);
        assert_eq!(params.widths(Step::HOUR), [1, 3]);
        assert_eq!(params.widths(Step::Week), [1, 3]);
        assert_eq!(params.distance(8), Distance::Mahalanobis);
        assert_eq!(params.distance(9), Distance::MeanDeviation);
        let given = LstmParams {
            widths_steps: vec![2],
            distance: Distance::MeanDeviation,
            ..LstmParams::default()
        };
        assert_eq!(given.widths(Step::Week), [2]);
        assert_eq!(given.distance(2), Distance::MeanDeviation);
    }

    #[test]
    fn every_bound_is_checked_and_nan_is_out_of_range() {
        let wrong = LstmParams {
            window_steps: 1,
            hidden: 0,
            encoding: 2_000,
            horizon_steps: 0,
            epochs: 0,
            patience_epochs: 0,
            batch_windows: 0,
            max_windows_per_epoch: 0,
            learning_rate: f64::NAN,
            gradient_clip: f32::INFINITY,
            validation_share: 0.6,
            widths_steps: vec![1, 0],
            shrinkage: -0.1,
            ..LstmParams::default()
        };
        assert_eq!(wrong.check().len(), 13);
        let edge = LstmParams {
            window_steps: 2,
            learning_rate: 1.0,
            validation_share: 0.0,
            widths_steps: vec![MAX_WIDTH; MAX_WIDTHS],
            shrinkage: 1.0,
            ..LstmParams::default()
        };
        assert!(edge.check().is_empty());
    }
}
