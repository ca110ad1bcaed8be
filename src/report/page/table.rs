//! The table of anomalies: its frame in HTML, its rows as JSON for the script.

use std::{collections::HashMap, fmt::Write as _};

use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    ensemble::{AnomalyType, Direction, Severity},
    report::{
        data::{AnomalyRow, ReportData},
        format::{count, shown},
        legend::words,
        page::{MAX_PAGE_CHARTS, MAX_PAGE_ROWS, text},
    },
};

/// Column heads, in the order of the script's cells: name, class, what to sort by.
const COLUMNS: [(&str, &str, &str); 11] = [
    ("Severity", "", "severity"),
    ("Type", "", "kind"),
    ("Time", "", "time"),
    ("Series", "", "series"),
    ("Observed", "n", "observed"),
    ("Expected", "n", "expected"),
    ("Deviation", "n", "deviation"),
    ("Score", "n", "score"),
    ("p-value", "n", "p"),
    ("Confidence", "n", "confidence"),
    ("Flagged by", "", "models"),
];

/// The page's rows. Texts that repeat are kept once and named by place.
#[derive(Serialize)]
struct TableData {
    texts: Vec<String>,
    kinds: Vec<&'static str>,
    severities: Vec<&'static str>,
    rows: Vec<Value>,
}

pub fn anomalies(html: &mut String, data: &ReportData) {
    html.push_str("<section id=\"anomalies\"><h2>Anomalies</h2>\n");
    if data.anomalies.is_empty() {
        html.push_str("<p class=\"hint\">No point was flagged.</p></section>\n");
        return;
    }
    if data.anomalies.len() > MAX_PAGE_ROWS {
        let _ = writeln!(
            html,
            "<p class=\"hint\">The first {} of {} anomalies; all of them are in the run's <code>flags</code> folder.</p>",
            count(MAX_PAGE_ROWS),
            count(data.anomalies.len())
        );
    }
    filters(html, data);
    html.push_str(
        "<noscript><p class=\"hint\">This table needs JavaScript; the same rows are in the run's \
         <code>flags</code> folder.</p></noscript>\n\
         <div class=\"card scroll\" id=\"table\" tabindex=\"0\" role=\"region\" aria-label=\"Table of anomalies\">\
         <table class=\"anomalies\"><thead><tr>",
    );
    for (name, class, key) in COLUMNS {
        let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
        let _ = write!(
            html,
            "<th scope=\"col\"{class}><button type=\"button\" data-key=\"{key}\">{name}</button></th>"
        );
    }
    html.push_str(
        "</tr></thead><tbody></tbody></table></div>\n\
         <div class=\"pager\"><span id=\"shown\" role=\"status\" aria-live=\"polite\"></span>\
         <button type=\"button\" id=\"previous\">Previous</button>\
         <button type=\"button\" id=\"next\">Next</button></div>\n",
    );
    json_block(html, data);
    html.push_str("</section>\n");
}

fn filters(html: &mut String, data: &ReportData) {
    html.push_str(
        "<form class=\"filters\" id=\"filters\" role=\"search\" aria-label=\"Filter the anomalies\">\
         <label>Search<input type=\"search\" name=\"text\" placeholder=\"series, time, detector, event\" autocomplete=\"off\"></label>",
    );
    let severities = Severity::ALL.iter().enumerate().skip(1).map(|(rank, severity)| {
        let worst = rank + 1 == Severity::ALL.len();
        let name = if worst { severity.to_string() } else { format!("{severity} and worse") };
        (rank.to_string(), name)
    });
    select(html, "Severity", "severity", severities);
    let present = |kind: &&AnomalyType| data.anomalies.iter().any(|row| row.kind == **kind);
    let kinds = AnomalyType::ALL
        .iter()
        .filter(present)
        .map(|kind| (kind.to_string(), words(kind.as_str())));
    select(html, "Type", "kind", kinds);
    let mut levels: Vec<&str> = data.anomalies.iter().map(|row| row.level.as_str()).collect();
    levels.sort_unstable();
    levels.dedup();
    if levels.len() > 1 {
        let levels = levels.iter().map(|level| (text(level), text(level)));
        select(html, "Level", "level", levels);
    }
    if data.anomalies.iter().any(|row| row.known_event.is_some()) {
        html.push_str(
            "<label class=\"check\"><input type=\"checkbox\" name=\"unknown\">hide known events</label>",
        );
    }
    html.push_str("<button type=\"reset\">Reset</button></form>\n");
}

/// A select box; values and names must be escaped.
fn select(
    html: &mut String,
    label: &str,
    name: &str,
    options: impl Iterator<Item = (String, String)>,
) {
    let _ = write!(html, "<label>{label}<select name=\"{name}\"><option value=\"\">all</option>");
    for (value, name) in options {
        let _ = write!(html, "<option value=\"{value}\">{name}</option>");
    }
    html.push_str("</select></label>");
}

fn json_block(html: &mut String, data: &ReportData) {
    let rows = &data.anomalies[..data.anomalies.len().min(MAX_PAGE_ROWS)];
    let on_page = data.charts.iter().take(MAX_PAGE_CHARTS).enumerate();
    let charts: HashMap<&str, usize> = on_page.map(|(i, chart)| (chart.id.as_str(), i)).collect();
    let mut texts = Texts::default();
    let rows = rows.iter().map(|row| row_json(row, &charts, &mut texts)).collect();
    let table = TableData {
        texts: texts.list.iter().map(|t| t.chars().filter_map(shown).collect()).collect(),
        kinds: AnomalyType::ALL.iter().map(|kind| kind.as_str()).collect(),
        severities: Severity::ALL.iter().map(|severity| severity.as_str()).collect(),
        rows,
    };
    // Numbers and strings always serialise.
    let json = serde_json::to_string(&table).unwrap_or_default();
    html.push_str("<script type=\"application/json\" id=\"rows\">");
    // Inside a script element only `<` can end or nest it.
    html.push_str(&json.replace('<', "\\u003c"));
    html.push_str("</script>\n");
}

/// Each distinct text once.
#[derive(Default)]
struct Texts<'a> {
    list: Vec<&'a str>,
    places: HashMap<&'a str, usize>,
}

impl<'a> Texts<'a> {
    fn place(&mut self, text: &'a str) -> usize {
        *self.places.entry(text).or_insert_with(|| {
            self.list.push(text);
            self.list.len() - 1
        })
    }
}

/// One row in the order that `script.js` reads.
fn row_json<'a>(
    row: &'a AnomalyRow,
    charts: &HashMap<&str, usize>,
    texts: &mut Texts<'a>,
) -> Value {
    let detectors: Vec<usize> = row.detectors.iter().map(|name| texts.place(name)).collect();
    let direction = match row.direction {
        Direction::Above => 1,
        Direction::Below => -1,
        Direction::Unknown => 0,
    };
    json!([
        row.severity as usize,
        row.kind as usize,
        texts.place(&row.time_label),
        texts.place(&row.level),
        texts.place(&row.key),
        texts.place(&row.metric),
        short(row.observed),
        short(row.expected),
        short(row.lower),
        short(row.upper),
        short(row.deviation_percent),
        short(row.score),
        short(row.p_value),
        short(row.confidence),
        direction,
        row.n_models_flagged,
        detectors,
        row.known_event.as_deref().map(|event| texts.place(event)),
        row.chart.as_deref().and_then(|id| charts.get(id)),
    ])
}

/// Six significant digits, `None` for what is not finite: the page shows fewer.
fn short(value: f64) -> Option<f64> {
    if value.is_finite() { format!("{value:.5e}").parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shortened_but_never_rounded_to_nothing() {
        assert_eq!(short(1234567.89), Some(1234570.0));
        assert_eq!(short(1.234567e-12), Some(1.23457e-12));
        assert_eq!(short(f64::NAN), None);
    }
}
