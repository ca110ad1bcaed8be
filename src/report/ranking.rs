//! Which series deserve a look first: bars of anomalous points, with the largest deviation.

use crate::report::{
    canvas::{Anchor, Canvas, Drawn, Picture, Type},
    data::{SeriesTally, rank},
    format::{count, grouped, value},
    frame::{HEADING, MARGIN, PLOT_RIGHT, WIDTH, heading},
    palette::{EXPECTED, FRAME, MUTED, TEXT},
};

/// Bars that are drawn.
pub const MAX_BARS: usize = 20;
const ROW_HEIGHT: f64 = 27.0;
const LABELS_RIGHT: f64 = 400.0;
const BARS_LEFT: f64 = 412.0;
const BARS_RIGHT: f64 = 1_000.0;

/// The top of a ranking with its layout.
pub struct RankingPicture<'a> {
    level: &'a str,
    bars: Vec<&'a SeriesTally>,
    left_out: usize,
}

impl<'a> RankingPicture<'a> {
    /// Ranks `tallies` by [`rank`] and keeps the first [`MAX_BARS`] that have anomalies.
    pub fn new(tallies: &'a [SeriesTally], level: &'a str) -> Self {
        let ranked: Vec<&SeriesTally> =
            rank(tallies).into_iter().map(|i| &tallies[i]).filter(|t| t.n_anomalies > 0).collect();
        let left_out = ranked.len().saturating_sub(MAX_BARS);
        Self { level, bars: ranked.into_iter().take(MAX_BARS).collect(), left_out }
    }

    pub fn is_empty(&self) -> bool {
        self.bars.is_empty()
    }

    fn draw_bar(&self, canvas: &mut Canvas<'_>, place: usize, longest: usize) -> Drawn {
        let tally = self.bars[place];
        let top = HEADING + 24.0 + place as f64 * ROW_HEIGHT;
        let baseline = top + 15.0;
        let look = Type::new(14.0, TEXT);
        let label = look.fit(&tally.label, LABELS_RIGHT - MARGIN);
        canvas.text(&label, (LABELS_RIGHT, baseline), look, Anchor::End)?;
        let share = tally.n_anomalies as f64 / longest.max(1) as f64;
        let end = BARS_LEFT + (BARS_RIGHT - BARS_LEFT) * share;
        canvas.rect((BARS_LEFT, top), (end.max(BARS_LEFT + 2.0), top + 20.0), EXPECTED, 1.0)?;
        let look = Type::bold(14.0, TEXT);
        canvas.text(&count(tally.n_anomalies), (end + 8.0, baseline), look, Anchor::Start)?;
        let ratio = match tally.largest_deviation_ratio {
            r if r.is_nan() => "–".to_string(),
            r if r.abs() < 1e6 => format!("× {}", grouped(r, 1)),
            r => format!("× {}", value(r)),
        };
        canvas.text(&ratio, (PLOT_RIGHT, baseline), Type::new(14.0, MUTED), Anchor::End)
    }
}

impl Picture for RankingPicture<'_> {
    fn name(&self) -> String {
        format!("ranking of level {}", self.level)
    }

    fn size(&self) -> (u32, u32) {
        let rows = self.bars.len().max(2) as f64 * ROW_HEIGHT;
        (WIDTH, (HEADING + 24.0 + rows + 18.0).ceil() as u32)
    }

    fn draw(&self, canvas: &mut Canvas<'_>) -> Drawn {
        canvas.paper(self.size())?;
        let mut subtitle =
            "by number of anomalous points, then by the largest observed / expected".to_string();
        if self.left_out > 0 {
            subtitle += &format!("  ·  {} more series with anomalies", count(self.left_out));
        }
        heading(canvas, &format!("Most anomalous series of level {}", self.level), &subtitle, 0.0)?;
        let look = Type::new(12.0, MUTED);
        let y = HEADING + 14.0;
        canvas.text("anomalous points", (BARS_LEFT, y), look, Anchor::Start)?;
        canvas.text("largest ratio", (PLOT_RIGHT, y), look, Anchor::End)?;
        let longest = self.bars.iter().map(|t| t.n_anomalies).max().unwrap_or(0);
        for place in 0..self.bars.len() {
            self.draw_bar(canvas, place, longest)?;
        }
        let bottom = HEADING + 24.0 + self.bars.len() as f64 * ROW_HEIGHT;
        canvas.line(&[(BARS_LEFT, HEADING + 20.0), (BARS_LEFT, bottom)], 1.0, FRAME)
    }
}
