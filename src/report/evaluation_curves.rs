//! Precision against recall, and p-values against what they promise.

use crate::report::{
    axis::{Axis, Scale},
    canvas::{Canvas, Drawn, Picture},
    evaluation::{EvaluationCharts, Plot, SHARES, ink_of, scorer_legend},
    format::{count, value},
    frame::{HEADING, MARGIN, PLOT_LEFT, PLOT_RIGHT, WIDTH, heading},
    legend::{Legend, Sample},
    palette::{MUTED, PAPER},
};

const PLOT_HEIGHT: f64 = 400.0;
const GAP: f64 = 110.0;
/// The smallest p that is drawn.
const LEAST_P: f64 = 1e-5;

/// Two plots side by side.
pub struct CurvesPicture<'a> {
    level: &'a EvaluationCharts,
    legend: Legend,
    ranking: Plot,
    calibration: Plot,
}

impl<'a> CurvesPicture<'a> {
    pub fn new(level: &'a EvaluationCharts) -> Self {
        let more = vec![(Sample::Dashes(MUTED), "honest p-values".to_string())];
        let legend = scorer_legend(&level.scorers, more, PLOT_RIGHT - MARGIN);
        let top = HEADING + legend.height() + 58.0;
        let width = (PLOT_RIGHT - PLOT_LEFT - GAP) / 2.0;
        // What fewer points than this cannot show is left off.
        let least = (0.5 / (level.clean_cells as f64).max(1.0)).clamp(LEAST_P, 0.1);
        let p = Axis { low: least, high: 1.0, scale: Scale::Log };
        let plot = |left: f64, x: Axis, y: Axis| Plot {
            left,
            right: left + width,
            top,
            bottom: top + PLOT_HEIGHT,
            x,
            y,
        };
        Self {
            level,
            legend,
            ranking: plot(PLOT_LEFT, SHARES, SHARES),
            calibration: plot(PLOT_LEFT + width + GAP, p, p),
        }
    }

    fn draw_ranking(&self, canvas: &mut Canvas<'_>) -> Drawn {
        let plot = &self.ranking;
        plot.title(canvas, "Precision by recall, at every threshold", "recall", "precision")?;
        plot.grid(canvas)?;
        let scorers = self.level.scorers.iter().enumerate();
        // The ensemble comes first and is drawn last, on top.
        for ((place, name), curve) in scorers.clone().zip(&self.level.pr_curves).rev() {
            let width = if place == 0 { 3.0 } else { 1.75 };
            plot.curve(canvas, curve, width, ink_of(name, place))?;
        }
        for ((place, name), at) in scorers.zip(&self.level.at_work).rev() {
            if let Some((recall, precision)) = at {
                let centre = plot.at(*recall, *precision);
                canvas.disc(centre, 7.5, PAPER)?;
                canvas.disc(centre, 5.5, ink_of(name, place))?;
            }
        }
        Ok(())
    }

    fn draw_calibration(&self, canvas: &mut Canvas<'_>) -> Drawn {
        let plot = &self.calibration;
        let title = "p-values on clean points: below the dashes is cautious, above is too eager";
        plot.title(canvas, title, "p", "share of points at or below p")?;
        plot.grid(canvas)?;
        let (low, high) = (plot.x.low, plot.x.high);
        canvas.dashes(plot.at(low, low), plot.at(high, high), 1.5, MUTED)?;
        for (name, curve) in self.level.calibration.iter().rev() {
            let place = self.level.scorers.iter().position(|scorer| scorer == name).unwrap_or(1);
            // A share of nothing has no place on a logarithmic axis.
            let shown: Vec<(f64, f64)> =
                curve.iter().copied().filter(|(p, share)| *p >= low && *share >= low).collect();
            let width = if place == 0 { 3.0 } else { 1.75 };
            plot.curve(canvas, &shown, width, ink_of(name, place))?;
        }
        Ok(())
    }
}

impl Picture for CurvesPicture<'_> {
    fn name(&self) -> String {
        format!("precision, recall and calibration of level {}", self.level.level)
    }

    fn size(&self) -> (u32, u32) {
        (WIDTH, (self.ranking.bottom + 54.0).ceil() as u32)
    }

    fn draw(&self, canvas: &mut Canvas<'_>) -> Drawn {
        canvas.paper(self.size())?;
        let subtitle = format!(
            "{} clean points  ·  share of labelled points {}  ·  discs: at work, with the decision's own threshold",
            count(self.level.clean_cells),
            value(self.level.prevalence)
        );
        let title = format!("Scores against labels, level {}", self.level.level);
        heading(canvas, &title, &subtitle, 0.0)?;
        self.legend.draw(canvas, (MARGIN, HEADING + 12.0))?;
        self.draw_ranking(canvas)?;
        self.draw_calibration(canvas)
    }
}
