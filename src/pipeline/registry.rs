//! From a detector's name to the detector with the config's parameters: the one place that names
//! them all.

use crate::{
    config::Config,
    detectors::{
        Detector, DetectorError, DetectorName, change_points::ChangePointDetector,
        isolation_forest::IsolationForestDetector, lof::LofDetector,
        lstm_autoencoder::LstmAutoencoder, nb2::Nb2, prophet::ProphetDetector,
        random_cut_forest::RandomCutForestDetector, rolling::RollingDetector,
        seasonal_profile::SeasonalProfileDetector, spectral_residual::SpectralResidual,
        subsequence_pca::SubsequencePca, zscore::ZscoreDetector,
    },
};

/// The detector of that name.
///
/// # Errors
/// When a parameter is out of its range.
pub fn build(name: DetectorName, config: &Config) -> Result<Box<dyn Detector>, DetectorError> {
    Ok(match name {
        DetectorName::LstmAutoencoder => {
            Box::new(LstmAutoencoder::new(config.lstm_autoencoder.clone())?)
        }
        DetectorName::Nb2 => Box::new(Nb2::new(config.nb2.clone())?),
        DetectorName::SeasonalProfile => {
            Box::new(SeasonalProfileDetector::new(config.seasonal_profile.clone())?)
        }
        DetectorName::Prophet => Box::new(ProphetDetector::new(config.prophet.clone())?),
        DetectorName::ChangePoints => {
            Box::new(ChangePointDetector::new(config.change_points.clone())?)
        }
        DetectorName::Zscore => Box::new(ZscoreDetector::new(config.zscore.clone())?),
        DetectorName::Rolling => Box::new(RollingDetector::new(config.rolling.clone())?),
        DetectorName::IsolationForest => {
            Box::new(IsolationForestDetector::new(config.isolation_forest.clone())?)
        }
        DetectorName::RandomCutForest => {
            Box::new(RandomCutForestDetector::new(config.random_cut_forest.clone())?)
        }
        DetectorName::Lof => Box::new(LofDetector::new(config.lof.clone())?),
        DetectorName::SpectralResidual => {
            Box::new(SpectralResidual::new(config.spectral_residual.clone())?)
        }
        DetectorName::SubsequencePca => {
            Box::new(SubsequencePca::new(config.subsequence_pca.clone())?)
        }
    })
}

/// The level that a detector's `lower` and `upper` promise; `None` where they promise none.
pub fn interval_level(name: DetectorName, config: &Config) -> Option<f64> {
    match name {
        DetectorName::Nb2 => Some(config.nb2.interval_level),
        DetectorName::SeasonalProfile => Some(config.seasonal_profile.interval_level),
        DetectorName::Prophet => Some(config.prophet.interval_level),
        DetectorName::Zscore => Some(config.zscore.interval_level),
        _ => None,
    }
}
