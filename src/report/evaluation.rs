//! How good a run is against labels, as pictures: what they are drawn from, and the plot that they
//! share.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{
    ensemble::Severity,
    report::{
        ChartFormat, ReportError,
        axis::{Axis, Scale},
        canvas::{Anchor, Canvas, Drawn, Point, Type},
        data::file_stem,
        evaluation_curves::CurvesPicture,
        evaluation_events::EventsPicture,
        files::{self, Named},
        format::{axis_labels, value},
        legend::{Legend, Sample},
        palette::{
            ERROR, EVENT_TEXT, EXPECTED, FRAME, GRID, Ink, MUTED, OBSERVED, RECONSTRUCTED, TEXT,
            THRESHOLD, severity_ink,
        },
    },
};

/// One level against its labels. Scorers come in one order throughout: the ensemble first, random
/// scores last.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct EvaluationCharts {
    pub level: String,
    /// Length of a step, in words: `week`.
    pub step: String,
    /// Share of labelled points: the precision of random flags.
    pub prevalence: f64,
    pub scorers: Vec<String>,
    /// By scorer: (recall, precision) from the highest threshold to the lowest.
    pub pr_curves: Vec<Vec<(f64, f64)>>,
    /// By scorer: (recall, precision) of its flags; `None` without a flag.
    pub at_work: Vec<Option<(f64, f64)>>,
    /// Name and (p, share of clean points at or below it).
    pub calibration: Vec<(String, Vec<(f64, f64)>)>,
    /// Points that the calibration is taken from.
    pub clean_cells: usize,
    /// (delay in steps, events that the ensemble found after it).
    pub delays: Vec<(usize, usize)>,
    /// Events that the ensemble did not find.
    pub missed: usize,
    pub kinds: Vec<KindRecall>,
}

/// How many events of a kind each scorer finds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct KindRecall {
    pub kind: String,
    pub events: usize,
    /// By scorer: share found.
    pub recall: Vec<f64>,
}

/// The pictures of every level with their file stems.
pub(crate) fn evaluation_pictures(levels: &[EvaluationCharts]) -> Vec<Named<'_>> {
    let mut pictures: Vec<Named<'_>> = Vec::new();
    for level in levels {
        let stem = |what: &str| file_stem(what, &level.level);
        pictures.push((stem("evaluation_curves"), Box::new(CurvesPicture::new(level))));
        pictures.push((stem("evaluation_events"), Box::new(EventsPicture::new(level))));
    }
    pictures
}

/// Draws two pictures per level into `dir`: precision-recall and calibration; delays and recall by
/// kind. Returns the files.
///
/// # Errors
/// [`ReportError`] naming the file.
pub fn write_evaluation(
    levels: &[EvaluationCharts],
    dir: &Path,
    format: ChartFormat,
) -> Result<Vec<PathBuf>, ReportError> {
    files::write_all(&evaluation_pictures(levels), dir, format, &mut |_| {})
}

/// The colour of a scorer by its name and place.
pub(super) fn ink_of(name: &str, place: usize) -> Ink {
    let turns = [
        EXPECTED,
        THRESHOLD,
        RECONSTRUCTED,
        ERROR,
        severity_ink(Severity::Medium),
        severity_ink(Severity::Critical),
        severity_ink(Severity::Low),
        EVENT_TEXT,
    ];
    match name {
        "ensemble" => OBSERVED,
        "random scores" => MUTED,
        _ => turns[place.saturating_sub(1) % turns.len()],
    }
}

/// A legend of scorers over the whole width.
pub(super) fn scorer_legend(names: &[String], more: Vec<(Sample, String)>, width: f64) -> Legend {
    let mut items: Vec<(Sample, String)> = names
        .iter()
        .enumerate()
        .map(|(i, name)| (Sample::Line(ink_of(name, i)), name.replace('_', " ")))
        .collect();
    items.extend(more);
    Legend::flow(items, width)
}

/// A rectangle with an axis on two sides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plot {
    pub left: f64,
    pub right: f64,
    pub top: f64,
    pub bottom: f64,
    pub x: Axis,
    pub y: Axis,
}

/// From 0 to 1.
pub(super) const SHARES: Axis = Axis { low: 0.0, high: 1.0, scale: Scale::Linear };

const LABEL: f64 = 13.0;

impl Plot {
    pub fn at(&self, x: f64, y: f64) -> Point {
        let across = self.left + self.x.share(x) * (self.right - self.left);
        (across, self.bottom - self.y.share(y) * (self.bottom - self.top))
    }

    /// What the plot shows, above it, and the names of its axes.
    pub fn title(&self, canvas: &mut Canvas<'_>, title: &str, x: &str, y: &str) -> Drawn {
        let bold = Type::bold(14.0, TEXT);
        canvas.text(title, (self.left, self.top - 30.0), bold, Anchor::Start)?;
        let look = Type::new(LABEL, MUTED);
        canvas.text(y, (self.left, self.top - 11.0), look, Anchor::Start)?;
        canvas.text(x, (self.right, self.bottom + 40.0), look, Anchor::End)
    }

    /// Grid lines and labels of both axes.
    pub fn grid(&self, canvas: &mut Canvas<'_>) -> Drawn {
        self.horizontal(canvas)?;
        self.vertical(canvas)
    }

    pub fn horizontal(&self, canvas: &mut Canvas<'_>) -> Drawn {
        let look = Type::new(LABEL, MUTED);
        for (tick, label) in ticks(&self.y) {
            let (_, y) = self.at(self.x.low, tick);
            canvas.line(&[(self.left, y), (self.right, y)], 1.0, GRID)?;
            canvas.text(&label, (self.left - 8.0, y + 4.5), look, Anchor::End)?;
        }
        self.ground(canvas)
    }

    pub fn vertical(&self, canvas: &mut Canvas<'_>) -> Drawn {
        let look = Type::new(LABEL, MUTED);
        for (tick, label) in ticks(&self.x) {
            let (x, _) = self.at(tick, self.y.low);
            canvas.line(&[(x, self.top), (x, self.bottom)], 1.0, GRID)?;
            canvas.text(&label, (x, self.bottom + 20.0), look, Anchor::Middle)?;
        }
        self.ground(canvas)
    }

    fn ground(&self, canvas: &mut Canvas<'_>) -> Drawn {
        canvas.line(&[(self.left, self.bottom), (self.right, self.bottom)], 1.0, FRAME)
    }

    pub fn curve(
        &self,
        canvas: &mut Canvas<'_>,
        points: &[(f64, f64)],
        width: f64,
        ink: Ink,
    ) -> Drawn {
        let points: Vec<Point> = points.iter().map(|&(x, y)| self.at(x, y)).collect();
        canvas.line(&points, width, ink)
    }
}

fn ticks(axis: &Axis) -> Vec<(f64, String)> {
    let ticks = axis.ticks(5);
    let labels = match axis.scale {
        Scale::Linear => axis_labels(&ticks),
        Scale::Log => ticks.iter().map(|&tick| value(tick)).collect(),
    };
    ticks.into_iter().zip(labels).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::canvas::to_svg;

    fn level() -> EvaluationCharts {
        EvaluationCharts {
            level: "key".into(),
            step: "week".into(),
            prevalence: 0.1,
            scorers: ["ensemble", "nb2", "random scores"].map(String::from).to_vec(),
            pr_curves: vec![vec![(0.2, 1.0), (1.0, 0.1)]; 3],
            at_work: vec![Some((0.5, 0.6)), None, Some((0.1, 0.1))],
            calibration: vec![("ensemble".into(), vec![(1.0, 1.0), (0.01, 0.008), (1e-5, 0.0)])],
            clean_cells: 2_000,
            delays: vec![(0, 5), (90, 1)],
            missed: 3,
            kinds: vec![KindRecall {
                kind: "level_shift".into(),
                events: 9,
                recall: vec![0.5, 0.4, 0.1],
            }],
        }
    }

    #[test]
    fn pictures_name_every_scorer_and_kind() {
        let levels = [level()];
        let pictures = evaluation_pictures(&levels);
        let stems: Vec<&str> = pictures.iter().map(|(stem, _)| stem.as_str()).collect();
        assert_eq!(stems, ["evaluation_curves_key", "evaluation_events_key"]);
        let svgs: Vec<String> =
            pictures.iter().map(|(_, picture)| to_svg(picture.as_ref()).unwrap()).collect();
        for name in ["ensemble", "nb2", "random scores"] {
            assert!(svgs.iter().all(|svg| svg.contains(name)), "{name}");
        }
        assert!(svgs[1].contains("level shift"), "{}", svgs[1]);
        assert!(svgs.iter().all(|svg| !svg.contains("NaN")));
    }

    #[test]
    fn an_empty_level_can_be_drawn() {
        let levels = [EvaluationCharts::default()];
        for (_, picture) in evaluation_pictures(&levels) {
            assert!(to_svg(picture.as_ref()).is_ok());
        }
    }
}
