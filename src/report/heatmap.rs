//! The overview: every series a row, every step a column, coloured by score.

use crate::report::{
    canvas::{Anchor, Canvas, Drawn, Picture, Type},
    data::Heatmap,
    error::ReportError,
    format::{count, counted},
    frame::{HEADING, MARGIN, PLOT_RIGHT, TIME_LABELS, TimeScale, WIDTH, heading},
    palette::{HEAT, MUTED, TEXT},
    time_axis::step_words,
};

/// Rows that are drawn.
pub const MAX_ROWS: usize = 40;
/// Columns that are drawn; more steps are binned by their highest score.
const MAX_COLUMNS: usize = 300;
const ROW_HEIGHT: f64 = 20.0;
const LABELS_RIGHT: f64 = 330.0;
const CELLS_LEFT: f64 = 342.0;
const CELLS_RIGHT: f64 = PLOT_RIGHT - 52.0;
const SWATCH: f64 = 18.0;

/// A checked [`Heatmap`] with its layout.
pub struct HeatmapPicture<'a> {
    map: &'a Heatmap,
    level: &'a str,
    time: TimeScale,
}

impl<'a> HeatmapPicture<'a> {
    /// # Errors
    /// [`ReportError::Shape`] when a row does not have one score per step.
    pub fn new(map: &'a Heatmap, level: &'a str) -> Result<Self, ReportError> {
        map.check(level)?;
        let ends = (CELLS_LEFT, CELLS_RIGHT);
        Ok(Self { map, level, time: TimeScale::new(&map.times, map.step_secs, ends) })
    }

    fn n_rows(&self) -> usize {
        self.map.rows.len().min(MAX_ROWS)
    }

    fn subtitle(&self) -> String {
        let left_out = self.map.left_out + self.map.rows.len() - self.n_rows();
        let mut text = format!(
            "{}  ·  {} with the most anomalies",
            format!(
                "highest score per cell, {} {}",
                step_words(self.map.step_secs),
                self.map.clock
            )
            .trim_end(),
            counted(self.n_rows(), "series", "series"),
        );
        if left_out > 0 {
            text += &format!("  ·  {} more left out", count(left_out));
        }
        text
    }

    /// Nine swatches with their scores, at the right of the heading.
    fn draw_scale(&self, canvas: &mut Canvas<'_>) -> Drawn {
        let look = Type::new(13.0, MUTED);
        let end = PLOT_RIGHT - 14.0;
        let start = end - SWATCH * HEAT.len() as f64;
        for (i, ink) in HEAT.iter().enumerate() {
            let x = start + i as f64 * SWATCH;
            canvas.rect((x, 45.0), (x + SWATCH, 57.0), *ink, 1.0)?;
        }
        canvas.text("score 0", (start - 6.0, 56.0), look, Anchor::End)?;
        canvas.text("1", (end + 6.0, 56.0), look, Anchor::Start)
    }

    fn draw_row(&self, canvas: &mut Canvas<'_>, place: usize) -> Drawn {
        let row = &self.map.rows[place];
        let top = HEADING + 20.0 + place as f64 * ROW_HEIGHT;
        let look = Type::new(13.0, TEXT);
        let label = look.fit(&row.label, LABELS_RIGHT - MARGIN);
        canvas.text(&label, (LABELS_RIGHT, top + 14.0), look, Anchor::End)?;
        let look = Type::new(13.0, MUTED);
        canvas.text(&count(row.n_anomalies), (PLOT_RIGHT, top + 14.0), look, Anchor::End)?;
        let n = self.map.times.len();
        let n_columns = n.min(MAX_COLUMNS);
        let shade = |column: usize| {
            let steps = column * n / n_columns..((column + 1) * n / n_columns);
            shade_of(&row.scores[steps])
        };
        let edge = |column: usize| {
            CELLS_LEFT + (CELLS_RIGHT - CELLS_LEFT) * column as f64 / n_columns as f64
        };
        let mut start = 0;
        while start < n_columns {
            let shade_here = shade(start);
            let mut end = start + 1;
            while end < n_columns && shade(end) == shade_here {
                end += 1;
            }
            if let Some(i) = shade_here {
                let (from, to) = ((edge(start), top), (edge(end), top + ROW_HEIGHT - 2.0));
                canvas.rect(from, to, HEAT[i], 1.0)?;
            }
            start = end;
        }
        Ok(())
    }
}

/// Place of the highest score's colour; `None` if nothing was scored.
fn shade_of(scores: &[f64]) -> Option<usize> {
    let highest = scores.iter().copied().filter(|s| !s.is_nan()).reduce(f64::max)?;
    let last = HEAT.len() - 1;
    Some(((highest.clamp(0.0, 1.0) * HEAT.len() as f64) as usize).min(last))
}

impl Picture for HeatmapPicture<'_> {
    fn name(&self) -> String {
        format!("heat map of level {}", self.level)
    }

    fn size(&self) -> (u32, u32) {
        let rows = self.n_rows().max(2) as f64 * ROW_HEIGHT;
        (WIDTH, (HEADING + 20.0 + rows + TIME_LABELS).ceil() as u32)
    }

    fn draw(&self, canvas: &mut Canvas<'_>) -> Drawn {
        canvas.paper(self.size())?;
        heading(canvas, &format!("Scores of level {}", self.level), &self.subtitle(), 260.0)?;
        self.draw_scale(canvas)?;
        let look = Type::new(12.0, MUTED);
        canvas.text("anomalies", (PLOT_RIGHT, HEADING + 12.0), look, Anchor::End)?;
        for place in 0..self.n_rows() {
            self.draw_row(canvas, place)?;
        }
        if self.n_rows() == 0 {
            let at = (f64::from(WIDTH) / 2.0, HEADING + 40.0);
            canvas.text("no series", at, Type::new(15.0, MUTED), Anchor::Middle)?;
        }
        self.time.labels(canvas, HEADING + 20.0 + self.n_rows().max(2) as f64 * ROW_HEIGHT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bin_shows_its_highest_score_and_nothing_for_no_score() {
        assert_eq!(shade_of(&[0.0, 0.99, f64::NAN]), Some(8));
        assert_eq!(shade_of(&[0.0, 0.01]), Some(0));
        assert_eq!(shade_of(&[1.0]), Some(8));
        assert_eq!(shade_of(&[f64::NAN]), None);
        assert_eq!(shade_of(&[]), None);
    }
}
