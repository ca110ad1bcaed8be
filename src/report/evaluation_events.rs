//! Which labelled events were found, and how soon.

use crate::report::{
    axis::{Axis, Scale},
    canvas::{Anchor, Canvas, Drawn, Picture, Type},
    evaluation::{EvaluationCharts, Plot, SHARES, ink_of, scorer_legend},
    format::{count, counted},
    frame::{HEADING, MARGIN, PLOT_LEFT, PLOT_RIGHT, WIDTH, heading},
    legend::{Legend, words},
    palette::{EXPECTED, GRID, MUTED, PAPER, TEXT, THRESHOLD},
};

/// Bars of the histogram, the last for events that were missed.
const MAX_BARS: usize = 14;
const ROW: f64 = 34.0;
/// Kinds that are drawn, the most frequent first.
const MAX_KINDS: usize = 12;
/// Room for the kinds' names.
const NAMES: f64 = 190.0;

/// A bar: what stands under it and how many events it counts.
struct Bar {
    label: String,
    events: usize,
}

/// A histogram and a dot plot side by side.
pub struct EventsPicture<'a> {
    level: &'a EvaluationCharts,
    legend: Legend,
    bars: Vec<Bar>,
    delays: Plot,
    kinds: Plot,
    /// Places in the level's kinds.
    order: Vec<usize>,
}

impl<'a> EventsPicture<'a> {
    pub fn new(level: &'a EvaluationCharts) -> Self {
        let legend = scorer_legend(&level.scorers, Vec::new(), PLOT_RIGHT - MARGIN);
        let bars = bars(level);
        let mut order: Vec<usize> = (0..level.kinds.len()).collect();
        order.sort_by_key(|&i| (std::cmp::Reverse(level.kinds[i].events), &level.kinds[i].kind));
        order.truncate(MAX_KINDS);
        let top = HEADING + legend.height() + 58.0;
        let bottom = top + (order.len() as f64 * ROW).max(260.0);
        let most = bars.iter().map(|bar| bar.events).max().unwrap_or(0).max(4) as f64;
        let middle = 0.5 * (PLOT_LEFT + PLOT_RIGHT) - 40.0;
        let counts = Axis { low: 0.0, high: most * 1.12, scale: Scale::Linear };
        let places = Axis { low: 0.0, high: bars.len().max(1) as f64, scale: Scale::Linear };
        let rows = Axis { low: 0.0, high: order.len().max(1) as f64, scale: Scale::Linear };
        Self {
            level,
            legend,
            delays: Plot { left: PLOT_LEFT, right: middle, top, bottom, x: places, y: counts },
            kinds: Plot {
                left: middle + 40.0 + NAMES,
                right: PLOT_RIGHT - 10.0,
                top,
                bottom,
                x: SHARES,
                y: rows,
            },
            bars,
            order,
        }
    }

    fn is_records(&self) -> bool {
        is_records(self.level)
    }

    fn what(&self) -> &'static str {
        if self.is_records() { "rows" } else { "events" }
    }

    fn draw_delays(&self, canvas: &mut Canvas<'_>) -> Drawn {
        let plot = &self.delays;
        let unit = match self.level.step.as_str() {
            step @ ("hour" | "day" | "week") => format!("{step}s"),
            step => format!("steps of {step}"),
        };
        if self.is_records() {
            plot.title(canvas, "Labelled rows and the ensemble", "", "rows")?;
        } else {
            let title = "Delay of the ensemble's first flag";
            plot.title(canvas, title, &format!("delay in {unit}"), "events")?;
        }
        plot.horizontal(canvas)?;
        let (number, label) = (Type::bold(13.0, TEXT), Type::new(13.0, MUTED));
        for (place, bar) in self.bars.iter().enumerate() {
            let is_missed = place + 1 == self.bars.len();
            let ink = if is_missed { THRESHOLD } else { EXPECTED };
            let from = plot.at(place as f64 + 0.12, bar.events as f64);
            let to = plot.at(place as f64 + 0.88, 0.0);
            canvas.rect(from, to, ink, 1.0)?;
            let centre = 0.5 * (from.0 + to.0);
            if bar.events > 0 {
                let at = (centre, from.1 - 6.0);
                canvas.text(&count(bar.events), at, number, Anchor::Middle)?;
            }
            canvas.text(&bar.label, (centre, plot.bottom + 20.0), label, Anchor::Middle)?;
        }
        Ok(())
    }

    fn draw_kinds(&self, canvas: &mut Canvas<'_>) -> Drawn {
        let plot = &self.kinds;
        let title = format!("Share of {} found, by kind", self.what());
        plot.title(canvas, &title, "share found", "")?;
        plot.vertical(canvas)?;
        let look = Type::new(14.0, TEXT);
        for (row, &kind) in self.order.iter().enumerate() {
            let kind = &self.level.kinds[kind];
            let from_foot = (self.order.len() - row) as f64 - 0.5;
            let (left, y) = plot.at(0.0, from_foot);
            canvas.line(&[(left, y), (plot.right, y)], 1.0, GRID)?;
            let name = format!("{} ({})", words(&kind.kind), count(kind.events));
            let name = look.fit(&name, NAMES - 14.0);
            canvas.text(&name, (left - 14.0, y + 5.0), look, Anchor::End)?;
            for (place, recall) in kind.recall.iter().enumerate().rev() {
                let who = self.level.scorers.get(place).map_or("", String::as_str);
                let centre = plot.at(*recall, from_foot);
                let radius = if place == 0 { 7.5 } else { 5.5 };
                canvas.disc(centre, radius + 1.5, PAPER)?;
                canvas.disc(centre, radius, ink_of(who, place))?;
            }
        }
        Ok(())
    }
}

/// Records have no calendar, so no delay: a row is found or missed.
fn is_records(level: &EvaluationCharts) -> bool {
    level.step == "record"
}

/// Delays in bars of equal width, and the events that were missed.
fn bars(level: &EvaluationCharts) -> Vec<Bar> {
    let longest = level.delays.iter().map(|(delay, _)| *delay).max().unwrap_or(0);
    let width = (longest + 1).div_ceil(MAX_BARS - 1).max(1);
    let n = (longest + 1).div_ceil(width);
    let mut bars: Vec<Bar> = (0..n)
        .map(|i| Bar {
            label: match width {
                _ if is_records(level) => "found".into(),
                1 => i.to_string(),
                _ => format!("{}–{}", i * width, (i + 1) * width - 1),
            },
            events: 0,
        })
        .collect();
    for (delay, events) in &level.delays {
        bars[delay / width].events += events;
    }
    bars.push(Bar { label: "missed".into(), events: level.missed });
    bars
}

impl Picture for EventsPicture<'_> {
    fn name(&self) -> String {
        format!("labelled events of level {}", self.level.level)
    }

    fn size(&self) -> (u32, u32) {
        (WIDTH, (self.delays.bottom + 54.0).ceil() as u32)
    }

    fn draw(&self, canvas: &mut Canvas<'_>) -> Drawn {
        canvas.paper(self.size())?;
        let events = self.level.kinds.iter().map(|kind| kind.events).sum();
        let mut subtitle = match self.is_records() {
            true => counted(events, "labelled row", "labelled rows"),
            false => counted(events, "labelled event", "labelled events"),
        };
        let left_out = self.level.kinds.len() - self.order.len();
        if left_out > 0 {
            subtitle += &format!("  ·  {} left out", counted(left_out, "rare kind", "rare kinds"));
        }
        let title = match self.is_records() {
            true => "Rows found".to_string(),
            false => format!("Events found, level {}", self.level.level),
        };
        heading(canvas, &title, &subtitle, 0.0)?;
        self.legend.draw(canvas, (MARGIN, HEADING + 12.0))?;
        self.draw_delays(canvas)?;
        self.draw_kinds(canvas)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_delays_share_bars_and_none_is_lost() {
        let level = EvaluationCharts {
            delays: vec![(0, 4), (7, 2), (200, 1)],
            missed: 5,
            ..EvaluationCharts::default()
        };
        let bars = bars(&level);
        assert!(bars.len() <= MAX_BARS);
        assert_eq!(bars.iter().map(|bar| bar.events).sum::<usize>(), 12);
        assert_eq!(bars[bars.len() - 1].label, "missed");
        assert_eq!((bars[0].label.as_str(), bars[0].events), ("0–15", 6));
    }
}
