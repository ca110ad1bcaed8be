//! The parts of the page that need no script.

use std::{collections::HashMap, fmt::Write as _};

use rayon::prelude::*;

use crate::{
    ensemble::Severity,
    report::{
        canvas::to_svg,
        data::{AnomalyRow, LevelReport, MetricTable, ReportData},
        error::ReportError,
        evaluation::evaluation_pictures,
        files,
        format::{count, counted, grouped, value},
        legend::words,
        page::{MAX_PAGE_CHARTS, text},
        series_chart::SeriesPicture,
        training::TrainingPicture,
    },
};

/// Anomalies listed under a chart.
const LISTED_PER_CHART: usize = 4;

/// A page's title, the line below it, and the button for the theme; the header stays open.
pub fn title(html: &mut String, title: &str, below: Option<&str>) {
    let _ = write!(html, "<header><div class=\"bar\"><div><h1><bdi>{}</bdi></h1>", text(title));
    if let Some(below) = below {
        let _ = write!(html, "<p class=\"when\">{}</p>", text(below));
    }
    html.push_str(
        "</div><button id=\"theme\" type=\"button\" aria-label=\"Switch between light and dark\" \
         title=\"Switch between light and dark\">◐</button></div>\n",
    );
}

pub fn header(html: &mut String, data: &ReportData, name: &str) {
    title(html, name, data.generated_at.as_deref());
    html.push_str("<nav aria-label=\"Parts of the report\">");
    let has_overview = data.levels.iter().any(|l| !l.ranking.is_empty() || l.heatmap.is_some());
    let parts = [
        ("summary", "Summary", true),
        ("notes", "Notes", !data.notes.is_empty()),
        ("overview", "Overview", has_overview),
        ("anomalies", "Anomalies", true),
        ("charts", "Charts", !data.charts.is_empty()),
        ("training", "Training", data.training.is_some()),
        ("quality", "Quality", !data.quality.is_empty()),
        ("run", "Run", !data.facts.is_empty()),
    ];
    for (id, name, _) in parts.iter().filter(|(_, _, present)| *present) {
        let _ = write!(html, "<a href=\"#{id}\">{name}</a>");
    }
    html.push_str("</nav></header>\n");
}

pub fn summary(html: &mut String, data: &ReportData) {
    html.push_str("<section id=\"summary\"><h2>Summary</h2>\n<div class=\"levels\">\n");
    for level in &data.levels {
        level_card(html, level);
    }
    html.push_str("</div></section>\n");
}

fn level_card(html: &mut String, level: &LevelReport) {
    let _ = write!(html, "<article class=\"card\"><h3>Level <bdi>{}</bdi></h3>", text(&level.name));
    let share = if level.n_points == 0 {
        "–".to_string()
    } else {
        format!("{} %", grouped(100.0 * level.n_anomalies as f64 / level.n_points as f64, 2))
    };
    let figures = [
        (count(level.n_anomalies), "anomalous points"),
        (share, "of all points"),
        (count(level.n_series), "series"),
        (count(level.n_points), "points"),
    ];
    html.push_str("<div class=\"figures\">");
    for (figure, name) in figures {
        let _ = write!(html, "<div><b>{figure}</b><span>{name}</span></div>");
    }
    html.push_str("</div>");
    severity_bar(html, level);
    let mut kinds = level.by_type.clone();
    kinds.retain(|(_, n)| *n > 0);
    kinds.sort_by_key(|(kind, n)| (std::cmp::Reverse(*n), *kind));
    html.push_str("<ul class=\"kinds\">");
    for (kind, n) in kinds {
        let _ = write!(
            html,
            "<li><svg class=\"mark\" aria-hidden=\"true\"><use href=\"#k-{kind}\"/></svg>{} <b>{}</b></li>",
            words(kind.as_str()),
            count(n)
        );
    }
    html.push_str("</ul></article>\n");
}

/// A bar split by severity, worst first, with its numbers below.
fn severity_bar(html: &mut String, level: &LevelReport) {
    let of = |severity: Severity| -> usize {
        level.by_severity.iter().filter(|(s, _)| *s == severity).map(|(_, n)| n).sum()
    };
    html.push_str("<div class=\"split\" aria-hidden=\"true\">");
    for severity in Severity::ALL.iter().rev().filter(|s| of(**s) > 0) {
        let _ = write!(html, "<i class=\"{severity}\" style=\"flex-grow:{}\"></i>", of(*severity));
    }
    html.push_str("</div><ul class=\"severities\">");
    for severity in Severity::ALL.iter().rev() {
        let _ = write!(
            html,
            "<li><i class=\"dot {severity}\"></i>{severity} <b>{}</b></li>",
            count(of(*severity))
        );
    }
    html.push_str("</ul>");
}

pub fn notes(html: &mut String, data: &ReportData) {
    note_list(html, &data.notes);
}

/// Sentences that a reader must see.
pub fn note_list(html: &mut String, notes: &[String]) {
    if notes.is_empty() {
        return;
    }
    html.push_str("<section id=\"notes\"><h2>Notes</h2><ul class=\"notes\">\n");
    for note in notes {
        let _ = writeln!(html, "<li><bdi>{}</bdi></li>", text(note));
    }
    html.push_str("</ul></section>\n");
}

/// Rankings and heat maps.
pub fn overviews(html: &mut String, data: &ReportData) -> Result<(), ReportError> {
    let pictures = files::level_pictures(data)?;
    if pictures.is_empty() {
        return Ok(());
    }
    html.push_str("<section id=\"overview\"><h2>Overview</h2>\n");
    let drawn: Vec<Result<String, ReportError>> =
        pictures.par_iter().map(|(_, picture)| to_svg(picture.as_ref())).collect();
    for ((_, picture), svg) in pictures.iter().zip(drawn) {
        html.push_str("<figure>");
        inline(html, &svg?, &picture.name());
        html.push_str("</figure>\n");
    }
    html.push_str("</section>\n");
    Ok(())
}

pub fn charts(html: &mut String, data: &ReportData) -> Result<(), ReportError> {
    if data.charts.is_empty() {
        return Ok(());
    }
    html.push_str("<section id=\"charts\"><h2>Charts</h2>\n");
    let shown = &data.charts[..data.charts.len().min(MAX_PAGE_CHARTS)];
    let left_out = data.charts.len() - shown.len();
    if left_out > 0 {
        let _ = writeln!(
            html,
            "<p class=\"hint\">The first {} of {}; the other {} are in the run's <code>charts</code> folder.</p>",
            count(shown.len()),
            count(data.charts.len()),
            count(left_out)
        );
    }
    let mut by_chart: HashMap<&str, Vec<&AnomalyRow>> = HashMap::new();
    for row in &data.anomalies {
        if let Some(chart) = &row.chart {
            by_chart.entry(chart).or_default().push(row);
        }
    }
    let drawn: Vec<Result<String, ReportError>> =
        shown.par_iter().map(|chart| to_svg(&SeriesPicture::new(chart)?)).collect();
    for (place, (chart, svg)) in shown.iter().zip(drawn).enumerate() {
        let _ = write!(html, "<figure id=\"chart-{place}\" tabindex=\"-1\">");
        inline(html, &svg?, &format!("{}, {}", chart.title, chart.metric));
        if let Some(rows) = by_chart.get(chart.id.as_str()) {
            listed(html, rows);
        }
        html.push_str("</figure>\n");
    }
    html.push_str("</section>\n");
    Ok(())
}

pub fn training(html: &mut String, data: &ReportData) -> Result<(), ReportError> {
    let Some(curve) = &data.training else { return Ok(()) };
    html.push_str("<section id=\"training\"><h2>Training</h2>\n<figure>");
    inline(html, &to_svg(&TrainingPicture::new(curve))?, &curve.title);
    html.push_str("</figure></section>\n");
    Ok(())
}

/// The first anomalies of a chart in words.
fn listed(html: &mut String, rows: &[&AnomalyRow]) {
    html.push_str("<figcaption><ul>");
    for row in rows.iter().take(LISTED_PER_CHART) {
        let _ = write!(
            html,
            "<li><svg class=\"mark {severity}\" aria-hidden=\"true\"><use href=\"#k-{kind}\"/></svg>\
             <b>{when}</b> {severity} {kind_words}: {observed} observed, {expected} expected",
            severity = row.severity,
            kind = row.kind,
            when = text(&row.time_label),
            kind_words = words(row.kind.as_str()),
            observed = value(row.observed),
            expected = value(row.expected),
        );
        if row.deviation_percent.is_finite() {
            let sign = if row.deviation_percent > 0.0 { "+" } else { "" };
            let _ = write!(html, " ({sign}{} %)", grouped(row.deviation_percent, 0));
        }
        if let Some(event) = &row.known_event {
            let _ = write!(html, ", during <bdi>{}</bdi>", text(event));
        }
        html.push_str("</li>");
    }
    if rows.len() > LISTED_PER_CHART {
        let more = rows.len() - LISTED_PER_CHART;
        let _ = write!(html, "<li class=\"more\">and {}</li>", counted(more, "more", "more"));
    }
    html.push_str("</ul></figcaption>");
}

/// An SVG inside the page: no namespace needed, a name for those who cannot see it.
pub fn inline(html: &mut String, svg: &str, name: &str) {
    let rest = svg.split_once("\"http://www.w3.org/2000/svg\"").map_or(svg, |(_, rest)| rest);
    let _ = write!(
        html,
        "<div class=\"plot\"><svg role=\"img\" aria-label=\"{}\"{rest}</div>",
        text(name)
    );
}

pub fn quality(html: &mut String, data: &ReportData) -> Result<(), ReportError> {
    if data.quality.is_empty() {
        return Ok(());
    }
    html.push_str("<section id=\"quality\"><h2>Quality</h2>\n");
    for table in &data.quality {
        metric_table(html, table);
    }
    for (_, picture) in evaluation_pictures(&data.evaluation) {
        html.push_str("<figure>");
        inline(html, &to_svg(picture.as_ref())?, &picture.name());
        html.push_str("</figure>\n");
    }
    html.push_str("</section>\n");
    Ok(())
}

/// A table with a title and a note.
pub fn metric_table(html: &mut String, table: &MetricTable) {
    let _ = write!(html, "<div class=\"card\"><h3>{}</h3>", text(&table.title));
    if !table.note.is_empty() {
        let _ = write!(html, "<p class=\"hint\">{}</p>", text(&table.note));
    }
    let numeric = |column: usize| {
        let mut cells = table.rows.iter().filter_map(|row| row.get(column)).peekable();
        cells.peek().is_some() && cells.all(|cell| reads_as_number(cell))
    };
    let classes: Vec<&str> = (0..table.columns.len())
        .map(|column| if numeric(column) { " class=\"n\"" } else { "" })
        .collect();
    html.push_str("<div class=\"scroll\" tabindex=\"0\"><table><thead><tr>");
    for (name, class) in table.columns.iter().zip(&classes) {
        let _ = write!(html, "<th scope=\"col\"{class}>{}</th>", text(name));
    }
    html.push_str("</tr></thead><tbody>");
    for row in &table.rows {
        html.push_str("<tr>");
        for (column, cell) in row.iter().enumerate() {
            let class = classes.get(column).copied().unwrap_or("");
            let _ = write!(html, "<td{class}><bdi>{}</bdi></td>", text(cell));
        }
        html.push_str("</tr>");
    }
    html.push_str("</tbody></table></div></div>\n");
}

fn reads_as_number(cell: &str) -> bool {
    let bare: String =
        cell.chars().filter(|c| !matches!(c, ',' | '%' | ' ' | '×' | '\u{2212}')).collect();
    matches!(bare.as_str(), "" | "–" | "-") || bare.parse::<f64>().is_ok()
}

pub fn facts(html: &mut String, data: &ReportData) {
    if data.facts.is_empty() {
        return;
    }
    html.push_str("<section id=\"run\"><h2>Run</h2><dl class=\"card facts\">\n");
    for (name, fact) in &data.facts {
        let _ =
            writeln!(html, "<div><dt>{}</dt><dd><bdi>{}</bdi></dd></div>", text(name), text(fact));
    }
    html.push_str("</dl></section>\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_columns_of_numbers_are_set_flush_right() {
        for cell in ["1,234", "0.5", "12 %", "−3.1", "–", "1e-3"] {
            assert!(reads_as_number(cell), "{cell}");
        }
        for cell in ["nb2", "1 of 3", "2025-01-06"] {
            assert!(!reads_as_number(cell), "{cell}");
        }
    }
}
