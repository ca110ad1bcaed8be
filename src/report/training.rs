//! The training curve: loss by epoch, and the epoch whose weights were kept.

use crate::report::{
    axis::{Axis, extent},
    canvas::{Anchor, Canvas, Drawn, Picture, Type},
    data::TrainingCurve,
    format::{counted, value},
    frame::{HEADING, MARGIN, PLOT_LEFT, PLOT_RIGHT, Pane, TIME_LABELS, WIDTH, heading},
    legend::{Legend, Sample},
    palette::{EXPECTED, FRAME, MUTED, TEXT, THRESHOLD},
};

const PLOT_HEIGHT: f64 = 300.0;

/// A [`TrainingCurve`] with its layout.
pub struct TrainingPicture<'a> {
    curve: &'a TrainingCurve,
    pane: Pane,
    n_epochs: usize,
}

impl<'a> TrainingPicture<'a> {
    pub fn new(curve: &'a TrainingCurve) -> Self {
        let n_epochs = curve.train_loss.len().max(curve.validation_loss.len());
        let losses = curve.train_loss.iter().chain(&curve.validation_loss);
        let axis = match extent(losses) {
            Some((low, high)) if low > 0.0 && high > 10.0 * low => Axis::log(low, high),
            range => Axis::linear(range),
        };
        let top = HEADING + 36.0;
        Self { curve, pane: Pane { top, bottom: top + PLOT_HEIGHT, axis }, n_epochs }
    }

    /// Where epoch `place` (from 0) lies.
    fn x(&self, place: usize) -> f64 {
        let share = (place as f64 + 0.5) / self.n_epochs.max(1) as f64;
        PLOT_LEFT + share * (PLOT_RIGHT - PLOT_LEFT)
    }

    fn draw_epochs(&self, canvas: &mut Canvas<'_>) -> Drawn {
        let look = Type::new(13.0, MUTED);
        let stride = epoch_stride(self.n_epochs);
        let places = (0..self.n_epochs).filter(|p| (p + 1) % stride == 0 || *p == 0 && stride < 5);
        for place in places {
            let x = self.x(place);
            canvas.line(&[(x, self.pane.bottom), (x, self.pane.bottom + 5.0)], 1.0, FRAME)?;
            let at = (x, self.pane.bottom + 20.0);
            canvas.text(&(place + 1).to_string(), at, look, Anchor::Middle)?;
        }
        let at = (PLOT_RIGHT, self.pane.bottom + 38.0);
        canvas.text("epoch", at, Type::bold(13.0, TEXT), Anchor::End)
    }

    fn draw_best(&self, canvas: &mut Canvas<'_>) -> Drawn {
        let Some(best) = self.curve.best_epoch.filter(|best| *best < self.n_epochs) else {
            return Ok(());
        };
        let x = self.x(best);
        canvas.dashes((x, self.pane.top), (x, self.pane.bottom), 1.25, MUTED)?;
        let loss = self
            .curve
            .validation_loss
            .get(best)
            .or_else(|| self.curve.train_loss.get(best))
            .copied()
            .unwrap_or(f64::NAN);
        let ink = if self.curve.validation_loss.is_empty() { EXPECTED } else { THRESHOLD };
        if loss.is_finite() {
            canvas.disc((x, self.pane.y(loss)), 5.5, ink)?;
        }
        let text = format!("best: epoch {}, loss {}", best + 1, value(loss));
        let look = Type::bold(13.0, TEXT);
        let half = look.width(&text) / 2.0;
        let centre = x.clamp(PLOT_LEFT + half, PLOT_RIGHT - half);
        canvas.text(&text, (centre, self.pane.top - 8.0), look, Anchor::Middle)
    }
}

/// Epochs between two labels, so that about 15 fit.
fn epoch_stride(n_epochs: usize) -> usize {
    let mut power = 1;
    loop {
        for factor in [1, 2, 5] {
            if n_epochs / (factor * power) <= 18 {
                return factor * power;
            }
        }
        power *= 10;
    }
}

impl Picture for TrainingPicture<'_> {
    fn name(&self) -> String {
        "training_curve".into()
    }

    fn size(&self) -> (u32, u32) {
        (WIDTH, (self.pane.bottom + TIME_LABELS).ceil() as u32)
    }

    fn draw(&self, canvas: &mut Canvas<'_>) -> Drawn {
        canvas.paper(self.size())?;
        let mut subtitle = vec![counted(self.n_epochs, "epoch", "epochs")];
        if !self.curve.ended.is_empty() {
            subtitle.push(self.curve.ended.clone());
        }
        let mut items = vec![(Sample::Line(EXPECTED), "training loss".to_string())];
        if !self.curve.validation_loss.is_empty() {
            items.push((Sample::Line(THRESHOLD), "validation loss".into()));
        }
        let legend = Legend::flow(items, PLOT_RIGHT - MARGIN);
        heading(canvas, &self.curve.title, &subtitle.join("  ·  "), legend.width() + 30.0)?;
        legend.draw(canvas, (PLOT_RIGHT - legend.width(), 54.0))?;
        self.pane.grid(canvas)?;
        self.pane.ground(canvas)?;
        self.draw_epochs(canvas)?;
        let xs: Vec<f64> = (0..self.n_epochs).map(|place| self.x(place)).collect();
        self.pane.curve(canvas, &xs, &self.curve.train_loss, 2.0, EXPECTED)?;
        self.pane.curve(canvas, &xs, &self.curve.validation_loss, 2.0, THRESHOLD)?;
        self.draw_best(canvas)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epoch_labels_have_room() {
        for n in [0, 1, 7, 50, 500, 12_345] {
            assert!(n / epoch_stride(n) <= 18, "{n}");
        }
        assert_eq!(epoch_stride(50), 5);
    }
}
