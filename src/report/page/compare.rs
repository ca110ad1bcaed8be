//! The page of a comparison: tables of figures, of alerts, and charts with the flags of both runs.

use std::fmt::Write as _;

use rayon::prelude::*;

use super::{close, open, sections, text};
use crate::report::{
    canvas::to_svg,
    compare::{CompareReport, FlagLanesPicture},
    data::MetricTable,
    error::ReportError,
};

/// The comparison as one self-contained HTML document.
///
/// # Errors
/// As [`page`](super::page).
pub fn compare_page(report: &CompareReport) -> Result<String, ReportError> {
    let mut html = String::with_capacity(1 << 20);
    open(&mut html, &report.title);
    header(&mut html, report);
    html.push_str("<main>\n");
    sections::note_list(&mut html, &report.notes);
    tables(&mut html, "configs", "Configs", &report.configs);
    tables(&mut html, "figures", "Figures", &report.figures);
    tables(&mut html, "alerts", "Alerts", &report.alerts);
    charts(&mut html, report)?;
    tables(&mut html, "runs", "Runs", &report.runs);
    html.push_str("</main>\n");
    close(&mut html);
    Ok(html)
}

fn header(html: &mut String, report: &CompareReport) {
    sections::title(html, &report.title, Some(&report.lead));
    html.push_str("<nav aria-label=\"Parts of the comparison\">");
    let parts = [
        ("notes", "Notes", !report.notes.is_empty()),
        ("configs", "Configs", !report.configs.is_empty()),
        ("figures", "Figures", !report.figures.is_empty()),
        ("alerts", "Alerts", !report.alerts.is_empty()),
        ("charts", "Charts", !report.charts.is_empty()),
        ("runs", "Runs", !report.runs.is_empty()),
    ];
    for (id, name, _) in parts.iter().filter(|(_, _, present)| *present) {
        let _ = write!(html, "<a href=\"#{id}\">{name}</a>");
    }
    html.push_str("</nav></header>\n");
}

fn tables(html: &mut String, id: &str, title: &str, tables: &[MetricTable]) {
    if tables.is_empty() {
        return;
    }
    let _ = writeln!(html, "<section id=\"{id}\"><h2>{title}</h2>");
    for table in tables {
        sections::metric_table(html, table);
    }
    html.push_str("</section>\n");
}

fn charts(html: &mut String, report: &CompareReport) -> Result<(), ReportError> {
    if report.charts.is_empty() {
        return Ok(());
    }
    html.push_str("<section id=\"charts\"><h2>Charts</h2>\n");
    let drawn: Vec<Result<String, ReportError>> = report
        .charts
        .par_iter()
        .map(|figure| to_svg(&FlagLanesPicture::new(&figure.chart)?))
        .collect();
    for (figure, svg) in report.charts.iter().zip(drawn) {
        let _ = write!(html, "<figure><h3 class=\"of\"><bdi>{}</bdi></h3>", text(&figure.heading));
        sections::inline(html, &svg?, &figure.heading);
        html.push_str("<figcaption><ul>");
        for line in &figure.lines {
            let _ = write!(html, "<li><bdi>{}</bdi></li>", text(line));
        }
        html.push_str("</ul></figcaption></figure>\n");
    }
    html.push_str("</section>\n");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::compare::{CompareFigure, FlagLanesChart};

    #[test]
    fn a_page_holds_its_tables_and_charts_and_asks_for_nothing_else() {
        let report = CompareReport {
            title: "a against <b>".into(),
            lead: "2 runs".into(),
            notes: vec!["<script>alert(1)</script>".into()],
            figures: vec![MetricTable {
                title: "Level key".into(),
                columns: vec!["figure".into(), "a".into()],
                rows: vec![vec!["F1".into(), "0.5".into()]],
                note: String::new(),
            }],
            charts: vec![CompareFigure {
                heading: "added".into(),
                lines: vec!["one".into()],
                chart: FlagLanesChart::default(),
            }],
            ..CompareReport::default()
        };
        let html = compare_page(&report).unwrap();
        assert!(html.contains("a against &lt;b&gt;") && html.contains("<td class=\"n\"><bdi>0.5"));
        assert!(
            !html.contains("<script>alert")
                && !html.contains("http://")
                && !html.contains("https://")
        );
        assert!(html.contains("href=\"#figures\"") && !html.contains("href=\"#alerts\""));
        assert_eq!(html.matches("<figure>").count(), 1);
    }
}
