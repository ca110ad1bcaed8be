//! One effect per slot of a season, shrunk as far as the data ask for.
//!
//! A slot of the week has seven points after seven weeks, so its mean is a noisy thing. Two
//! empirical-Bayes steps tame it, each with a variance that is estimated from the slots themselves:
//! first towards the mean of its neighbours in time (a smooth profile is smoothed, a profile with
//! sharp edges is left alone), then, because the coarser seasons are already taken out, towards 0
//! (a weekly season that is not there vanishes).

use super::clock::Season;
use crate::{math::robust::median, panel::Step};

/// Residuals to learn slot effects from; all slices have the same length.
pub(super) struct Points<'a> {
    pub residual: &'a [f64],
    /// Inverse variance; 0 takes a point out.
    pub precision: &'a [f64],
    pub slot: &'a [u32],
}

/// Effects per slot and how many parameters they are worth.
pub(super) struct Table {
    pub effect: Vec<f64>,
    pub parameters: f64,
}

/// Medians per slot as they are: a start that outliers cannot spoil, before the noise is known.
pub(super) fn medians(points: &Points, season: Season, step: Step) -> Table {
    let mut groups = vec![Vec::new(); season.slots(step)];
    for ((&residual, &precision), &slot) in
        points.residual.iter().zip(points.precision).zip(points.slot)
    {
        if precision > 0.0 {
            groups[slot as usize].push(residual);
        }
    }
    let parameters = groups.iter().filter(|group| !group.is_empty()).count() as f64;
    let effect = groups.iter_mut().map(|group| median(group).unwrap_or(0.0)).collect();
    Table { effect, parameters }
}

/// Weighted means per slot, shrunk towards their neighbours and towards 0 where `shrink` says that
/// the precisions are to be trusted.
pub(super) fn means(points: &Points, season: Season, step: Step, shrink: bool) -> Table {
    let n = season.slots(step);
    let (mut weight, mut mean) = (vec![0.0; n], vec![0.0; n]);
    for ((&residual, &precision), &slot) in
        points.residual.iter().zip(points.precision).zip(points.slot)
    {
        weight[slot as usize] += precision;
        mean[slot as usize] += precision * residual;
    }
    for (mean, &weight) in mean.iter_mut().zip(&weight) {
        *mean = if weight > 0.0 { *mean / weight } else { 0.0 };
    }
    if !shrink {
        let parameters = weight.iter().filter(|w| **w > 0.0).count() as f64;
        return Table { effect: mean, parameters };
    }
    let (effect, precision) = if season.is_smooth() && season.ring(step) > 4 {
        towards_neighbours(&mean, &weight, season.ring(step))
    } else {
        (mean, weight.clone())
    };
    towards_zero(effect, &precision, &weight)
}

/// Posterior means and precisions, with the weighted mean of two neighbours on each side as prior.
fn towards_neighbours(mean: &[f64], weight: &[f64], ring: usize) -> (Vec<f64>, Vec<f64>) {
    let prior: Vec<(f64, f64)> = (0..mean.len())
        .map(|slot| {
            let (start, place) = (slot / ring * ring, slot % ring);
            let (mut sum, mut total, mut spread) = (0.0, 0.0, 0.0);
            for (distance, kernel) in [(1, 1.0), (2, 0.4)] {
                for other in [(place + ring - distance) % ring, (place + distance) % ring] {
                    let w = kernel * weight[start + other];
                    sum += w * mean[start + other];
                    total += w;
                    spread += kernel * w;
                }
            }
            // The variance of a weighted mean with weights kernel × precision.
            if total > 0.0 { (sum / total, total * total / spread) } else { (0.0, 0.0) }
        })
        .collect();
    let (mut excess, mut n) = (0.0, 0.0);
    for ((&m, &w), &(centre, precision)) in mean.iter().zip(weight).zip(&prior) {
        if w > 0.0 && precision > 0.0 {
            excess += (m - centre).powi(2) - 1.0 / w - 1.0 / precision;
            n += 1.0;
        }
    }
    let roughness = if n > 0.0 { (excess / n).max(0.0) } else { 0.0 };
    mean.iter()
        .zip(weight)
        .zip(&prior)
        .map(|((&m, &w), &(centre, precision))| {
            let trust = if precision > 0.0 { 1.0 / (roughness + 1.0 / precision) } else { 0.0 };
            let total = w + trust;
            if total > 0.0 { ((w * m + trust * centre) / total, total) } else { (0.0, 0.0) }
        })
        .unzip()
}

/// Shrinks effects towards 0 by the ratio of their true to their observed variance.
fn towards_zero(mut effect: Vec<f64>, precision: &[f64], weight: &[f64]) -> Table {
    let (mut excess, mut n) = (0.0, 0.0);
    for (&e, &p) in effect.iter().zip(precision) {
        if p > 0.0 {
            excess += e * e - 1.0 / p;
            n += 1.0;
        }
    }
    let variance = if n > 0.0 { (excess / n).max(0.0) } else { 0.0 };
    let mut parameters = 0.0;
    for ((e, &p), &w) in effect.iter_mut().zip(precision).zip(weight) {
        let keep = if p > 0.0 { variance / (variance + 1.0 / p) } else { 0.0 };
        *e *= keep;
        parameters += if p > 0.0 { keep * w / p } else { 0.0 };
    }
    Table { effect, parameters }
}

/// One cosine wave over the slots (weighted least squares), shrunk by the positive-part James-Stein
/// factor, so that a wave that the noise could have made alone vanishes.
pub(super) fn wave(points: &Points, season: Season, step: Step) -> Table {
    let n = season.slots(step);
    let angle = |slot: usize| (slot as f64 + 0.5) / n as f64 * std::f64::consts::TAU;
    let (mut cc, mut cs, mut ss, mut cy, mut sy) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for ((&residual, &w), &slot) in points.residual.iter().zip(points.precision).zip(points.slot) {
        let (sin, cos) = angle(slot as usize).sin_cos();
        cc += w * cos * cos;
        cs += w * cos * sin;
        ss += w * sin * sin;
        cy += w * cos * residual;
        sy += w * sin * residual;
    }
    let determinant = cc * ss - cs * cs;
    if determinant <= 1e-9 * cc * ss || determinant.is_nan() {
        return Table { effect: vec![0.0; n], parameters: 0.0 };
    }
    let (a, b) = ((ss * cy - cs * sy) / determinant, (cc * sy - cs * cy) / determinant);
    let strength = a * cy + b * sy; // chi-squared with 2 degrees of freedom under no wave
    let keep = if strength > 2.0 { 1.0 - 2.0 / strength } else { 0.0 };
    let effect = (0..n)
        .map(|slot| {
            let (sin, cos) = angle(slot).sin_cos();
            keep * (a * cos + b * sin)
        })
        .collect();
    Table { effect, parameters: 2.0 * keep }
}

/// Folds the tables of nested seasons into the finest, so that a checkpoint keeps one.
pub(super) fn merge_nested(tables: &mut Vec<(Season, Vec<f64>)>) {
    let nested =
        |s: Season| matches!(s, Season::TimeOfDay | Season::WeekendTimeOfDay | Season::TimeOfWeek);
    while let Some(coarse) = tables.iter().position(|(s, _)| nested(*s))
        && let Some(fine) = tables.iter().skip(coarse + 1).position(|(s, _)| nested(*s))
    {
        let (season, effect) = tables.remove(coarse);
        let (finer, target) = &mut tables[coarse + fine];
        let groups = if season == Season::TimeOfDay { 1 } else { 2 };
        let per_day = effect.len() / groups;
        for (slot, target) in target.iter_mut().enumerate() {
            let weekend = *finer == Season::TimeOfWeek && slot / per_day >= 5;
            let group = usize::from(groups == 2 && weekend);
            *target += effect[group * per_day + slot % per_day];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::random::stream;
    use rand_distr::{Distribution, StandardNormal};

    /// Seven noisy points a slot around `truth`, and the root mean square error of the table.
    fn error_of(truth: impl Fn(usize) -> f64, shrink: bool) -> f64 {
        let mut rng = stream(3, "tables", 0);
        let slot: Vec<u32> = (0..7 * 168).map(|i| i % 168).collect();
        let residual: Vec<f64> = slot
            .iter()
            .map(|&s| {
                let noise: f64 = StandardNormal.sample(&mut rng);
                truth(s as usize) + noise
            })
            .collect();
        let precision = vec![1.0; slot.len()];
        let points = Points { residual: &residual, precision: &precision, slot: &slot };
        let table = means(&points, Season::TimeOfWeek, Step::HOUR, shrink);
        let squares = table.effect.iter().enumerate().map(|(s, e)| (e - truth(s)).powi(2));
        (squares.sum::<f64>() / 168.0).sqrt()
    }

    #[test]
    fn shrinkage_helps_smooth_flat_and_rough_profiles() {
        let smooth = |s: usize| 3.0 * (s as f64 / 24.0 * std::f64::consts::TAU).sin();
        let flat = |_| 0.0;
        let rough = |s: usize| if s.is_multiple_of(12) { 8.0 } else { 0.0 };
        assert!(error_of(smooth, true) < 0.75 * error_of(smooth, false));
        assert!(error_of(flat, true) < 0.3 * error_of(flat, false));
        assert!(error_of(rough, true) < 1.1 * error_of(rough, false));
    }

    #[test]
    fn folded_tables_say_the_same_as_nested_ones() {
        let day: Vec<f64> = (0..24).map(f64::from).collect();
        let weekend: Vec<f64> = (0..48).map(|s| 100.0 * f64::from(s)).collect();
        let week: Vec<f64> = (0..168).map(|s| 1e4 * f64::from(s)).collect();
        let mut tables = vec![
            (Season::TimeOfDay, day),
            (Season::WeekendTimeOfDay, weekend),
            (Season::TimeOfWeek, week),
        ];
        merge_nested(&mut tables);
        assert_eq!(tables.len(), 1);
        let at = |weekday: usize, hour: usize| tables[0].1[weekday * 24 + hour];
        assert_eq!(at(2, 5), 5.0 + 500.0 + 1e4 * 53.0);
        assert_eq!(at(6, 5), 5.0 + 2_900.0 + 1e4 * 149.0);
    }

    #[test]
    fn a_wave_in_noise_is_kept_and_a_wave_of_noise_is_not() {
        let slot: Vec<u32> = (0..104).map(|i| i % 52).collect();
        let amplitude = |size: f64| {
            let mut rng = stream(4, "wave", 0);
            let residual: Vec<f64> = slot
                .iter()
                .map(|&s| {
                    let noise: f64 = StandardNormal.sample(&mut rng);
                    noise + size * (f64::from(s) / 52.0 * std::f64::consts::TAU).sin()
                })
                .collect();
            let points = Points { residual: &residual, precision: &vec![1.0; 104], slot: &slot };
            let table = wave(&points, Season::YearWave, Step::Week);
            table.effect.iter().fold(0.0_f64, |top, e| top.max(e.abs()))
        };
        assert!((amplitude(2.0) - 2.0).abs() < 0.4);
        assert!(amplitude(0.0) < 0.25);
    }
}
