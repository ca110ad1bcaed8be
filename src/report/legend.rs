//! Legends: a flow of small samples with their names, above the plot where no data are.

use crate::{
    ensemble::{AnomalyType, Severity},
    report::{
        canvas::{Anchor, Canvas, Drawn, Point, Type},
        palette::{EVENT, Ink, MUTED, PAPER, TEXT, severity_ink, shape},
    },
};

/// What stands before a name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sample {
    Line(Ink),
    Dashes(Ink),
    /// An interval around an expectation.
    Band(Ink),
    /// A tinted interval of time.
    Event,
    /// A thin strip along the time axis.
    Strip(Ink),
    Mark(AnomalyType, Ink, f64),
}

/// Names the samples of a picture, in rows of at most a given width.
#[derive(Clone, Debug, Default)]
pub struct Legend {
    placed: Vec<(f64, usize, Sample, String)>,
    pub rows: usize,
}

/// Height of one row in pixels.
pub const ROW: f64 = 22.0;
const SAMPLE_WIDTH: f64 = 22.0;
const GAP: f64 = 20.0;
const LOOK: Type = Type { em: 13.0, bold: false, ink: TEXT };

/// Name of a severity's or type's sample: `level shift`.
pub fn words(name: &str) -> String {
    name.replace('_', " ")
}

impl Legend {
    /// Flows `items` into rows of `width` pixels.
    pub fn flow(items: Vec<(Sample, String)>, width: f64) -> Self {
        let mut legend = Self::default();
        let (mut x, mut row) = (0.0, 0);
        for (sample, name) in items {
            let needed = SAMPLE_WIDTH + LOOK.width(&name);
            if x > 0.0 && x + needed > width {
                (x, row) = (0.0, row + 1);
            }
            legend.placed.push((x, row, sample, name));
            legend.rows = row + 1;
            x += needed + GAP;
        }
        legend
    }

    /// Two groups on one row if they fit, otherwise the second on a row of its own.
    pub fn groups(first: Vec<(Sample, String)>, second: Vec<(Sample, String)>, width: f64) -> Self {
        let together = Self::flow(first.iter().chain(&second).cloned().collect(), width);
        if together.rows <= 1 || second.is_empty() {
            return together;
        }
        let mut legend = Self::flow(first, width);
        let below = Self::flow(second, width);
        let offset = legend.rows;
        legend.placed.extend(
            below.placed.into_iter().map(|(x, row, sample, name)| (x, row + offset, sample, name)),
        );
        legend.rows += below.rows;
        legend
    }

    /// Pixels that the last row takes.
    pub fn width(&self) -> f64 {
        self.placed.last().map_or(0.0, |(x, _, _, name)| x + SAMPLE_WIDTH + LOOK.width(name))
    }

    pub fn height(&self) -> f64 {
        self.rows as f64 * ROW
    }

    /// Draws with the first row's middle at `y`.
    pub fn draw(&self, canvas: &mut Canvas<'_>, (x, y): Point) -> Drawn {
        for (dx, row, sample, name) in &self.placed {
            let at = (x + dx, y + *row as f64 * ROW);
            draw_sample(canvas, *sample, at)?;
            canvas.text(name, (at.0 + SAMPLE_WIDTH, at.1 + 4.5), LOOK, Anchor::Start)?;
        }
        Ok(())
    }
}

fn draw_sample(canvas: &mut Canvas<'_>, sample: Sample, (x, y): Point) -> Drawn {
    let end = x + 16.0;
    match sample {
        Sample::Line(ink) => canvas.line(&[(x, y), (end, y)], 2.0, ink),
        Sample::Dashes(ink) => canvas.dashes((x, y), (end, y), 1.75, ink),
        Sample::Band(ink) => canvas.rect((x, y - 6.0), (end, y + 6.0), ink, 0.2),
        Sample::Event => {
            canvas.rect((x, y - 6.0), (end, y + 6.0), EVENT, 0.28)?;
            canvas.rect((x, y - 6.0), (end, y - 3.0), EVENT, 1.0)
        }
        Sample::Strip(ink) => canvas.rect((x, y - 2.5), (end, y + 2.5), ink, 1.0),
        Sample::Mark(kind, ink, radius) => mark(canvas, kind, (x + 8.0, y), radius, ink),
    }
}

/// An anomaly's mark: its type's shape with a halo, so that it stands clear of the line.
pub fn mark(
    canvas: &mut Canvas<'_>,
    kind: AnomalyType,
    (x, y): Point,
    radius: f64,
    ink: Ink,
) -> Drawn {
    let outline = |radius: f64| -> Vec<Point> {
        shape(kind).into_iter().map(|(dx, dy)| (x + dx * radius, y + dy * radius)).collect()
    };
    canvas.polygon(&outline(radius + 2.0), PAPER, 1.0)?;
    canvas.polygon(&outline(radius), ink, 1.0)
}

/// Samples for the severities and types that occur: colour by severity, shape by type.
pub fn mark_items(severities: &[Severity], kinds: &[AnomalyType]) -> Vec<(Sample, String)> {
    let colours = severities.iter().map(|severity| {
        let sample = Sample::Mark(AnomalyType::Contextual, severity_ink(*severity), 6.0);
        (sample, severity.as_str().to_string())
    });
    let shapes = kinds.iter().map(|kind| (Sample::Mark(*kind, MUTED, 5.5), words(kind.as_str())));
    colours.chain(shapes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_row_flows_into_the_next_and_nothing_leaves_the_width() {
        let items: Vec<_> =
            (0..12).map(|i| (Sample::Event, format!("a name of some length {i}"))).collect();
        let legend = Legend::flow(items, 600.0);
        assert!(legend.rows > 2);
        for (x, _, _, name) in &legend.placed {
            assert!(x + SAMPLE_WIDTH + LOOK.width(name) <= 600.0);
        }
    }
}
