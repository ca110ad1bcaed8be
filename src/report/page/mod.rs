//! The HTML page: one file that opens without a network.
//!
//! Style, script, fonts and charts are inside it. The table of anomalies travels as JSON and a
//! script puts 50 rows at a time into the page, so ten thousand anomalies stay quick; every
//! other part is plain HTML and needs no script. All text of the data reaches the page through
//! [`text`], through the JSON (where `<` is escaped, and which the script only ever
//! sets as text), or through the SVG backend's own escaping.

mod compare;
mod sections;
mod table;

use std::{fmt::Write as _, fs, path::Path};

pub use compare::compare_page;

use crate::{
    ensemble::{AnomalyType, Severity},
    report::{
        data::ReportData,
        error::ReportError,
        fonts::WEB_FONTS,
        format::shown,
        palette::{dark_rules, hex, severity_ink, shape},
    },
};

/// Series charts that the page holds; the rest are in the charts folder only.
pub const MAX_PAGE_CHARTS: usize = 30;
/// Rows that the page's table holds; the rest are in the flag files only.
pub const MAX_PAGE_ROWS: usize = 10_000;

/// Writes [`page`] to `path`.
///
/// # Errors
/// [`ReportError`] naming the file or the chart.
pub fn write_page(data: &ReportData, path: &Path) -> Result<(), ReportError> {
    let html = page(data)?;
    fs::write(path, html).map_err(|source| ReportError::Write { path: path.to_path_buf(), source })
}

/// The report as one self-contained HTML document.
///
/// # Errors
/// [`ReportError::Shape`] when a chart's vectors do not belong together, [`ReportError::Draw`]
/// when the drawing library refuses.
pub fn page(data: &ReportData) -> Result<String, ReportError> {
    let title = if data.title.is_empty() { "Anomaly report" } else { &data.title };
    let mut html = String::with_capacity(1 << 20);
    open(&mut html, title);
    sections::header(&mut html, data, title);
    html.push_str("<main>\n");
    sections::summary(&mut html, data);
    sections::notes(&mut html, data);
    sections::overviews(&mut html, data)?;
    table::anomalies(&mut html, data);
    sections::charts(&mut html, data)?;
    sections::training(&mut html, data)?;
    sections::quality(&mut html, data)?;
    sections::facts(&mut html, data);
    html.push_str("</main>\n");
    close(&mut html);
    Ok(html)
}

/// Everything before a page's header.
fn open(html: &mut String, title: &str) {
    let _ = write!(
        html,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{}</title>\n<style>\n",
        text(title)
    );
    style(html);
    html.push_str("</style>\n</head>\n<body>\n");
    symbols(html);
}

/// Everything after a page's last section.
fn close(html: &mut String) {
    html.push_str("<script>\n");
    html.push_str(include_str!("script.js"));
    html.push_str("</script>\n</body>\n</html>\n");
}

fn style(html: &mut String) {
    for (weight, font) in WEB_FONTS {
        let _ = writeln!(
            html,
            "@font-face{{font-family:Roboto;font-weight:{weight};src:url(data:font/woff2;base64,{}) format(\"woff2\")}}",
            base64(font)
        );
    }
    let inks = |dark: bool| -> String {
        Severity::ALL.iter().fold(String::new(), |mut css, severity| {
            let ink = severity_ink(*severity);
            let colour = hex(if dark { ink.dark } else { ink.light });
            let _ = write!(css, "--{severity}:{colour};");
            css
        })
    };
    let dark = include_str!("dark.css").trim();
    let _ = writeln!(html, ":root{{{}}}", inks(false));
    html.push_str(include_str!("style.css"));
    // The same rules twice: for a reader whose system is dark, and for one who pressed the button.
    for (media, scope) in [
        ("screen and (prefers-color-scheme: dark)", ":root:not([data-theme=light])"),
        ("screen", ":root[data-theme=dark]"),
    ] {
        let _ = writeln!(
            html,
            "@media {media}{{{scope}{{{dark}{}}}{}}}",
            inks(true),
            dark_rules(scope)
        );
    }
}

/// The anomaly types' shapes, for the table to refer to.
fn symbols(html: &mut String) {
    html.push_str(
        "<svg width=\"0\" height=\"0\" style=\"position:absolute\" aria-hidden=\"true\">",
    );
    for kind in AnomalyType::ALL {
        let points = shape(*kind).iter().fold(String::new(), |mut points, (x, y)| {
            let _ = write!(points, "{:.2},{:.2} ", x * 6.0, y * 6.0);
            points
        });
        let _ = write!(
            html,
            "<symbol id=\"k-{kind}\" viewBox=\"-8 -8 16 16\"><polygon points=\"{}\"/></symbol>",
            points.trim_end()
        );
    }
    html.push_str("</svg>\n");
}

/// Text for an element or a quoted attribute.
fn text(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    for c in raw.chars().filter_map(shown) {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// Base64 with padding, RFC 4648.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            if i <= chunk.len() {
                out.push(char::from(DIGITS[(bits >> (18 - 6 * i) & 63) as usize]));
            } else {
                out.push('=');
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        let known = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (plain, encoded) in known {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
    }

    #[test]
    fn text_cannot_leave_its_element_or_turn_the_line() {
        assert_eq!(text("<b a='x'>\"&\u{7}\u{202e}é"), "&lt;b a=&#39;x&#39;&gt;&quot;&amp; é");
    }
}
