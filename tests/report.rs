//! The report on realistic and on hostile data: every file is opened again and looked into.

use std::{collections::HashSet, fs, path::Path};

use anomalist::{
    ensemble::{AnomalyType, Direction, Severity},
    report::{
        AnomalyRow, CHART_WIDTH, ChartFormat, Heatmap, HeatmapRow, LevelReport, MAX_PAGE_CHARTS,
        MAX_PAGE_ROWS, Mark, MetricTable, ReconstructionPanel, ReportData, ReportError,
        SeriesChart, SeriesTally, TrainingCurve, file_stem, page, write_charts, write_page,
    },
};

const HOUR: i64 = 3_600;
const WEEK: i64 = 7 * 86_400;
/// Monday 2025-01-06, in civil seconds.
const MONDAY: i64 = 1_736_121_600;

/// A small fixed sequence in `-1..1`: these tests need texture, not statistics.
fn noise(i: usize, salt: u64) -> f64 {
    let mut x = (i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ salt.wrapping_mul(0xD1B5_4A32);
    x ^= x >> 29;
    x = x.wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x ^= x >> 32;
    (x % 20_001) as f64 / 10_000.0 - 1.0
}

fn mark(index: usize, severity: Severity, kind: AnomalyType, direction: Direction) -> Mark {
    Mark { index, severity, kind, direction }
}

/// A year of weekly counts under a long key.
fn weekly_chart() -> SeriesChart {
    let n = 52;
    let expected: Vec<f64> =
        (0..n).map(|t| 42.0 + 14.0 * (t as f64 / 52.0 * std::f64::consts::TAU).sin()).collect();
    let mut observed: Vec<f64> =
        expected.iter().enumerate().map(|(t, e)| (e + 7.0 * noise(t, 3)).round()).collect();
    observed[11] = 138.0;
    observed[12] = 121.0;
    observed[29] = 4.0;
    for value in &mut observed[38..45] {
        *value = (*value * 2.1).round();
    }
    let mut marks = vec![
        mark(11, Severity::Critical, AnomalyType::Spike, Direction::Above),
        mark(12, Severity::High, AnomalyType::Spike, Direction::Above),
        mark(29, Severity::Medium, AnomalyType::Drop, Direction::Below),
        mark(50, Severity::Low, AnomalyType::Contextual, Direction::Unknown),
    ];
    marks.extend(
        (38..45).map(|t| mark(t, Severity::High, AnomalyType::LevelShift, Direction::Above)),
    );
    let title = "Customer / Quality of service: repeated disconnections / Household 0042, \
                 Zürich-Oerlikon, Tarif „Komfort Plus 2025“ with optional router and extended warranty";
    SeriesChart {
        id: file_stem("key", title),
        title: title.into(),
        level: "key".into(),
        metric: "count".into(),
        step_secs: WEEK,
        times: (0..n as i64).map(|t| MONDAY + t * WEEK).collect(),
        observed,
        lower: expected.iter().map(|e| (e - 18.0).max(0.0)).collect(),
        upper: expected.iter().map(|e| e + 24.0).collect(),
        expected,
        interval_level: 0.99,
        marks,
        known_events: vec![(46..49, "Black week".into())],
        truth: vec![11..13, 29..31, 38..45],
        ..SeriesChart::default()
    }
}

/// Ninety days of hourly views with the autoencoder's panes.
fn hourly_chart() -> SeriesChart {
    let n = 2_160;
    let shape = |t: usize| {
        let day = (t % 24) as f64 / 24.0 * std::f64::consts::TAU;
        let week = if (t / 24) % 7 >= 5 { 1.25 } else { 1.0 };
        18_000.0 * week * (1.0 - 0.62 * (day + 0.7).cos())
    };
    let expected: Vec<f64> = (0..n).map(shape).collect();
    let mut observed: Vec<f64> =
        expected.iter().enumerate().map(|(t, e)| e * (1.0 + 0.09 * noise(t, 8))).collect();
    for value in &mut observed[1_500..1_512] {
        *value *= 2.6;
    }
    for value in &mut observed[1_760..1_790] {
        *value = 0.0;
    }
    for value in &mut observed[1_950..2_050] {
        *value *= 0.6;
    }
    observed[700..720].fill(f64::NAN);
    let mut marks: Vec<Mark> = (1_500..1_512)
        .map(|t| mark(t, Severity::Critical, AnomalyType::Spike, Direction::Above))
        .collect();
    marks.extend(
        (1_760..1_790).map(|t| mark(t, Severity::Critical, AnomalyType::Outage, Direction::Below)),
    );
    marks.extend((1_950..2_050_usize).step_by(2).map(|t| {
        let severity = if t.is_multiple_of(3) { Severity::Medium } else { Severity::High };
        mark(t, severity, AnomalyType::LevelShift, Direction::Below)
    }));
    marks.push(mark(1_400, Severity::Low, AnomalyType::Pattern, Direction::Unknown));
    let scale = |v: &f64| (v / 18_000.0 - 1.0) * 2.0;
    let input: Vec<f64> = observed.iter().map(scale).collect();
    let reconstructed: Vec<f64> = expected.iter().map(scale).collect();
    let error: Vec<f64> = input
        .iter()
        .zip(&reconstructed)
        .enumerate()
        .map(|(t, (a, b))| (a - b).abs() * 0.8 + 0.05 * (1.0 + noise(t, 5)))
        .collect();
    SeriesChart {
        id: "brand_alpenglow-views".into(),
        title: "Alpenglow Outdoor".into(),
        level: "brand".into(),
        metric: "views".into(),
        step_secs: HOUR,
        times: (0..n as i64).map(|t| MONDAY + t * HOUR).collect(),
        clock: "UTC".into(),
        lower: expected.iter().map(|e| e * 0.8).collect(),
        upper: expected.iter().map(|e| e * 1.22).collect(),
        observed,
        expected,
        interval_level: 0.997,
        marks,
        known_events: vec![(900..972, "Spring sale".into()), (1_330..1_378, "TV campaign".into())],
        truth: vec![1_500..1_512, 1_760..1_790, 1_950..2_050],
        training_until: Some(1_296),
        reconstruction: Some(ReconstructionPanel {
            unit: "robust-scaled".into(),
            observed: input,
            reconstructed,
            error,
            threshold: 0.42,
        }),
        ..SeriesChart::default()
    }
}

fn row(i: usize, key: &str, chart: Option<&str>) -> AnomalyRow {
    let expected = 20.0 + (i % 37) as f64;
    let observed =
        if i.is_multiple_of(3) { expected * 0.2 } else { expected * (2.0 + (i % 9) as f64) };
    AnomalyRow {
        level: if i.is_multiple_of(4) { "pair".into() } else { "key".into() },
        key: key.into(),
        time_label: format!("2025-{:02}-{:02}", i % 12 + 1, i % 28 + 1),
        metric: "count".into(),
        observed: observed.round(),
        expected,
        lower: expected * 0.5,
        upper: expected * 1.7,
        deviation_percent: (observed / expected - 1.0) * 100.0,
        score: 0.4 + 0.59 * (i % 50) as f64 / 50.0,
        p_value: 10_f64.powi(-2 - (i % 9) as i32),
        confidence: 0.5 + (i % 6) as f64 / 10.0,
        severity: Severity::ALL[i % 4],
        kind: AnomalyType::ALL[i % 7],
        direction: if i.is_multiple_of(3) { Direction::Below } else { Direction::Above },
        n_models_flagged: i % 4 + 1,
        detectors: vec!["nb2".into(), "lstm_autoencoder".into(), "seasonal_profile".into()],
        known_event: (i % 11 == 5).then(|| "Black week".into()),
        chart: chart.map(Into::into),
    }
}

fn heatmap(n_rows: usize, n_steps: usize, step_secs: i64) -> Heatmap {
    let rows = (0..n_rows)
        .map(|i| {
            let scores = (0..n_steps).map(|t| {
                let burst = (t + i * 7) % 97 < 3 + i % 3;
                if t < i {
                    f64::NAN
                } else if burst {
                    0.85
                } else {
                    0.12 + 0.11 * noise(t, i as u64)
                }
            });
            HeatmapRow {
                label: format!("Customer / Quality of service: {i} / Household {:04}", i * 37),
                n_anomalies: n_rows - i,
                scores: scores.collect(),
            }
        })
        .collect();
    Heatmap {
        times: (0..n_steps as i64).map(|t| MONDAY + t * step_secs).collect(),
        step_secs,
        rows,
        left_out: 1_160,
        ..Heatmap::default()
    }
}

/// A report as a weekly run with an hourly series beside it would fill it in.
fn report() -> ReportData {
    let charts = vec![weekly_chart(), hourly_chart()];
    let mut anomalies: Vec<AnomalyRow> = (0..620)
        .map(|i| row(i, &format!("Customer / Quality of service / Household {:04}", i % 83), None))
        .collect();
    for (i, anomaly) in anomalies.iter_mut().take(9).enumerate() {
        let chart = &charts[i % 2];
        anomaly.key.clone_from(&chart.title);
        anomaly.chart = Some(chart.id.clone());
    }
    let level = |name: &str, n_series: usize, map: Heatmap| LevelReport {
        name: name.into(),
        n_series,
        n_points: n_series * 52,
        n_anomalies: 620,
        by_severity: vec![
            (Severity::Low, 300),
            (Severity::Medium, 180),
            (Severity::High, 100),
            (Severity::Critical, 40),
        ],
        by_type: vec![
            (AnomalyType::Spike, 300),
            (AnomalyType::Drop, 200),
            (AnomalyType::LevelShift, 120),
            (AnomalyType::Burst, 0),
        ],
        ranking: (0..27)
            .map(|i| SeriesTally {
                label: format!("Customer / Quality of service: disconnections / Household {i:04}"),
                n_anomalies: 2 + (i * 7) % 19,
                largest_deviation_ratio: if i == 3 { f64::NAN } else { 1.5 + i as f64 / 3.0 },
            })
            .collect(),
        heatmap: Some(map),
    };
    ReportData {
        records: None,
        title: "Weekly insights: anomalies of 2025".into(),
        generated_at: Some("2026-11-21 10:00 UTC".into()),
        facts: vec![
            ("version".into(), "0.1.0".into()),
            ("device".into(), "cpu (2 threads)".into()),
            ("seed".into(), "42".into()),
            ("input".into(), "events_2025.csv, 184,223 rows, 12 rejected".into()),
            ("data fingerprint".into(), "b3:5d1c9e0a77f24c11".into()),
            ("time".into(), "41 s".into()),
        ],
        notes: vec![
            "3 series were too short for nb2 and were scored by the rolling mean.".into(),
            "The share of clean points with p ≤ 0.01 is 0.8 % for lstm_autoencoder.".into(),
        ],
        levels: vec![
            level("key", 1_200, heatmap(46, 52, WEEK)),
            level("brand", 24, heatmap(12, 2_160, HOUR)),
        ],
        anomalies,
        charts,
        training: Some(TrainingCurve {
            title: "Training of the LSTM autoencoder".into(),
            train_loss: (0..50).map(|e| 0.9 * (-f64::from(e) / 9.0).exp() + 0.05).collect(),
            validation_loss: (0..50)
                .map(|e| {
                    0.95 * (-f64::from(e) / 8.0).exp()
                        + 0.08
                        + 0.0006 * f64::from((e - 34_i32).max(0))
                })
                .collect(),
            best_epoch: Some(36),
            ended: "no better for 13 epochs".into(),
        }),
        quality: vec![MetricTable {
            title: "Detection against labels".into(),
            columns: ["Detector", "Precision", "Recall", "F1", "False positives"]
                .map(Into::into)
                .to_vec(),
            rows: vec![
                ["ensemble", "0.81", "0.50", "0.62", "0.6 %"].map(Into::into).to_vec(),
                ["nb2", "0.78", "0.38", "0.51", "0.4 %"].map(Into::into).to_vec(),
                ["random", "0.02", "0.01", "0.01", "1.0 %"].map(Into::into).to_vec(),
            ],
            note: "Points of labelled intervals; the training part is left out.".into(),
        }],
        evaluation: Vec::new(),
    }
}

/// Width, height and RGB bytes of a PNG file.
fn decode(path: &Path) -> (u32, u32, Vec<u8>) {
    let decoder = png::Decoder::new(fs::File::open(path).unwrap());
    let mut reader = decoder.read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size()];
    let info = reader.next_frame(&mut pixels).unwrap();
    assert_eq!(info.color_type, png::ColorType::Rgb);
    (info.width, info.height, pixels)
}

fn distinct_colours(pixels: &[u8]) -> usize {
    pixels.chunks_exact(3).collect::<HashSet<_>>().len()
}

fn has_colour(pixels: &[u8], rgb: [u8; 3]) -> bool {
    pixels.chunks_exact(3).any(|pixel| pixel == rgb)
}

/// Draws one chart as PNG and SVG.
fn draw(chart: SeriesChart) -> (Vec<u8>, String) {
    let dir = tempfile::tempdir().unwrap();
    let data = ReportData { charts: vec![chart], ..ReportData::default() };
    let paths = write_charts(&data, dir.path(), ChartFormat::Both, &mut |_| ()).unwrap();
    let (width, _, pixels) = decode(&paths[0]);
    assert_eq!(width, CHART_WIDTH);
    (pixels, fs::read_to_string(&paths[1]).unwrap())
}

#[test]
fn every_picture_becomes_a_png_of_the_promised_width_that_is_not_blank() {
    // ANOMALIST_REPORT_DIR keeps the files, for looking at them.
    let kept = std::env::var_os("ANOMALIST_REPORT_DIR");
    let scratch = tempfile::tempdir().unwrap();
    let dir = kept.as_ref().map_or(scratch.path(), Path::new);
    let data = report();
    let mut written = 0;
    let paths = write_charts(&data, dir, ChartFormat::Both, &mut |n| written += n).unwrap();
    write_page(&data, &dir.join("report.html")).unwrap();
    assert_eq!(paths.len(), 14);
    assert_eq!(written, 14);
    for path in &paths {
        if path.extension().is_some_and(|e| e == "png") {
            let (width, height, pixels) = decode(path);
            assert_eq!(width, CHART_WIDTH, "{}", path.display());
            assert!((200..1_400).contains(&height), "{}: {height}", path.display());
            assert!(distinct_colours(&pixels) > 50, "{}", path.display());
        } else {
            let svg = fs::read_to_string(path).unwrap();
            assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"));
            assert!(svg.contains("<text ") && svg.contains("font-family=\"Roboto"));
        }
    }
}

#[test]
fn anomalies_are_coloured_by_severity_and_text_stays_text() {
    let (pixels, svg) = draw(weekly_chart());
    // Below the legend, which shows the colours too.
    let plot = &pixels[130 * CHART_WIDTH as usize * 3..];
    for critical_high_medium in [[0x8E, 0x16, 0x52], [0xD5, 0x5E, 0x00], [0xE6, 0x9F, 0x00]] {
        assert!(has_colour(plot, critical_high_medium), "{critical_high_medium:?}");
    }
    for text in ["level shift", "99 % interval", "labelled anomaly", "Black week", "Mar", "2025"] {
        assert!(svg.contains(text), "{text}");
    }
    // The long key is shortened in its middle.
    assert!(svg.contains('…') && svg.contains("Customer / Quality"));
    let mut calm = weekly_chart();
    calm.marks.clear();
    let (pixels, svg) = draw(calm);
    assert!(!has_colour(&pixels, [0x8E, 0x16, 0x52]));
    assert!(!svg.contains("level shift"));
}

#[test]
fn the_autoencoders_error_and_threshold_share_the_charts_time_axis() {
    let (_, svg) = draw(hourly_chart());
    for text in ["Reconstruction error", "threshold 0.42", "input and expectation", "UTC"] {
        assert!(svg.contains(text), "{text}");
    }
    assert!(svg.contains("training ends"));
    let mut without = hourly_chart();
    without.reconstruction = None;
    assert!(!draw(without).1.contains("Reconstruction error"));
}

#[test]
fn odd_series_are_drawn_too() {
    let base = |observed: Vec<f64>| SeriesChart {
        id: "odd".into(),
        title: "odd".into(),
        metric: "m".into(),
        step_secs: HOUR,
        times: (0..observed.len() as i64).map(|t| MONDAY + t * HOUR).collect(),
        expected: observed.clone(),
        lower: observed.iter().map(|v| v - 1.0).collect(),
        upper: observed.iter().map(|v| v + 1.0).collect(),
        observed,
        ..SeriesChart::default()
    };
    let (_, empty) = draw(base(Vec::new()));
    assert!(empty.contains("no observed values"));
    let (_, missing) = draw(base(vec![f64::NAN; 30]));
    assert!(missing.contains("no observed values"));
    let (_, single) = draw(base(vec![7.0]));
    assert!(single.contains("<circle"));
    let (_, constant) = draw(base(vec![5.0; 40]));
    assert!(constant.contains(">\n5\n<") || constant.contains("polyline"));
    let (_, huge) = draw(base((0..40).map(|t| 1e12 * (1.0 + noise(t, 1))).collect()));
    assert!(huge.contains("T\n<"), "the suffix for 1e12");
    let (_, negative) = draw(base((0..40).map(|t| -500.0 * (2.0 + noise(t, 1))).collect()));
    assert!(negative.contains("\u{2212}1,000") || negative.contains("\u{2212}500"));
    draw(base(vec![f64::INFINITY, f64::NEG_INFINITY, 1.0, f64::MAX, f64::MIN]));
    let mut log = base((0..400).map(|t| 10_f64.powf(noise(t, 4) * 2.0 + 3.0)).collect());
    log.log_values = true;
    assert!(draw(log).1.contains("10,000"));
}

#[test]
fn a_hundred_thousand_points_keep_their_peak_in_a_small_file() {
    let n = 100_000;
    let mut observed: Vec<f64> = (0..n).map(|t| 100.0 + 10.0 * noise(t, 2)).collect();
    observed[54_321] = 1_000.0;
    let chart = SeriesChart {
        id: "long".into(),
        title: "long".into(),
        metric: "m".into(),
        step_secs: HOUR,
        times: (0..n as i64).map(|t| MONDAY + t * HOUR).collect(),
        observed,
        ..SeriesChart::default()
    };
    let (pixels, svg) = draw(chart);
    assert!(svg.len() < 120_000, "{}", svg.len());
    // The peak is the only thing in the upper half of the plot: look for ink there.
    let width = CHART_WIDTH as usize;
    let row = 200;
    let dark = (100..1_170).filter(|x| pixels[(row * width + x) * 3] < 0x60).count();
    assert!((1..=6).contains(&dark), "{dark}");
}

#[test]
fn the_page_fetches_nothing() {
    let html = page(&report()).unwrap();
    for scheme in ["http://", "https://", "//cdn", "@import", "<link", "src=\"", "<iframe"] {
        assert!(!html.contains(scheme), "{scheme}");
    }
    for (place, _) in html.match_indices("url(") {
        assert!(html[place..].starts_with("url(data:"), "{}", &html[place..place + 40]);
    }
    for (place, _) in html.match_indices("href=\"") {
        assert!(html[place..].starts_with("href=\"#"), "{}", &html[place..place + 40]);
    }
}

#[test]
fn hostile_text_stays_text_everywhere() {
    let evil =
        "</script><script>alert(1)</script><img src=x onerror=alert(2)> \" ' & \u{202e}rtl\u{0}";
    let mut data = report();
    data.title = evil.into();
    data.generated_at = Some(evil.into());
    data.facts.push((evil.into(), evil.into()));
    data.notes.push(evil.into());
    for level in &mut data.levels {
        level.name = evil.into();
        level.ranking[0].label = evil.into();
        if let Some(map) = &mut level.heatmap {
            map.rows[0].label = evil.into();
            map.clock = evil.into();
        }
    }
    let id = data.charts[0].id.clone();
    for anomaly in &mut data.anomalies {
        anomaly.level = evil.into();
        anomaly.key = evil.into();
        anomaly.metric = evil.into();
        anomaly.time_label = evil.into();
        anomaly.detectors = vec![evil.into()];
        anomaly.known_event = Some(evil.into());
        anomaly.chart = Some(id.clone());
    }
    for chart in &mut data.charts {
        chart.title = evil.into();
        chart.level = evil.into();
        chart.metric = evil.into();
        chart.clock = evil.into();
        chart.known_events[0].1 = evil.into();
    }
    if let Some(curve) = &mut data.training {
        curve.title = evil.into();
        curve.ended = evil.into();
    }
    for table in &mut data.quality {
        table.title = evil.into();
        table.note = evil.into();
        table.columns[0] = evil.into();
        table.rows[0][0] = evil.into();
    }
    let html = page(&data).unwrap();
    assert!(html.contains("alert(1)"), "the text itself must be shown");
    assert!(!html.contains("<script>alert") && !html.contains("<img"));
    assert!(!html.contains('\u{202e}') && !html.contains('\u{0}'));
    // Two scripts of our own and nothing else.
    assert_eq!(html.matches("<script").count(), 2);
    assert_eq!(html.matches("</script>").count(), 2);
    let dir = tempfile::tempdir().unwrap();
    for path in write_charts(&data, dir.path(), ChartFormat::Svg, &mut |_| ()).unwrap() {
        assert_eq!(path.parent(), Some(dir.path()));
        let svg = fs::read_to_string(&path).unwrap();
        assert!(!svg.contains("<script") && !svg.contains("<img") && !svg.contains('\u{0}'));
    }
}

#[test]
fn the_table_travels_as_json_that_holds_every_row() {
    let html = page(&report()).unwrap();
    let start = html.find("id=\"rows\">").unwrap() + "id=\"rows\">".len();
    let json = &html[start..start + html[start..].find("</script>").unwrap()];
    let table: serde_json::Value = serde_json::from_str(json).unwrap();
    let rows = table["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 620);
    assert!(rows.iter().all(|row| row.as_array().unwrap().len() == 19));
    // A row with a chart on the page links to it.
    assert_eq!(rows[1][18], 1);
    assert!(html.contains("id=\"chart-1\""));
}

#[test]
fn a_large_run_is_cut_and_the_page_says_so() {
    let mut data = report();
    let chart = weekly_chart();
    data.charts = (0..MAX_PAGE_CHARTS + 5)
        .map(|i| SeriesChart { id: format!("c{i}"), ..chart.clone() })
        .collect();
    data.anomalies = (0..MAX_PAGE_ROWS + 1).map(|i| row(i, "a", None)).collect();
    let html = page(&data).unwrap();
    assert_eq!(html.matches("<figure id=\"chart-").count(), MAX_PAGE_CHARTS);
    assert!(html.contains("the other 5 are in the run's"));
    assert!(html.contains("The first 10,000 of 10,001 anomalies"));
    assert!(html.len() < 8_000_000, "{}", html.len());
}

#[test]
fn two_ids_that_end_at_the_same_file_name_do_not_overwrite_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let chart = weekly_chart();
    let charts = ["A b", "a_b", "a/b", "../a b"]
        .map(|id| SeriesChart { id: id.into(), ..chart.clone() })
        .to_vec();
    let data = ReportData { charts, ..ReportData::default() };
    let paths = write_charts(&data, dir.path(), ChartFormat::Svg, &mut |_| ()).unwrap();
    let names: Vec<_> =
        paths.iter().filter_map(|p| p.file_name()).map(|n| n.to_string_lossy()).collect();
    assert_eq!(names, ["a_b.svg", "a_b_2.svg", "a_b_3.svg", "a_b_4.svg"]);
    assert!(paths.iter().all(|path| path.is_file()));
}

#[test]
fn errors_name_the_place_and_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "in the way").unwrap();
    let error = write_charts(&report(), &file, ChartFormat::Png, &mut |_| ()).unwrap_err();
    assert!(matches!(error, ReportError::Write { .. }));
    let message = error.to_string();
    assert!(message.contains("file") && message.contains("--out"), "{message}");
    let message = write_page(&report(), &file.join("report.html")).unwrap_err().to_string();
    assert!(message.contains("report.html") && message.contains("--out"), "{message}");
    let mut broken = report();
    broken.charts[0].upper.pop();
    let message = page(&broken).unwrap_err().to_string();
    assert!(message.contains("upper has 51 values"), "{message}");
}

#[test]
fn the_same_data_give_the_same_bytes() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let data = report();
    let first = write_charts(&data, one.path(), ChartFormat::Both, &mut |_| ()).unwrap();
    let second = write_charts(&data, two.path(), ChartFormat::Both, &mut |_| ()).unwrap();
    for (a, b) in first.iter().zip(&second) {
        assert_eq!(fs::read(a).unwrap(), fs::read(b).unwrap(), "{}", a.display());
    }
    assert_eq!(page(&data).unwrap(), page(&data).unwrap());
}

#[test]
fn an_empty_run_still_has_a_page() {
    let html = page(&ReportData::default()).unwrap();
    assert!(html.contains("Anomaly report") && html.contains("No point was flagged."));
}
