//! Numbers as people write them.

/// `12345.6` → `12,345.6`: groups of three, at most `decimals` digits after the point.
pub fn grouped(value: f64, decimals: usize) -> String {
    let text = format!("{:.decimals$}", value.abs());
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let mut out = String::new();
    // "-0" would be a lie about the sign.
    if value < 0.0 && text.bytes().any(|b| (b'1'..=b'9').contains(&b)) {
        out.push('\u{2212}');
    }
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if !fraction.is_empty() {
        out.push('.');
        out.push_str(fraction);
    }
    out
}

/// Grouped whole number.
pub fn count(value: usize) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 anomaly`, `2 anomalies`.
pub fn counted(n: usize, one: &str, many: &str) -> String {
    format!("{} {}", count(n), if n == 1 { one } else { many })
}

/// A value alone: about three significant digits, a suffix from a million on, a dash for `NaN`.
pub fn value(value: f64) -> String {
    if value.is_nan() {
        return "–".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "∞".into() } else { "\u{2212}∞".into() };
    }
    let size = value.abs();
    if size >= 1e15 || (size > 0.0 && size < 1e-4) {
        return scientific(value, 2);
    }
    if size >= 1e6 {
        let (scaled, suffix) = suffixed(value, size);
        return format!("{}{suffix}", grouped(scaled, digits_for(scaled.abs())));
    }
    trim_zeros(&grouped(value, digits_for(size)))
}

/// Digits after the point for about three significant ones.
fn digits_for(size: f64) -> usize {
    match size {
        s if s >= 100.0 || s == 0.0 => 0,
        s if s >= 10.0 => 1,
        s if s >= 1.0 => 2,
        s => (2 - s.log10().floor() as i32).clamp(0, 12) as usize,
    }
}

fn trim_zeros(text: &str) -> String {
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_string()
    } else {
        text.to_string()
    }
}

/// Thousand, million, milliard: the suffixes of business charts.
fn suffixed(value: f64, size: f64) -> (f64, &'static str) {
    match size {
        s if s >= 1e12 => (value / 1e12, "T"),
        s if s >= 1e9 => (value / 1e9, "B"),
        s if s >= 1e6 => (value / 1e6, "M"),
        _ => (value, ""),
    }
}

fn scientific(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    format!("{}e{exponent}", trim_zeros(mantissa)).replace('-', "\u{2212}")
}

/// Labels of one axis, all written alike: one suffix, one number of decimals.
pub fn axis_labels(ticks: &[f64]) -> Vec<String> {
    let largest = ticks.iter().fold(0.0_f64, |m, t| m.max(t.abs()));
    let step = ticks.windows(2).map(|w| (w[1] - w[0]).abs()).fold(f64::INFINITY, f64::min);
    if largest >= 1e15 || (largest > 0.0 && largest < 1e-4) {
        return ticks
            .iter()
            .map(|&t| if t == 0.0 { "0".into() } else { scientific(t, 3) })
            .collect();
    }
    let (_, suffix) = suffixed(largest, largest);
    let unit = match suffix {
        "T" => 1e12,
        "B" => 1e9,
        "M" => 1e6,
        _ => 1.0,
    };
    // The fewest decimals at which every step shows.
    let scaled_step = if step.is_finite() { step / unit } else { largest / unit };
    let exact = |decimals: usize| {
        let shifted = scaled_step * 10_f64.powi(decimals as i32);
        (shifted - shifted.round()).abs() < 1e-6 * shifted.max(1.0)
    };
    let decimals = (0..12).find(|&d| exact(d) && scaled_step * 10_f64.powi(d as i32) >= 0.5);
    let label = |&t: &f64| {
        let text = grouped(t / unit, decimals.unwrap_or(12));
        if t == 0.0 { "0".to_string() } else { format!("{text}{suffix}") }
    };
    ticks.iter().map(label).collect()
}

/// A character of foreign text that may be shown: control characters become spaces, and the
/// marks that turn the direction of everything after them go.
pub fn shown(c: char) -> Option<char> {
    match c {
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => None,
        c if c.is_control() => Some(' '),
        c => Some(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_suffixed() {
        assert_eq!(grouped(1_234_567.0, 0), "1,234,567");
        assert_eq!(grouped(-1234.5, 1), "−1,234.5");
        assert_eq!(grouped(-0.001, 1), "0.0");
        assert_eq!(count(1_000), "1,000");
        assert_eq!(value(0.0), "0");
        assert_eq!(value(12_345.6), "12,346");
        assert_eq!(value(3.0), "3");
        assert_eq!(value(0.02345), "0.0234");
        assert_eq!(value(2_500_000.0), "2.50M");
        assert_eq!(value(-1.2e12), "−1.20T");
        assert_eq!(value(4.2e-7), "4.2e−7");
        assert_eq!(value(f64::NAN), "–");
    }

    #[test]
    fn an_axis_writes_all_its_labels_alike() {
        assert_eq!(axis_labels(&[0.0, 0.5, 1.0]), ["0", "0.5", "1.0"]);
        assert_eq!(axis_labels(&[0.0, 0.25, 0.5]), ["0", "0.25", "0.50"]);
        assert_eq!(axis_labels(&[0.0, 5e11, 1e12]), ["0", "0.5T", "1.0T"]);
        assert_eq!(axis_labels(&[0.0, 10_000.0, 20_000.0]), ["0", "10,000", "20,000"]);
        assert_eq!(axis_labels(&[-200.0, 0.0, 200.0]), ["−200", "0", "200"]);
        assert_eq!(axis_labels(&[7.0]), ["7"]);
    }
}
