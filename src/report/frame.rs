//! What pictures share: a heading, panes with a value axis, and one time axis for all of them.

use crate::report::{
    axis::{Axis, Scale},
    canvas::{Anchor, Canvas, Drawn, Point, Type},
    decimate,
    format::{axis_labels, value},
    palette::{FRAME, GRID, Ink, MUTED, TEXT},
    time_axis::{self, TimeTick},
};

/// Width of every chart in pixels.
pub const WIDTH: u32 = 1_200;
/// Where text and the heading begin.
pub const MARGIN: f64 = 24.0;
/// Where the plot begins: room for `1,234,567` before it.
pub const PLOT_LEFT: f64 = 84.0;
/// Where the plot ends.
pub const PLOT_RIGHT: f64 = 1_176.0;
/// Height that the heading takes.
pub const HEADING: f64 = 72.0;
/// Height that the labels of the time axis take.
pub const TIME_LABELS: f64 = 50.0;

/// Title and subtitle, shortened to the picture's width less `reserved` pixels at the right.
pub fn heading(canvas: &mut Canvas<'_>, title: &str, subtitle: &str, reserved: f64) -> Drawn {
    let room = f64::from(WIDTH) - 2.0 * MARGIN;
    let look = Type::bold(20.0, TEXT);
    canvas.text(&look.fit(title, room), (MARGIN, 35.0), look, Anchor::Start)?;
    let look = Type::new(14.0, MUTED);
    let subtitle = look.fit(subtitle, room - reserved);
    canvas.text(&subtitle, (MARGIN, 58.0), look, Anchor::Start)
}

/// A rectangle with a value axis at its left.
#[derive(Clone, Copy, Debug)]
pub struct Pane {
    pub top: f64,
    pub bottom: f64,
    pub axis: Axis,
}

impl Pane {
    /// The height of a value; outside values lie on the edge, `NaN` stays `NaN`.
    pub fn y(&self, value: f64) -> f64 {
        self.bottom - self.axis.share(value) * (self.bottom - self.top)
    }

    /// Horizontal grid lines with their values.
    pub fn grid(&self, canvas: &mut Canvas<'_>) -> Drawn {
        let wanted = ((self.bottom - self.top) / 48.0).round().max(3.0) as usize;
        let ticks = self.axis.ticks(wanted);
        let look = Type::new(13.0, MUTED);
        for (tick, label) in ticks.iter().zip(axis_labels_of(&self.axis, &ticks)) {
            let y = self.y(*tick);
            canvas.line(&[(PLOT_LEFT, y), (PLOT_RIGHT, y)], 1.0, GRID)?;
            canvas.text(&label, (PLOT_LEFT - 8.0, y + 4.5), look, Anchor::End)?;
        }
        Ok(())
    }

    /// The line that the data stand on.
    pub fn ground(&self, canvas: &mut Canvas<'_>) -> Drawn {
        canvas.line(&[(PLOT_LEFT, self.bottom), (PLOT_RIGHT, self.bottom)], 1.0, FRAME)
    }

    /// Draws `values` over `xs`, with gaps at `NaN`.
    pub fn curve(
        &self,
        canvas: &mut Canvas<'_>,
        xs: &[f64],
        values: &[f64],
        width: f64,
        ink: Ink,
    ) -> Drawn {
        let points = xs.iter().zip(values).map(|(&x, &v)| (x, self.y_of_finite(v)));
        for run in decimate::line(points, 1.0) {
            canvas.line(&run, width, ink)?;
        }
        Ok(())
    }

    /// Fills between two curves, with gaps where either is `NaN`. An infinite end is cut off at
    /// the pane's edge.
    pub fn band(
        &self,
        canvas: &mut Canvas<'_>,
        points: impl Iterator<Item = (f64, f64, f64)>,
        ink: Ink,
        alpha: f64,
    ) -> Drawn {
        let pixels = points.map(|(x, low, high)| (x, self.y(high), self.y(low)));
        for run in decimate::band(pixels, 1.0) {
            let outline: Vec<Point> = match run[..] {
                [(x, top, bottom)] => {
                    vec![(x - 2.0, top), (x + 2.0, top), (x + 2.0, bottom), (x - 2.0, bottom)]
                }
                _ => {
                    let upper = run.iter().map(|p| (p.0, p.1));
                    upper.chain(run.iter().rev().map(|p| (p.0, p.2))).collect()
                }
            };
            canvas.polygon(&outline, ink, alpha)?;
        }
        Ok(())
    }

    fn y_of_finite(&self, value: f64) -> f64 {
        if value.is_finite() { self.y(value) } else { f64::NAN }
    }
}

fn axis_labels_of(axis: &Axis, ticks: &[f64]) -> Vec<String> {
    match axis.scale {
        Scale::Linear => axis_labels(ticks),
        Scale::Log => ticks.iter().map(|&t| value(t)).collect(),
    }
}

/// Maps seconds to pixels, with half a step of air at both ends.
#[derive(Clone, Debug)]
pub struct TimeScale {
    from: f64,
    to: f64,
    left: f64,
    right: f64,
    half_step: f64,
    pub ticks: Vec<TimeTick>,
}

impl TimeScale {
    pub fn new(times: &[i64], step_secs: i64, (left, right): (f64, f64)) -> Self {
        let (first, last) =
            (times.first().copied().unwrap_or(0), times.last().copied().unwrap_or(0));
        let half_step = step_secs.max(1) as f64 / 2.0;
        Self {
            from: first as f64 - half_step,
            to: last as f64 + half_step,
            left,
            right,
            half_step,
            ticks: if times.is_empty() {
                Vec::new()
            } else {
                time_axis::ticks(first, last, step_secs, right - left)
            },
        }
    }

    pub fn x(&self, secs: f64) -> f64 {
        self.left + (secs - self.from) / (self.to - self.from) * (self.right - self.left)
    }

    /// The edges of steps `range` of `times`; `None` for an empty range.
    pub fn edges(&self, times: &[i64], range: &std::ops::Range<usize>) -> Option<(f64, f64)> {
        let inside = times.get(range.start..range.end.min(times.len()))?;
        let (first, last) = (*inside.first()?, *inside.last()?);
        Some((self.x(first as f64 - self.half_step), self.x(last as f64 + self.half_step)))
    }

    /// Vertical grid lines through a pane.
    pub fn grid(&self, canvas: &mut Canvas<'_>, top: f64, bottom: f64) -> Drawn {
        for tick in &self.ticks {
            let x = self.x(tick.secs as f64);
            canvas.line(&[(x, top), (x, bottom)], 1.0, GRID)?;
        }
        Ok(())
    }

    /// Labels below a pane that ends at `bottom`.
    pub fn labels(&self, canvas: &mut Canvas<'_>, bottom: f64) -> Drawn {
        let (main, second) = (Type::new(13.0, MUTED), Type::bold(13.0, TEXT));
        let mut free_from = f64::NEG_INFINITY;
        for tick in &self.ticks {
            let x = self.x(tick.secs as f64);
            canvas.line(&[(x, bottom), (x, bottom + 5.0)], 1.0, FRAME)?;
            canvas.text(&tick.label, (x, bottom + 20.0), main, Anchor::Middle)?;
            let Some(text) = &tick.second_line else { continue };
            let half = second.width(text) / 2.0;
            // The first label may belong to a stump of a period and crowd the next one.
            if x - half >= free_from {
                canvas.text(text, (x, bottom + 37.0), second, Anchor::Middle)?;
                free_from = x + half + 10.0;
            }
        }
        Ok(())
    }
}
