//! Detection against size: the share of injected anomalies of one kind that each scorer found.

use std::path::{Path, PathBuf};

use crate::report::{
    axis::Axis,
    canvas::{Anchor, Canvas, Drawn, Picture, Type},
    data::file_stem,
    error::ReportError,
    files::{ChartFormat, write_one},
    frame::{HEADING, MARGIN, PLOT_LEFT, PLOT_RIGHT, Pane, TIME_LABELS, WIDTH, heading},
    legend::{Legend, Sample},
    palette::{
        ERROR, EXPECTED, FRAME, Ink, MUTED, OBSERVED, RECONSTRUCTED, TEXT, THRESHOLD, TRUTH,
    },
};

const PLOT_HEIGHT: f64 = 300.0;
/// The ensemble comes first and in the darkest ink; a seventh scorer begins again.
const INKS: [Ink; 6] = [OBSERVED, EXPECTED, THRESHOLD, RECONSTRUCTED, ERROR, TRUTH];

/// What is drawn for one kind of anomaly at one level.
#[derive(Clone, Debug, PartialEq)]
pub struct DetectionChart {
    pub level: String,
    /// `spike`, `level_shift`.
    pub kind: String,
    pub subtitle: String,
    /// Sizes from left to right, as they are written below the axis.
    pub sizes: Vec<String>,
    /// Each scorer's name and its share found at each size; NaN where nothing was injected.
    pub lines: Vec<(String, Vec<f64>)>,
    /// The share of the same steps that the first scorer flagged without injections.
    pub without: Vec<f64>,
}

/// A [`DetectionChart`] with its layout.
struct DetectionPicture<'a> {
    chart: &'a DetectionChart,
    pane: Pane,
}

impl<'a> DetectionPicture<'a> {
    fn new(chart: &'a DetectionChart) -> Self {
        let top = HEADING + 36.0;
        let axis = Axis::linear(Some((0.0, 1.0)));
        Self { chart, pane: Pane { top, bottom: top + PLOT_HEIGHT, axis } }
    }

    /// Where size `place` (from 0) lies.
    fn x(&self, place: usize) -> f64 {
        let share = (place as f64 + 0.5) / self.chart.sizes.len().max(1) as f64;
        PLOT_LEFT + share * (PLOT_RIGHT - PLOT_LEFT)
    }

    fn draw_sizes(&self, canvas: &mut Canvas<'_>) -> Drawn {
        let look = Type::new(13.0, MUTED);
        for (place, size) in self.chart.sizes.iter().enumerate() {
            let x = self.x(place);
            canvas.line(&[(x, self.pane.bottom), (x, self.pane.bottom + 5.0)], 1.0, FRAME)?;
            canvas.text(size, (x, self.pane.bottom + 20.0), look, Anchor::Middle)?;
        }
        let at = (PLOT_RIGHT, self.pane.bottom + 38.0);
        canvas.text("injected level / usual level", at, Type::bold(13.0, TEXT), Anchor::End)
    }

    fn draw_line(&self, canvas: &mut Canvas<'_>, values: &[f64], width: f64, ink: Ink) -> Drawn {
        let xs: Vec<f64> = (0..values.len()).map(|place| self.x(place)).collect();
        self.pane.curve(canvas, &xs, values, width, ink)?;
        for (x, value) in xs.iter().zip(values).filter(|(_, value)| value.is_finite()) {
            canvas.disc((*x, self.pane.y(*value)), 2.5 + width, ink)?;
        }
        Ok(())
    }
}

impl Picture for DetectionPicture<'_> {
    fn name(&self) -> String {
        file_stem(&format!("detection_{}", self.chart.level), &self.chart.kind)
    }

    fn size(&self) -> (u32, u32) {
        (WIDTH, (self.pane.bottom + TIME_LABELS).ceil() as u32)
    }

    fn draw(&self, canvas: &mut Canvas<'_>) -> Drawn {
        canvas.paper(self.size())?;
        let ink = |place: usize| INKS[place % INKS.len()];
        let mut items: Vec<(Sample, String)> = self
            .chart
            .lines
            .iter()
            .enumerate()
            .map(|(place, (name, _))| (Sample::Line(ink(place)), name.clone()))
            .collect();
        items.push((Sample::Line(MUTED), "without injection".into()));
        let legend = Legend::flow(items, PLOT_RIGHT - MARGIN);
        let title = format!(
            "Share of injected {}s found, level {}",
            self.chart.kind.replace('_', " "),
            self.chart.level
        );
        heading(canvas, &title, &self.chart.subtitle, 0.0)?;
        legend.draw(canvas, (PLOT_LEFT, HEADING))?;
        self.pane.grid(canvas)?;
        self.pane.ground(canvas)?;
        self.draw_sizes(canvas)?;
        self.draw_line(canvas, &self.chart.without, 1.0, MUTED)?;
        for (place, (_, values)) in self.chart.lines.iter().enumerate().rev() {
            let width = if place == 0 { 3.0 } else { 1.75 };
            self.draw_line(canvas, values, width, ink(place))?;
        }
        Ok(())
    }
}

/// Draws the charts into `dir`, which must exist; returns the files.
///
/// # Errors
/// [`ReportError`] naming the file or the chart.
pub fn write_detection_charts(
    charts: &[DetectionChart],
    dir: &Path,
    format: ChartFormat,
) -> Result<Vec<PathBuf>, ReportError> {
    let mut files = Vec::new();
    for chart in charts {
        let picture = DetectionPicture::new(chart);
        for extension in format.extensions() {
            let path = dir.join(format!("{}.{extension}", picture.name()));
            write_one(&picture, &path)?;
            files.push(path);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_is_drawn_for_each_kind_with_gaps_where_nothing_was_injected() {
        let chart = DetectionChart {
            level: "key".into(),
            kind: "level_shift".into(),
            subtitle: "5 repeats".into(),
            sizes: vec!["×0.5".into(), "×2".into()],
            lines: vec![("ensemble".into(), vec![0.25, 1.0]), ("nb2".into(), vec![f64::NAN, 0.5])],
            without: vec![0.0, 0.0],
        };
        let dir = tempfile::tempdir().unwrap();
        let files = write_detection_charts(&[chart], dir.path(), ChartFormat::Both).unwrap();
        assert_eq!(files.len(), 2);
        let svg =
            std::fs::read_to_string(dir.path().join("detection_key_level_shift.svg")).unwrap();
        for part in ["level shifts found", "ensemble", "nb2", "without injection", "×0.5"] {
            assert!(svg.contains(part), "{part}");
        }
    }
}
