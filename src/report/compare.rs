//! What the page of a comparison shows, and its charts: one series, and below it on the same time
//! axis one lane of flags for each run.

use std::ops::Range;

use crate::report::{
    canvas::{Anchor, Canvas, Drawn, Picture, Type},
    data::{Mark, MetricTable, SeriesChart},
    error::ReportError,
    frame::{PLOT_LEFT, PLOT_RIGHT, TIME_LABELS, TimeScale},
    legend::mark,
    palette::{EVENT, FRAME, GRID, MUTED, TEXT, severity_ink, severity_radius},
};

/// Height of a lane, and of the name above it.
const LANE: f64 = 30.0;
const NAME: f64 = 22.0;
/// Between the series and the first lane.
const GAP: f64 = 4.0;

/// The page of a comparison. Every text is shown as it is.
#[derive(Clone, Debug, Default)]
pub struct CompareReport {
    pub title: String,
    /// What the page is about, in a sentence.
    pub lead: String,
    /// Sentences that a reader must see.
    pub notes: Vec<String>,
    pub configs: Vec<MetricTable>,
    pub figures: Vec<MetricTable>,
    pub alerts: Vec<MetricTable>,
    pub charts: Vec<CompareFigure>,
    pub runs: Vec<MetricTable>,
}

/// A chart with what it shows in words.
#[derive(Clone, Debug, Default)]
pub struct CompareFigure {
    pub heading: String,
    pub lines: Vec<String>,
    pub chart: FlagLanesChart,
}

/// The flags of one run.
#[derive(Clone, Debug, Default)]
pub struct FlagLane {
    pub name: String,
    pub marks: Vec<Mark>,
}

/// A series with the flags of several runs.
#[derive(Clone, Debug, Default)]
pub struct FlagLanesChart {
    /// Its marks are those of all lanes.
    pub series: SeriesChart,
    pub lanes: Vec<FlagLane>,
    /// The steps that the chart is about, tinted in every lane.
    pub focus: Range<usize>,
}

/// A checked [`FlagLanesChart`] with its layout.
pub struct FlagLanesPicture<'a> {
    chart: &'a FlagLanesChart,
    series: super::series_chart::SeriesPicture<'a>,
    time: TimeScale,
}

impl<'a> FlagLanesPicture<'a> {
    /// # Errors
    /// [`ReportError::Shape`] when the vectors do not belong together.
    pub fn new(chart: &'a FlagLanesChart) -> Result<Self, ReportError> {
        let series = &chart.series;
        let n = series.times.len();
        let outside = |mark: &&Mark| mark.index >= n;
        if let Some(mark) = chart.lanes.iter().flat_map(|lane| &lane.marks).find(outside) {
            return Err(ReportError::Shape {
                chart: series.id.clone(),
                problem: format!("a flag is at step {} of {n}", mark.index),
            });
        }
        Ok(Self {
            chart,
            series: super::series_chart::SeriesPicture::new(series)?,
            time: TimeScale::new(&series.times, series.step_secs, (PLOT_LEFT, PLOT_RIGHT)),
        })
    }

    fn lane(&self, canvas: &mut Canvas<'_>, lane: &FlagLane, top: f64) -> Drawn {
        let times = &self.chart.series.times;
        let (from, to) = (top + NAME, top + NAME + LANE);
        let look = Type::bold(13.0, TEXT);
        let name = look.fit(&format!("flagged by {}", lane.name), PLOT_RIGHT - PLOT_LEFT - 200.0);
        canvas.text(&name, (PLOT_LEFT, top + 15.0), look, Anchor::Start)?;
        let count = match lane.marks.len() {
            0 => "no point".to_string(),
            1 => "1 point".to_string(),
            n => format!("{n} points"),
        };
        let small = Type::new(13.0, MUTED);
        canvas.text(&count, (PLOT_RIGHT, top + 15.0), small, Anchor::End)?;
        canvas.rect((PLOT_LEFT, from), (PLOT_RIGHT, to), GRID, 0.35)?;
        if let Some((left, right)) = self.time.edges(times, &self.chart.focus) {
            // A short alert in a long series must still show.
            let air = (6.0 - (right - left)).max(0.0) / 2.0;
            canvas.rect((left - air, from), (right + air, to), EVENT, 0.3)?;
        }
        self.time.grid(canvas, from, to)?;
        canvas.line(&[(PLOT_LEFT, to), (PLOT_RIGHT, to)], 1.0, FRAME)?;
        let middle = (from + to) / 2.0;
        for flag in &lane.marks {
            let x = self.time.x(times[flag.index] as f64);
            let radius = severity_radius(flag.severity);
            mark(canvas, flag.kind, (x, middle), radius, severity_ink(flag.severity))?;
        }
        Ok(())
    }
}

impl Picture for FlagLanesPicture<'_> {
    fn name(&self) -> String {
        self.series.name()
    }

    fn size(&self) -> (u32, u32) {
        let (width, height) = self.series.size();
        let lanes = self.chart.lanes.len() as f64 * (NAME + LANE) + GAP + TIME_LABELS;
        (width, height + lanes.ceil() as u32)
    }

    fn draw(&self, canvas: &mut Canvas<'_>) -> Drawn {
        canvas.paper(self.size())?;
        self.series.draw(canvas)?;
        let mut top = f64::from(self.series.size().1) + GAP;
        for lane in &self.chart.lanes {
            self.lane(canvas, lane, top)?;
            top += NAME + LANE;
        }
        self.time.labels(canvas, top)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ensemble::{AnomalyType, Direction, Severity},
        report::canvas::to_svg,
    };

    fn chart() -> FlagLanesChart {
        let mark = Mark {
            index: 2,
            severity: Severity::High,
            kind: AnomalyType::Spike,
            direction: Direction::Above,
        };
        FlagLanesChart {
            series: SeriesChart {
                id: "a".into(),
                step_secs: 86_400,
                times: (0..5).map(|t| t * 86_400).collect(),
                observed: vec![1.0, 2.0, 9.0, 2.0, 1.0],
                marks: vec![mark],
                ..SeriesChart::default()
            },
            lanes: vec![
                FlagLane { name: "one".into(), marks: vec![mark] },
                FlagLane { name: "two <b>".into(), marks: Vec::new() },
            ],
            focus: 2..3,
        }
    }

    #[test]
    fn every_run_has_a_lane_with_its_name() {
        let chart = chart();
        let picture = FlagLanesPicture::new(&chart).unwrap();
        let svg = to_svg(&picture).unwrap();
        assert!(svg.contains("flagged by one") && svg.contains("1 point"), "{svg}");
        assert!(svg.contains("flagged by two &lt;b&gt;") && svg.contains("no point"), "{svg}");
    }

    #[test]
    fn a_flag_outside_the_series_is_refused() {
        let mut chart = chart();
        let late = Mark { index: 5, ..chart.lanes[0].marks[0] };
        chart.lanes[1].marks.push(late);
        assert!(FlagLanesPicture::new(&chart).err().unwrap().to_string().contains("step 5 of 5"));
    }
}
