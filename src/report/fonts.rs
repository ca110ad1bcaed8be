//! The fonts that the program carries, so that charts look the same on a machine without any.

use std::sync::LazyLock;

use ab_glyph::{Font, FontRef, InvalidFont, ScaleFont};

use crate::report::format::shown;

/// Regular and medium cut, for the style sheet of the page (Latin only).
pub const WEB_FONTS: [(u32, &[u8]); 2] = [
    (400, include_bytes!("fonts/Roboto-Regular-latin.woff2")),
    (500, include_bytes!("fonts/Roboto-Medium-latin.woff2")),
];

type Parsed = Result<FontRef<'static>, InvalidFont>;

static REGULAR: LazyLock<Parsed> =
    LazyLock::new(|| FontRef::try_from_slice(include_bytes!("fonts/Roboto-Regular.ttf")));
static MEDIUM: LazyLock<Parsed> =
    LazyLock::new(|| FontRef::try_from_slice(include_bytes!("fonts/Roboto-Medium.ttf")));

/// The font for a weight; `None` only if the embedded file were broken, which a test rules out.
fn font(bold: bool) -> Option<&'static FontRef<'static>> {
    let parsed: &'static Parsed = if bold { &MEDIUM } else { &REGULAR };
    parsed.as_ref().ok()
}

/// ab_glyph scales a font by the height from its lowest to its highest point, designers by the em.
fn scale_of(font: &FontRef<'_>, em: f64) -> f32 {
    let per_em = font.units_per_em().unwrap_or(2_048.0);
    (em * f64::from(font.height_unscaled() / per_em)) as f32
}

/// Width of `text` in pixels at `em` pixels per em.
pub fn width(text: &str, em: f64, bold: bool) -> f64 {
    let Some(font) = font(bold) else { return 0.0 };
    let scaled = font.as_scaled(scale_of(font, em));
    text.chars().map(|c| f64::from(scaled.h_advance(scaled.glyph_id(c)))).sum()
}

/// Calls `dot(x, y, coverage)` for every pixel that `text` touches, its baseline starting at
/// `(x, y)`.
pub fn rasterise(
    text: &str,
    em: f64,
    bold: bool,
    (x, y): (f64, f64),
    mut dot: impl FnMut(i32, i32, f32),
) {
    let Some(font) = font(bold) else { return };
    let scale = scale_of(font, em);
    let scaled = font.as_scaled(scale);
    let mut pen = x as f32;
    for c in text.chars() {
        let id = scaled.glyph_id(c);
        let glyph = id.with_scale_and_position(scale, ab_glyph::point(pen, y as f32));
        if let Some(outline) = font.outline_glyph(glyph) {
            let corner = outline.px_bounds().min;
            outline.draw(|dx, dy, coverage| {
                dot(corner.x as i32 + dx as i32, corner.y as i32 + dy as i32, coverage);
            });
        }
        pen += scaled.h_advance(id);
    }
}

/// `text` on one line without control characters, shortened in the middle to `max` pixels.
///
/// The middle goes first because keys tend to differ at their ends.
pub fn fit(text: &str, em: f64, bold: bool, max: f64) -> String {
    let chars: Vec<char> = text.chars().filter_map(shown).take(2_000).collect();
    let whole: String = chars.iter().collect();
    if width(&whole, em, bold) <= max {
        return whole;
    }
    let shortened = |kept: usize| -> String {
        let head = kept.div_ceil(2);
        let tail = kept - head;
        chars[..head].iter().chain(&['…']).chain(&chars[chars.len() - tail..]).collect()
    };
    // The widest that fits: width grows with the number of characters kept.
    let (mut low, mut high) = (0, chars.len().saturating_sub(1));
    while low < high {
        let middle = (low + high).div_ceil(2);
        if width(&shortened(middle), em, bold) <= max {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    shortened(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_fonts_are_whole() {
        assert!(font(false).is_some() && font(true).is_some());
        assert!(width("m", 100.0, false) > 50.0);
        assert!(width("anomaly", 14.0, true) > width("anomaly", 14.0, false));
    }

    #[test]
    fn a_long_title_keeps_both_ends_and_fits() {
        let long = "retail / basket / ".repeat(30) + "the end";
        let short = fit(&long, 16.0, true, 300.0);
        assert!(width(&short, 16.0, true) <= 300.0);
        assert!(short.starts_with("retail") && short.ends_with("end") && short.contains('…'));
        assert_eq!(fit("a\nb\u{0}", 16.0, true, 300.0), "a b ");
        assert_eq!(fit("abc", 16.0, false, 1.0), "…");
    }

    #[test]
    fn text_is_drawn_around_its_baseline() {
        let (mut top, mut bottom) = (i32::MAX, i32::MIN);
        rasterise("H", 100.0, false, (0.0, 200.0), |_, y, coverage| {
            if coverage > 0.5 {
                top = top.min(y);
                bottom = bottom.max(y);
            }
        });
        // Roboto's capitals are 0.711 em high and stand on the baseline.
        assert!((128..=130).contains(&top) && (198..=200).contains(&bottom), "{top} {bottom}");
    }
}
