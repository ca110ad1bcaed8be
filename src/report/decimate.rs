//! Fewer points, the same picture.
//!
//! A line over 100,000 steps on 1,100 pixels keeps, for every pixel column, its first, lowest,
//! highest and last point in their order. That draws exactly what all points would have drawn,
//! so no peak is lost, and an SVG stays small.

/// A run of points without a gap, as `(x, y)` in pixels.
pub type Run = Vec<(f64, f64)>;

/// Splits `points` at gaps (`NaN` heights) and keeps what shows at a resolution of `column`
/// pixels. `points` must come in the order of `x`.
pub fn line(points: impl Iterator<Item = (f64, f64)>, column: f64) -> Vec<Run> {
    let mut runs = Vec::new();
    let mut run = Run::new();
    let mut bucket = Run::new();
    for (x, y) in points {
        if !y.is_finite() {
            keep(&mut bucket, &mut run);
            if !run.is_empty() {
                runs.push(std::mem::take(&mut run));
            }
            continue;
        }
        if bucket.first().is_some_and(|first| (first.0 / column).floor() != (x / column).floor()) {
            keep(&mut bucket, &mut run);
        }
        bucket.push((x, y));
    }
    keep(&mut bucket, &mut run);
    if !run.is_empty() {
        runs.push(run);
    }
    runs
}

/// Moves the first, lowest, highest and last point of `bucket` to `run`.
fn keep(bucket: &mut Run, run: &mut Run) {
    if bucket.len() <= 4 {
        run.append(bucket);
        return;
    }
    let by_height = |a: &(usize, &(f64, f64)), b: &(usize, &(f64, f64))| a.1.1.total_cmp(&b.1.1);
    let low = bucket.iter().enumerate().min_by(by_height).map_or(0, |(i, _)| i);
    let high = bucket.iter().enumerate().max_by(by_height).map_or(0, |(i, _)| i);
    let mut places = [0, low, high, bucket.len() - 1];
    places.sort_unstable();
    for (i, place) in places.iter().enumerate() {
        if i == 0 || places[i - 1] != *place {
            run.push(bucket[*place]);
        }
    }
    bucket.clear();
}

/// A column of a band: `x`, top and bottom in pixels.
pub type BandPoint = (f64, f64, f64);

/// As [`line`], for a band: per column the widest extent. A step with one end missing is a gap.
pub fn band(points: impl Iterator<Item = BandPoint>, column: f64) -> Vec<Vec<BandPoint>> {
    let mut runs = Vec::new();
    let mut run: Vec<BandPoint> = Vec::new();
    for (x, top, bottom) in points {
        if !(top.is_finite() && bottom.is_finite()) {
            if !run.is_empty() {
                runs.push(std::mem::take(&mut run));
            }
            continue;
        }
        match run.last_mut() {
            Some(last) if (last.0 / column).floor() == (x / column).floor() => {
                last.1 = last.1.min(top);
                last.2 = last.2.max(bottom);
            }
            _ => run.push((x, top, bottom)),
        }
    }
    if !run.is_empty() {
        runs.push(run);
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lone_peak_among_many_points_is_kept() {
        let n = 100_000;
        let points = (0..n).map(|i| {
            let y = if i == 54_321 { 1e6 } else { f64::from(i % 7) };
            (f64::from(i) / 100.0, y)
        });
        let runs = line(points, 1.0);
        assert_eq!(runs.len(), 1);
        assert!(runs[0].len() <= 4_000);
        assert!(runs[0].iter().any(|p| p.1 == 1e6));
        assert!(runs[0].is_sorted_by_key(|p| p.0));
    }

    #[test]
    fn gaps_split_a_line_and_a_band() {
        let heights = [1.0, f64::NAN, 2.0, 3.0, f64::NAN, f64::NAN];
        let runs = line(heights.iter().enumerate().map(|(i, y)| (i as f64, *y)), 1.0);
        assert_eq!(runs, [vec![(0.0, 1.0)], vec![(2.0, 2.0), (3.0, 3.0)]]);
        let runs = band(heights.iter().enumerate().map(|(i, y)| (i as f64, *y, 5.0)), 1.0);
        assert_eq!(runs.len(), 2);
    }

    #[test]
    fn few_points_pass_unchanged() {
        let points = vec![(0.0, 1.0), (10.0, 5.0), (20.0, 2.0)];
        assert_eq!(line(points.iter().copied(), 1.0), std::slice::from_ref(&points));
    }
}
