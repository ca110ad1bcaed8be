//! Colours and shapes.
//!
//! The hues are Okabe and Ito's ("Color Universal Design", 2008), which stay apart under the
//! common colour-vision deficiencies. Severity also grows in size and darkness, and type is told
//! by shape, so a grey print still reads. Each colour has a twin for the dark theme; the page
//! swaps them by the colour attribute in the SVG, so every light value here must be unique.

use std::{f64::consts::PI, fmt::Write as _};

use crate::ensemble::{AnomalyType, Severity};

/// A colour for white paper and its twin for the dark theme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ink {
    pub light: (u8, u8, u8),
    pub dark: (u8, u8, u8),
}

const fn rgb(hex: u32) -> (u8, u8, u8) {
    let bytes = hex.to_be_bytes();
    (bytes[1], bytes[2], bytes[3])
}

const fn ink(light: u32, dark: u32) -> Ink {
    Ink { light: rgb(light), dark: rgb(dark) }
}

/// `#RRGGBB`, as the SVG backend writes it.
pub fn hex((r, g, b): (u8, u8, u8)) -> String {
    format!("#{r:02X}{g:02X}{b:02X}")
}

pub const PAPER: Ink = ink(0xFFFFFF, 0x171C23);
pub const TEXT: Ink = ink(0x1B242D, 0xE8EDF2);
pub const MUTED: Ink = ink(0x5A6672, 0x9DA9B5);
pub const GRID: Ink = ink(0xE9ECEF, 0x29313A);
pub const FRAME: Ink = ink(0xB4BCC5, 0x4A5663);
pub const OBSERVED: Ink = ink(0x2B3640, 0xD5DCE3);
pub const EXPECTED: Ink = ink(0x0072B2, 0x56B4E9);
pub const RECONSTRUCTED: Ink = ink(0x00916A, 0x35C79B);
pub const ERROR: Ink = ink(0x6B5B95, 0xB3A3DB);
pub const THRESHOLD: Ink = ink(0xC24E00, 0xFF8A3D);
pub const EVENT: Ink = ink(0xE5D52F, 0xD8C93A);
pub const EVENT_TEXT: Ink = ink(0x7A6E00, 0xE3D75F);
pub const TRUTH: Ink = ink(0x009E73, 0x2FBF92);

const LOW: Ink = ink(0x56B4E9, 0x6FC3F2);
const MEDIUM: Ink = ink(0xE69F00, 0xF2B632);
const HIGH: Ink = ink(0xD55E00, 0xFF7A1F);
const CRITICAL: Ink = ink(0x8E1652, 0xFF6FB5);

/// Steps of the heat map, from a low to a high score.
pub const HEAT: [Ink; 9] = [
    ink(0xF4F1EA, 0x20262E),
    ink(0xFAE8C8, 0x352E2C),
    ink(0xFBD7A0, 0x503829),
    ink(0xF9C074, 0x744624),
    ink(0xF3A34A, 0x9C561D),
    ink(0xE58029, 0xC76A17),
    ink(0xC95C20, 0xEB8A2B),
    ink(0x9E3A2C, 0xF9B255),
    ink(0x6A1B3D, 0xFFE0A1),
];

/// Every colour, for the dark theme's style sheet.
fn all() -> impl Iterator<Item = Ink> {
    let named = [
        PAPER,
        TEXT,
        MUTED,
        GRID,
        FRAME,
        OBSERVED,
        EXPECTED,
        RECONSTRUCTED,
        ERROR,
        THRESHOLD,
        EVENT,
        EVENT_TEXT,
        TRUTH,
        LOW,
        MEDIUM,
        HIGH,
        CRITICAL,
    ];
    named.into_iter().chain(HEAT)
}

/// Rules that recolour inline SVGs under `scope`.
pub fn dark_rules(scope: &str) -> String {
    let mut css = String::new();
    for Ink { light, dark } in all() {
        let (light, dark) = (hex(light), hex(dark));
        let _ = write!(
            css,
            "{scope} svg [fill=\"{light}\"]{{fill:{dark}}}{scope} svg [stroke=\"{light}\"]{{stroke:{dark}}}"
        );
    }
    css
}

pub fn severity_ink(severity: Severity) -> Ink {
    match severity {
        Severity::Low => LOW,
        Severity::Medium => MEDIUM,
        Severity::High => HIGH,
        Severity::Critical => CRITICAL,
    }
}

/// Radius of a mark in pixels.
pub fn severity_radius(severity: Severity) -> f64 {
    match severity {
        Severity::Low => 5.0,
        Severity::Medium => 5.75,
        Severity::High => 6.5,
        Severity::Critical => 7.5,
    }
}

/// The outline of a type's mark around the origin, at radius 1. `y` grows downwards.
pub fn shape(kind: AnomalyType) -> Vec<(f64, f64)> {
    match kind {
        AnomalyType::Spike => regular(3, -0.5),
        AnomalyType::Drop => regular(3, 0.5),
        AnomalyType::Drift => regular(3, 0.0),
        AnomalyType::LevelShift => scaled(regular(4, 0.25), 1.1),
        AnomalyType::Changepoint => scaled(regular(4, 0.0), 1.1),
        AnomalyType::MixShift => regular(5, -0.5),
        AnomalyType::Pattern => regular(6, 0.0),
        AnomalyType::Contextual => scaled(regular(24, 0.0), 0.92),
        AnomalyType::Burst => star(),
        AnomalyType::Outage => {
            plus().into_iter().map(|(x, y)| ((x - y) * 0.75, (x + y) * 0.75)).collect()
        }
        AnomalyType::ConversionCollapse => plus(),
    }
}

/// A regular polygon whose first corner is at `start` half turns.
fn regular(corners: usize, start: f64) -> Vec<(f64, f64)> {
    (0..corners)
        .map(|i| {
            let angle = PI * (start + 2.0 * i as f64 / corners as f64);
            (angle.cos() * 1.12, angle.sin() * 1.12)
        })
        .collect()
}

fn scaled(points: Vec<(f64, f64)>, by: f64) -> Vec<(f64, f64)> {
    points.into_iter().map(|(x, y)| (x * by, y * by)).collect()
}

fn star() -> Vec<(f64, f64)> {
    (0..10)
        .map(|i| {
            let angle = PI * (-0.5 + f64::from(i) / 5.0);
            let radius = if i % 2 == 0 { 1.3 } else { 0.58 };
            (angle.cos() * radius, angle.sin() * radius)
        })
        .collect()
}

fn plus() -> Vec<(f64, f64)> {
    let (long, short) = (1.15, 0.42);
    vec![
        (-short, -long),
        (short, -long),
        (short, -short),
        (long, -short),
        (long, short),
        (short, short),
        (short, long),
        (-short, long),
        (-short, short),
        (-long, short),
        (-long, -short),
        (-short, -short),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_inks_share_a_light_value() {
        let mut seen: Vec<_> = all().map(|ink| ink.light).collect();
        seen.sort_unstable();
        let n = seen.len();
        seen.dedup();
        assert_eq!(seen.len(), n);
    }

    /// WCAG 2 relative luminance.
    fn luminance((r, g, b): (u8, u8, u8)) -> f64 {
        let channel = |c: u8| {
            let c = f64::from(c) / 255.0;
            if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b)
    }

    fn contrast(a: (u8, u8, u8), b: (u8, u8, u8)) -> f64 {
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn text_stands_out_from_the_paper_in_both_themes() {
        for text in [TEXT, MUTED, EVENT_TEXT] {
            assert!(contrast(text.light, PAPER.light) >= 4.5, "{text:?}");
            assert!(contrast(text.dark, PAPER.dark) >= 4.5, "{text:?}");
        }
        for line in [OBSERVED, EXPECTED, RECONSTRUCTED, ERROR, THRESHOLD] {
            assert!(contrast(line.light, PAPER.light) >= 3.0, "{line:?}");
            assert!(contrast(line.dark, PAPER.dark) >= 3.0, "{line:?}");
        }
    }

    #[test]
    fn the_heat_map_is_ordered_by_brightness() {
        assert!(HEAT.is_sorted_by(|a, b| luminance(a.light) > luminance(b.light)));
        assert!(HEAT.is_sorted_by(|a, b| luminance(a.dark) < luminance(b.dark)));
    }

    #[test]
    fn every_type_has_its_own_shape() {
        for (i, a) in AnomalyType::ALL.iter().enumerate() {
            for b in &AnomalyType::ALL[..i] {
                assert_ne!(shape(*a), shape(*b), "{a} and {b}");
            }
        }
    }
}
