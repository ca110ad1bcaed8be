//! One series over time: what was observed, what was expected, what was flagged, and below it
//! on the same time axis what the autoencoder made of it.

use std::collections::BTreeMap;

use crate::{
    ensemble::{AnomalyType, Severity},
    report::{
        axis::{Axis, extent},
        canvas::{Anchor, Canvas, Drawn, Picture, Type},
        data::{Mark, ReconstructionPanel, SeriesChart},
        error::ReportError,
        format::{counted, grouped, value},
        frame::{
            HEADING, MARGIN, PLOT_LEFT, PLOT_RIGHT, Pane, TIME_LABELS, TimeScale, WIDTH, heading,
        },
        legend::{Legend, Sample, mark, mark_items},
        palette::{
            ERROR, EVENT, EVENT_TEXT, EXPECTED, MUTED, OBSERVED, RECONSTRUCTED, TEXT, THRESHOLD,
            TRUTH, severity_ink, severity_radius,
        },
        time_axis::{instant, step_words},
    },
};

const MAIN_HEIGHT: f64 = 330.0;
const LOWER_HEIGHT: f64 = 118.0;
/// Between two panes: the caption of the lower one.
const PANE_GAP: f64 = 40.0;
/// Above the main pane, for the names of known events.
const NAME_LANE: f64 = 24.0;
/// Below the main pane, for labelled anomalies.
const TRUTH_LANE: f64 = 18.0;
/// Up to here each observed value gets a dot.
const MAX_DOTS: usize = 160;

/// A checked [`SeriesChart`] with its layout.
pub struct SeriesPicture<'a> {
    chart: &'a SeriesChart,
    legend: Legend,
    time: TimeScale,
    xs: Vec<f64>,
    main: Pane,
    lower: Option<LowerPanes<'a>>,
    height: f64,
}

struct LowerPanes<'a> {
    panel: &'a ReconstructionPanel,
    lines: Pane,
    error: Pane,
}

impl<'a> SeriesPicture<'a> {
    /// # Errors
    /// [`ReportError::Shape`] when the chart's vectors do not belong together.
    pub fn new(chart: &'a SeriesChart) -> Result<Self, ReportError> {
        chart.check()?;
        let legend = Legend::groups(line_items(chart), mark_items_of(chart), PLOT_RIGHT - MARGIN);
        let time = TimeScale::new(&chart.times, chart.step_secs, (PLOT_LEFT, PLOT_RIGHT));
        let xs = chart.times.iter().map(|&secs| time.x(secs as f64)).collect();
        let named = !chart.known_events.is_empty() || chart.training_until.is_some();
        let top = HEADING + legend.height() + if named { NAME_LANE } else { 12.0 };
        let main = Pane { top, bottom: top + MAIN_HEIGHT, axis: value_axis(chart) };
        let truth = if chart.truth.is_empty() { 0.0 } else { TRUTH_LANE };
        let lower = chart.reconstruction.as_ref().map(|panel| {
            let lines_top = main.bottom + truth + PANE_GAP;
            let error_top = lines_top + LOWER_HEIGHT + PANE_GAP;
            LowerPanes {
                panel,
                lines: Pane {
                    top: lines_top,
                    bottom: lines_top + LOWER_HEIGHT,
                    axis: Axis::linear(extent(panel.observed.iter().chain(&panel.reconstructed))),
                },
                error: Pane {
                    top: error_top,
                    bottom: error_top + LOWER_HEIGHT,
                    axis: error_axis(panel),
                },
            }
        });
        let last = lower.as_ref().map_or(main.bottom + truth, |panes| panes.error.bottom);
        Ok(Self { chart, legend, time, xs, main, lower, height: last + TIME_LABELS })
    }

    fn subtitle(&self) -> String {
        let chart = self.chart;
        let mut parts = Vec::new();
        if !chart.level.is_empty() {
            parts.push(format!("level {}", chart.level));
        }
        parts.push(format!("{} {}", chart.metric, step_words(chart.step_secs)));
        if let (Some(first), Some(last)) = (chart.times.first(), chart.times.last()) {
            let (first, last) = (instant(*first, chart.step_secs), instant(*last, chart.step_secs));
            let span = if first == last { first } else { format!("{first} to {last}") };
            parts.push(format!("{span} {}", chart.clock).trim_end().to_string());
        }
        parts.push(counted(chart.marks.len(), "anomalous point", "anomalous points"));
        let critical = chart.marks.iter().filter(|m| m.severity == Severity::Critical).count();
        if critical > 0 {
            parts.push(format!("{critical} critical"));
        }
        parts.join("  ·  ")
    }

    fn draw_events(&self, canvas: &mut Canvas<'_>, top: f64, bottom: f64) -> Drawn {
        for (range, _) in &self.chart.known_events {
            if let Some((left, right)) = self.time.edges(&self.chart.times, range) {
                // A short event in a long series must still show.
                let right = right.max(left + 2.0);
                canvas.rect((left, top), (right, bottom), EVENT, 0.22)?;
                canvas.rect((left, top), (right, top + 3.0), EVENT, 1.0)?;
            }
        }
        Ok(())
    }

    /// Where the models stopped learning, as a pixel column.
    fn split(&self) -> Option<f64> {
        let until = self.chart.training_until?;
        let (left, _) = self.time.edges(&self.chart.times, &(until..self.chart.times.len()))?;
        (until > 0).then_some(left)
    }

    fn draw_split(&self, canvas: &mut Canvas<'_>, pane: &Pane) -> Drawn {
        match self.split() {
            Some(x) => canvas.dashes((x, pane.top), (x, pane.bottom), 1.25, MUTED),
            None => Ok(()),
        }
    }

    /// Names above the main pane; a name without room is left out.
    fn draw_names(&self, canvas: &mut Canvas<'_>) -> Drawn {
        let look = Type::new(12.0, EVENT_TEXT);
        let y = self.main.top - 7.0;
        let mut taken: Vec<(f64, f64)> = Vec::new();
        if let Some(x) = self.split() {
            let text = "training ends";
            let look = Type::new(12.0, MUTED);
            let half = look.width(text) / 2.0;
            let centre = x.clamp(PLOT_LEFT + half, PLOT_RIGHT - half);
            canvas.text(text, (centre, y), look, Anchor::Middle)?;
            taken.push((centre - half, centre + half));
        }
        for (range, name) in &self.chart.known_events {
            let Some((left, right)) = self.time.edges(&self.chart.times, range) else { continue };
            let name = look.fit(name, 170.0);
            let half = look.width(&name) / 2.0;
            let centre = ((left + right) / 2.0).clamp(PLOT_LEFT + half, PLOT_RIGHT - half);
            let (from, to) = (centre - half - 8.0, centre + half + 8.0);
            if taken.iter().all(|(start, end)| to < *start || from > *end) {
                canvas.text(&name, (centre, y), look, Anchor::Middle)?;
                taken.push((from, to));
            }
        }
        Ok(())
    }

    fn draw_main(&self, canvas: &mut Canvas<'_>) -> Drawn {
        let (chart, pane) = (self.chart, &self.main);
        pane.grid(canvas)?;
        self.time.grid(canvas, pane.top, pane.bottom)?;
        self.draw_events(canvas, pane.top, pane.bottom)?;
        if !chart.lower.is_empty() && !chart.upper.is_empty() {
            let ends = self.xs.iter().zip(chart.lower.iter().zip(&chart.upper));
            pane.band(canvas, ends.map(|(x, (low, high))| (*x, *low, *high)), EXPECTED, 0.16)?;
        }
        self.draw_split(canvas, pane)?;
        pane.ground(canvas)?;
        pane.curve(canvas, &self.xs, &chart.expected, 1.75, EXPECTED)?;
        let width = if self.xs.len() > 700 { 1.25 } else { 1.75 };
        pane.curve(canvas, &self.xs, &chart.observed, width, OBSERVED)?;
        if self.xs.len() <= MAX_DOTS {
            for (x, observed) in self.xs.iter().zip(&chart.observed) {
                if observed.is_finite() {
                    canvas.disc((*x, pane.y(*observed)), 2.25, OBSERVED)?;
                }
            }
        }
        self.draw_truth(canvas)?;
        self.draw_marks(canvas)
    }

    fn draw_truth(&self, canvas: &mut Canvas<'_>) -> Drawn {
        let top = self.main.bottom + 10.0;
        for range in &self.chart.truth {
            if let Some((left, right)) = self.time.edges(&self.chart.times, range) {
                canvas.rect((left, top), (right.max(left + 2.0), top + 6.0), TRUTH, 1.0)?;
            }
        }
        Ok(())
    }

    fn draw_marks(&self, canvas: &mut Canvas<'_>) -> Drawn {
        for Mark { index, severity, kind, .. } in thinned(&self.chart.marks, &self.xs) {
            let value = self.chart.observed[index];
            let radius = severity_radius(severity);
            // A mark at zero stands on the ground; that of a missing value does too.
            let ground = self.main.bottom - radius;
            let y = if value.is_finite() { self.main.y(value).min(ground) } else { ground };
            mark(canvas, kind, (self.xs[index], y), radius, severity_ink(severity))?;
        }
        Ok(())
    }

    fn draw_lower(&self, canvas: &mut Canvas<'_>, lower: &LowerPanes<'_>) -> Drawn {
        let LowerPanes { panel, lines, error } = lower;
        for pane in [lines, error] {
            pane.grid(canvas)?;
            self.time.grid(canvas, pane.top, pane.bottom)?;
            self.draw_events(canvas, pane.top, pane.bottom)?;
            self.draw_split(canvas, pane)?;
            pane.ground(canvas)?;
        }
        let caption = match panel.unit.as_str() {
            "" => "LSTM autoencoder: input and expectation".to_string(),
            unit => format!("LSTM autoencoder: input and expectation, {unit}"),
        };
        let items = vec![
            (Sample::Line(OBSERVED), "input".to_string()),
            (Sample::Line(RECONSTRUCTED), "expectation".to_string()),
        ];
        pane_caption(canvas, lines, &caption, items)?;
        lines.curve(canvas, &self.xs, &panel.observed, 1.25, OBSERVED)?;
        lines.curve(canvas, &self.xs, &panel.reconstructed, 1.5, RECONSTRUCTED)?;
        self.draw_error(canvas, panel, error)
    }

    fn draw_error(
        &self,
        canvas: &mut Canvas<'_>,
        panel: &ReconstructionPanel,
        pane: &Pane,
    ) -> Drawn {
        let threshold = panel.threshold;
        let mut items = vec![(Sample::Line(ERROR), "error".to_string())];
        if threshold.is_finite() {
            let text = format!("threshold {}", value(threshold));
            items.push((Sample::Dashes(THRESHOLD), text));
            let above = self.xs.iter().zip(&panel.error).map(|(x, error)| {
                let high = if *error > threshold { *error } else { f64::NAN };
                (*x, threshold, high)
            });
            pane.band(canvas, above, THRESHOLD, 0.35)?;
        }
        pane_caption(canvas, pane, "Reconstruction error", items)?;
        pane.curve(canvas, &self.xs, &panel.error, 1.25, ERROR)?;
        if threshold.is_finite() {
            let y = pane.y(threshold);
            canvas.dashes((PLOT_LEFT, y), (PLOT_RIGHT, y), 1.5, THRESHOLD)?;
        }
        Ok(())
    }
}

impl Picture for SeriesPicture<'_> {
    fn name(&self) -> String {
        self.chart.id.clone()
    }

    fn size(&self) -> (u32, u32) {
        (WIDTH, self.height.ceil() as u32)
    }

    fn draw(&self, canvas: &mut Canvas<'_>) -> Drawn {
        canvas.paper(self.size())?;
        heading(canvas, &self.chart.title, &self.subtitle(), 0.0)?;
        self.legend.draw(canvas, (MARGIN, HEADING + 11.0))?;
        self.draw_names(canvas)?;
        self.draw_main(canvas)?;
        let mut ground = self.main.bottom;
        if !self.chart.truth.is_empty() {
            ground += TRUTH_LANE;
        }
        if let Some(lower) = &self.lower {
            self.draw_lower(canvas, lower)?;
            ground = lower.error.bottom;
        }
        if self.chart.observed.iter().all(|v| !v.is_finite()) {
            let centre = ((PLOT_LEFT + PLOT_RIGHT) / 2.0, self.main.top + 32.0);
            canvas.text("no observed values", centre, Type::new(15.0, MUTED), Anchor::Middle)?;
        }
        self.time.labels(canvas, ground)
    }
}

/// A pane's name at its left and its samples at its right, above it.
fn pane_caption(
    canvas: &mut Canvas<'_>,
    pane: &Pane,
    caption: &str,
    items: Vec<(Sample, String)>,
) -> Drawn {
    let legend = Legend::flow(items, PLOT_RIGHT - PLOT_LEFT);
    let start = PLOT_RIGHT - legend.width();
    legend.draw(canvas, (start, pane.top - 16.0))?;
    let look = Type::bold(13.0, TEXT);
    let caption = look.fit(caption, start - PLOT_LEFT - 30.0);
    canvas.text(&caption, (PLOT_LEFT, pane.top - 11.5), look, Anchor::Start)
}

fn line_items(chart: &SeriesChart) -> Vec<(Sample, String)> {
    let mut items = vec![(Sample::Line(OBSERVED), "observed".to_string())];
    if !chart.expected.is_empty() {
        items.push((Sample::Line(EXPECTED), "expected".into()));
    }
    if !chart.lower.is_empty() && !chart.upper.is_empty() {
        let name = if chart.interval_level.is_finite() && chart.interval_level > 0.0 {
            let percent = grouped(chart.interval_level * 100.0, 1);
            format!("{} % interval", percent.trim_end_matches(".0"))
        } else {
            "interval".to_string()
        };
        items.push((Sample::Band(EXPECTED), name));
    }
    if !chart.known_events.is_empty() {
        items.push((Sample::Event, "known event".into()));
    }
    if !chart.truth.is_empty() {
        items.push((Sample::Strip(TRUTH), "labelled anomaly".into()));
    }
    items
}

fn mark_items_of(chart: &SeriesChart) -> Vec<(Sample, String)> {
    let severities: Vec<Severity> = Severity::ALL
        .iter()
        .copied()
        .filter(|s| chart.marks.iter().any(|m| m.severity == *s))
        .collect();
    let kinds: Vec<AnomalyType> = AnomalyType::ALL
        .iter()
        .copied()
        .filter(|k| chart.marks.iter().any(|m| m.kind == *k))
        .collect();
    mark_items(&severities, &kinds)
}

/// The range of observed and expected; the interval may add up to half of it on either side,
/// so that one wide interval does not flatten the data.
fn value_axis(chart: &SeriesChart) -> Axis {
    let core = extent(chart.observed.iter().chain(&chart.expected));
    let interval = extent(chart.lower.iter().chain(&chart.upper));
    let range = match (core, interval) {
        (Some((low, high)), Some((lower, upper))) => {
            let reach = (high / 2.0 - low / 2.0).max(high.abs().max(low.abs()) * 0.25);
            Some((low.min(lower.max(low - reach)), high.max(upper.min(high + reach))))
        }
        (core, interval) => core.or(interval),
    };
    if chart.log_values {
        let positive = chart.observed.iter().chain(&chart.expected).filter(|v| **v > 0.0);
        let all_positive = core.is_some_and(|(low, _)| low > 0.0);
        if let (Some((low, high)), true) = (extent(positive), all_positive) {
            return Axis::log(low, high);
        }
    }
    Axis::linear(range)
}

/// Linear from zero, unless a few errors tower over the threshold: then logarithmic, so that the
/// threshold and the normal errors can still be told apart.
fn error_axis(panel: &ReconstructionPanel) -> Axis {
    let positive: Vec<f64> = panel.error.iter().copied().filter(|e| *e > 0.0).collect();
    let highest = extent(&positive).map_or(0.0, |(_, high)| high);
    if panel.threshold > 0.0 && highest > 40.0 * panel.threshold {
        return Axis::log(panel.threshold / 30.0, highest);
    }
    let threshold = [panel.threshold, 0.0];
    Axis::linear(extent(panel.error.iter().chain(&threshold)))
}

/// At most one mark of a type per four pixels: the worst. The worst come last, so on top.
fn thinned(marks: &[Mark], xs: &[f64]) -> Vec<Mark> {
    let mut kept: BTreeMap<(i64, AnomalyType), Mark> = BTreeMap::new();
    for mark in marks {
        let column = (xs[mark.index] / 4.0).floor() as i64;
        let best = kept.entry((column, mark.kind)).or_insert(*mark);
        if mark.severity > best.severity {
            *best = *mark;
        }
    }
    let mut marks: Vec<Mark> = kept.into_values().collect();
    marks.sort_by_key(|mark| (mark.severity, mark.index));
    marks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ensemble::Direction;

    fn mark_at(index: usize, severity: Severity) -> Mark {
        Mark { index, severity, kind: AnomalyType::Spike, direction: Direction::Above }
    }

    #[test]
    fn of_crowded_marks_the_worst_stays_and_lies_on_top() {
        let xs: Vec<f64> = (0..1_000).map(|i| f64::from(i) / 100.0).collect();
        let mut marks: Vec<Mark> = (0..300).map(|i| mark_at(i, Severity::Low)).collect();
        marks[150].severity = Severity::Critical;
        marks.push(mark_at(500, Severity::Medium));
        marks.push(mark_at(900, Severity::High));
        let kept: Vec<Severity> = thinned(&marks, &xs).iter().map(|m| m.severity).collect();
        assert_eq!(kept, [Severity::Medium, Severity::High, Severity::Critical]);
    }

    #[test]
    fn one_wide_interval_does_not_flatten_the_data() {
        let chart = SeriesChart {
            observed: vec![10.0, 20.0],
            lower: vec![0.0, -1e9],
            upper: vec![30.0, 1e9],
            ..SeriesChart::default()
        };
        let axis = value_axis(&chart);
        assert!(axis.high < 40.0 && axis.low >= -15.0, "{axis:?}");
    }

    #[test]
    fn a_logarithmic_axis_is_only_for_positive_values() {
        let mut chart = SeriesChart {
            observed: vec![1.0, 1_000.0],
            log_values: true,
            ..SeriesChart::default()
        };
        assert_eq!(value_axis(&chart).scale, crate::report::axis::Scale::Log);
        chart.observed[0] = 0.0;
        assert_eq!(value_axis(&chart).scale, crate::report::axis::Scale::Linear);
    }
}
