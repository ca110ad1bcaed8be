//! Charts and the HTML page of a run.
//!
//! The room draws; it decides nothing. `pipeline` fills a [`ReportData`] with numbers that are
//! already final (which points are anomalies, which severity, which order), and two functions
//! turn it into files: [`write_charts`] one PNG or SVG per picture, [`write_page`] one HTML file
//! that opens without a network.
//!
//! Two choices shape the code:
//!
//! - **One drawing, two surfaces.** Every picture is drawn once, through a small `Canvas` in
//!   logical pixels, onto one of plotters' backends. Bitmaps are drawn three times too large and
//!   averaged down, which gives even edges where plotters' own line drawing has steps; SVG is
//!   written on a quarter-pixel grid, because plotters' coordinates are integers.
//! - **The page shows the SVGs.** They are sharp on every screen, and its style sheet recolours
//!   them for the dark theme by their colour attributes, so no chart is stored twice.
//!
//! Colours come from the Okabe-Ito palette, and every anomaly type has its own shape, so no
//! meaning hangs on colour alone.

mod axis;
mod canvas;
mod compare;
mod data;
mod decimate;
mod detection_chart;
mod error;
mod evaluation;
mod evaluation_curves;
mod evaluation_events;
mod files;
mod fonts;
mod format;
mod frame;
mod heatmap;
mod legend;
mod page;
mod palette;
mod ranking;
mod records;
mod series_chart;
mod span;
mod time_axis;
mod training;

pub use compare::{CompareFigure, CompareReport, FlagLane, FlagLanesChart};
pub use data::{
    AnomalyRow, Heatmap, HeatmapRow, LevelReport, Mark, MetricTable, ReconstructionPanel,
    ReportData, SeriesChart, SeriesTally, TrainingCurve, file_stem, rank,
};
pub use detection_chart::{DetectionChart, write_detection_charts};
pub use error::ReportError;
pub use evaluation::{EvaluationCharts, KindRecall, write_evaluation};
pub use files::{CHART_WIDTH, ChartFormat, write_charts};
pub use page::{MAX_PAGE_CHARTS, MAX_PAGE_ROWS, compare_page, page, write_page};
pub use records::{BoxStats, RecordsReport, ScoreSpread};
