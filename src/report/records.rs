//! The charts of scored records: how the scores of each model are spread, over all rows and by
//! verdict, and how alike the models are.

use serde::{Deserialize, Serialize};

use crate::report::{
    axis::{Axis, Scale},
    canvas::{Anchor, Canvas, Drawn, Picture, Point, Type},
    format::{axis_labels, count, value},
    frame::{HEADING, MARGIN, PLOT_LEFT, PLOT_RIGHT, Pane, WIDTH, heading},
    palette::{EXPECTED, FRAME, GRID, HEAT, Ink, MUTED, OBSERVED, TEXT, THRESHOLD},
};

/// What the charts of records are drawn from.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RecordsReport {
    /// The ensemble first.
    pub scores: Vec<ScoreSpread>,
    /// `[model][model]`, in the order of `scores`: rank correlations of the sampled rows.
    pub correlation: Vec<Vec<f64>>,
    /// Rows that the boxes and correlations are taken from.
    pub sampled: usize,
}

/// How one model's scores are spread.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ScoreSpread {
    pub name: String,
    /// Where the first bin starts and the last one ends; scores outside count in these.
    pub low: f64,
    pub high: f64,
    /// Number of rows in each of as many equal bins.
    pub bins: Vec<usize>,
    pub threshold: f64,
    /// Of the rows that this model does not flag, and of those that it does.
    pub normal: Option<BoxStats>,
    pub anomalous: Option<BoxStats>,
}

/// The five numbers of a box plot: whiskers at the 1 % and 99 % quantile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BoxStats {
    pub rows: usize,
    pub low: f64,
    pub first_quartile: f64,
    pub median: f64,
    pub third_quartile: f64,
    pub high: f64,
}

impl BoxStats {
    /// `None` without values, which are reordered.
    pub fn of(values: &mut [f64]) -> Option<Self> {
        values.sort_unstable_by(f64::total_cmp);
        let last = values.len().checked_sub(1)?;
        let at = |share: f64| values[(share * last as f64).round() as usize];
        Some(Self {
            rows: values.len(),
            low: at(0.01),
            first_quartile: at(0.25),
            median: at(0.5),
            third_quartile: at(0.75),
            high: at(0.99),
        })
    }
}

const PLOT_HEIGHT: f64 = 300.0;
const LABELS_HEIGHT: f64 = 46.0;
const BOX_PANE: f64 = 138.0;
const BOX_LEFT: f64 = 190.0;
const CELL: f64 = 104.0;
const CELLS_LEFT: f64 = 190.0;

/// The horizontal place of a value.
fn x_of(axis: &Axis, left: f64, x: f64) -> f64 {
    left + axis.share(x) * (PLOT_RIGHT - left)
}

/// Ticks and labels of a horizontal axis at height `y`.
fn draw_x_axis(canvas: &mut Canvas<'_>, axis: &Axis, left: f64, (top, y): Point) -> Drawn {
    let ticks = axis.ticks(8);
    let look = Type::new(13.0, MUTED);
    for (tick, label) in ticks.iter().zip(axis_labels(&ticks)) {
        let x = x_of(axis, left, *tick);
        canvas.line(&[(x, top), (x, y)], 1.0, GRID)?;
        canvas.line(&[(x, y), (x, y + 5.0)], 1.0, FRAME)?;
        canvas.text(&label, (x, y + 20.0), look, Anchor::Middle)?;
    }
    canvas.line(&[(left, y), (PLOT_RIGHT, y)], 1.0, FRAME)
}

/// Rows by score, with the threshold.
pub struct HistogramPicture<'a> {
    spread: &'a ScoreSpread,
    pane: Pane,
    axis: Axis,
}

impl<'a> HistogramPicture<'a> {
    pub fn new(spread: &'a ScoreSpread) -> Self {
        let most = spread.bins.iter().copied().max().unwrap_or(1).max(2) as f64;
        let top = HEADING + 26.0;
        // Anomalies are rare: on a linear axis their bins would be flat.
        let pane = Pane { top, bottom: top + PLOT_HEIGHT, axis: Axis::log(0.8, most) };
        let axis = Axis { low: spread.low, high: spread.high, scale: Scale::Linear };
        Self { spread, pane, axis }
    }

    fn edge(&self, bin: usize) -> f64 {
        let share = bin as f64 / self.spread.bins.len().max(1) as f64;
        self.spread.low + share * (self.spread.high - self.spread.low)
    }

    fn draw_threshold(&self, canvas: &mut Canvas<'_>) -> Drawn {
        let x = x_of(&self.axis, PLOT_LEFT, self.spread.threshold);
        canvas.dashes((x, self.pane.top - 4.0), (x, self.pane.bottom), 1.5, THRESHOLD)?;
        let text = format!("threshold {}", value(self.spread.threshold));
        let look = Type::bold(13.0, TEXT);
        let half = look.width(&text) / 2.0;
        let x = x.clamp(PLOT_LEFT + half, PLOT_RIGHT - half);
        canvas.text(&text, (x, self.pane.top - 10.0), look, Anchor::Middle)
    }
}

impl Picture for HistogramPicture<'_> {
    fn name(&self) -> String {
        format!("scores of {}", self.spread.name)
    }

    fn size(&self) -> (u32, u32) {
        (WIDTH, (self.pane.bottom + LABELS_HEIGHT).ceil() as u32)
    }

    fn draw(&self, canvas: &mut Canvas<'_>) -> Drawn {
        canvas.paper(self.size())?;
        let rows: usize = self.spread.bins.iter().sum();
        let title = format!("Scores of {}", self.spread.name);
        let subtitle = format!("{} rows by score, on a logarithmic axis", count(rows));
        heading(canvas, &title, &subtitle, 0.0)?;
        self.pane.grid(canvas)?;
        for (bin, &n) in self.spread.bins.iter().enumerate().filter(|(_, n)| **n > 0) {
            let (from, to) = (self.edge(bin), self.edge(bin + 1));
            let ink = if from >= self.spread.threshold { THRESHOLD } else { EXPECTED };
            let left = x_of(&self.axis, PLOT_LEFT, from) + 0.75;
            let right = x_of(&self.axis, PLOT_LEFT, to) - 0.75;
            let top = self.pane.y(n as f64);
            canvas.rect((left, top), (right, self.pane.bottom), ink, 1.0)?;
        }
        draw_x_axis(canvas, &self.axis, PLOT_LEFT, (self.pane.bottom, self.pane.bottom))?;
        self.draw_threshold(canvas)
    }
}

/// Scores by verdict, a pane for each model.
pub struct BoxesPicture<'a> {
    report: &'a RecordsReport,
}

impl<'a> BoxesPicture<'a> {
    pub fn new(report: &'a RecordsReport) -> Self {
        Self { report }
    }

    fn draw_pane(&self, canvas: &mut Canvas<'_>, place: usize, spread: &ScoreSpread) -> Drawn {
        let top = HEADING + 8.0 + place as f64 * BOX_PANE;
        let bottom = top + 92.0;
        let axis = Axis { low: spread.low, high: spread.high, scale: Scale::Linear };
        canvas.text(&spread.name, (MARGIN, top + 20.0), Type::bold(15.0, TEXT), Anchor::Start)?;
        draw_x_axis(canvas, &axis, BOX_LEFT, (top, bottom))?;
        let rows =
            [("normal", &spread.normal, EXPECTED), ("anomalous", &spread.anomalous, THRESHOLD)];
        for (at, (name, stats, ink)) in rows.into_iter().enumerate() {
            let middle = top + 24.0 + at as f64 * 42.0;
            let rows = stats.map_or(0, |stats| stats.rows);
            let label = format!("{name} ({})", count(rows));
            canvas.text(
                &label,
                (BOX_LEFT - 10.0, middle + 4.5),
                Type::new(13.0, MUTED),
                Anchor::End,
            )?;
            if let Some(stats) = stats {
                draw_box(canvas, &axis, stats, middle, ink)?;
            }
        }
        let x = x_of(&axis, BOX_LEFT, spread.threshold);
        canvas.dashes((x, top), (x, bottom), 1.25, THRESHOLD)
    }
}

fn draw_box(canvas: &mut Canvas<'_>, axis: &Axis, stats: &BoxStats, y: f64, ink: Ink) -> Drawn {
    let x = |value: f64| x_of(axis, BOX_LEFT, value);
    canvas.line(&[(x(stats.low), y), (x(stats.high), y)], 1.5, ink)?;
    for end in [stats.low, stats.high] {
        canvas.line(&[(x(end), y - 7.0), (x(end), y + 7.0)], 1.5, ink)?;
    }
    let (from, to) = (x(stats.first_quartile), x(stats.third_quartile));
    canvas.rect((from, y - 13.0), (to.max(from + 2.0), y + 13.0), ink, 1.0)?;
    canvas.line(&[(x(stats.median), y - 13.0), (x(stats.median), y + 13.0)], 2.5, OBSERVED)
}

impl Picture for BoxesPicture<'_> {
    fn name(&self) -> String {
        "scores by verdict".into()
    }

    fn size(&self) -> (u32, u32) {
        let panes = self.report.scores.len() as f64 * BOX_PANE;
        (WIDTH, (HEADING + 8.0 + panes).ceil() as u32)
    }

    fn draw(&self, canvas: &mut Canvas<'_>) -> Drawn {
        canvas.paper(self.size())?;
        let subtitle = format!(
            "boxes from quartile to quartile, whiskers at 1 % and 99 %, {} sampled rows; dashed: the threshold",
            count(self.report.sampled)
        );
        heading(canvas, "Scores by each model's verdict", &subtitle, 0.0)?;
        for (place, spread) in self.report.scores.iter().enumerate() {
            self.draw_pane(canvas, place, spread)?;
        }
        Ok(())
    }
}

/// How alike the models rank the rows.
pub struct CorrelationPicture<'a> {
    report: &'a RecordsReport,
}

impl<'a> CorrelationPicture<'a> {
    pub fn new(report: &'a RecordsReport) -> Self {
        Self { report }
    }

    fn draw_cell(&self, canvas: &mut Canvas<'_>, row: usize, column: usize, r: f64) -> Drawn {
        let (x, y) = (CELLS_LEFT + column as f64 * CELL, HEADING + 34.0 + row as f64 * CELL);
        let step = (r.abs().clamp(0.0, 1.0) * (HEAT.len() - 1) as f64).round() as usize;
        canvas.rect((x, y), (x + CELL - 3.0, y + CELL - 3.0), HEAT[step], 1.0)?;
        // Dark steps of the scale carry light text: the palest step is the opposite of the darkest.
        let ink = if step > HEAT.len() / 2 { HEAT[0] } else { TEXT };
        let at = (x + 0.5 * CELL - 1.5, y + 0.5 * CELL + 5.0);
        canvas.text(&format!("{r:.2}"), at, Type::bold(16.0, ink), Anchor::Middle)
    }
}

impl Picture for CorrelationPicture<'_> {
    fn name(&self) -> String {
        "correlation of the models".into()
    }

    fn size(&self) -> (u32, u32) {
        let cells = self.report.scores.len() as f64 * CELL;
        (WIDTH, (HEADING + 34.0 + cells + 18.0).ceil() as u32)
    }

    fn draw(&self, canvas: &mut Canvas<'_>) -> Drawn {
        canvas.paper(self.size())?;
        let subtitle =
            format!("Spearman's rank correlation, {} sampled rows", count(self.report.sampled));
        heading(canvas, "How alike the models are", &subtitle, 0.0)?;
        for (row, spread) in self.report.scores.iter().enumerate() {
            let look = Type::new(14.0, TEXT);
            let middle = row as f64 * CELL + 0.5 * CELL;
            let at = (CELLS_LEFT - 12.0, HEADING + 34.0 + middle + 4.0);
            canvas.text(
                &look.fit(&spread.name, CELLS_LEFT - MARGIN - 12.0),
                at,
                look,
                Anchor::End,
            )?;
            let at = (CELLS_LEFT + middle - 1.5, HEADING + 24.0);
            canvas.text(&look.fit(&spread.name, CELL), at, look, Anchor::Middle)?;
            for (column, r) in self.report.correlation[row].iter().enumerate() {
                self.draw_cell(canvas, row, column, *r)?;
            }
        }
        Ok(())
    }
}

impl RecordsReport {
    /// Every picture with its file stem, in the page's order.
    pub(crate) fn pictures(&self) -> Vec<(String, Box<dyn Picture + '_>)> {
        let mut pictures: Vec<(String, Box<dyn Picture + '_>)> = Vec::new();
        for spread in &self.scores {
            let stem = format!("score_histogram_{}", spread.name);
            pictures.push((stem, Box::new(HistogramPicture::new(spread))));
        }
        pictures.push(("score_boxes".into(), Box::new(BoxesPicture::new(self))));
        let square = self.correlation.len() == self.scores.len();
        if self.scores.len() > 2 && square {
            pictures.push(("score_correlation".into(), Box::new(CorrelationPicture::new(self))));
        }
        pictures
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::canvas::to_svg;

    fn spread(name: &str) -> ScoreSpread {
        ScoreSpread {
            name: name.into(),
            low: 0.3,
            high: 0.8,
            bins: (0..60).map(|bin| 4_000 / (1 + bin * bin)).collect(),
            threshold: 0.55,
            normal: BoxStats::of(&mut [0.3, 0.35, 0.4, 0.5]),
            anomalous: BoxStats::of(&mut [0.56, 0.6, 0.7]),
        }
    }

    #[test]
    fn every_picture_draws_and_names_its_models() {
        let report = RecordsReport {
            scores: vec![spread("ensemble"), spread("iforest"), spread("rcf")],
            correlation: vec![vec![1.0, 0.9, -0.2]; 3],
            sampled: 5_000,
        };
        let pictures = report.pictures();
        assert_eq!(pictures.len(), 5);
        for (stem, picture) in &pictures {
            let svg = to_svg(picture.as_ref()).unwrap();
            assert!(svg.contains("<svg") && !svg.contains("NaN"), "{stem}");
        }
        let boxes = to_svg(pictures[3].1.as_ref()).unwrap();
        assert!(boxes.contains("iforest") && boxes.contains("anomalous"));
    }

    #[test]
    fn a_model_without_anomalies_has_one_box() {
        assert_eq!(BoxStats::of(&mut []), None);
        let alone = ScoreSpread { anomalous: None, bins: vec![0; 60], ..spread("lof") };
        let report = RecordsReport { scores: vec![alone], ..RecordsReport::default() };
        assert!(report.pictures().iter().all(|(_, picture)| to_svg(picture.as_ref()).is_ok()));
    }
}
