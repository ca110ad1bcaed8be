use std::{fs, path::Path};

use polars::prelude::{DataFrame, DataType, ParquetWriter, TimeUnit, df};
use proptest::prelude::*;

use super::*;
use crate::{
    panel::{
        AggregationPlan, Aggregator, Duplicates, Metric, MetricKind, SpanRule, Step, TIME_COLUMN,
    },
    source::{
        AmbiguousTime, BATCH_ROWS, Filter, IdColumn, IntervalSpec, Layout, MetricColumn,
        TimeFormat, read_intervals,
    },
};

fn metric(name: &str) -> MetricColumn {
    MetricColumn { name: name.into(), column: None, count: true }
}

/// Brands with views: `when,brand,views`.
fn wide(pattern: &Path) -> SourceSpec {
    let mut spec = SourceSpec::new(pattern.to_string_lossy(), "when", Layout::Wide);
    spec.id_columns = vec![IdColumn::named("brand")];
    spec.metrics = vec![metric("views")];
    spec.max_rejected_share = 1.0;
    spec
}

type Rows = Vec<(u64, i64, String, f64)>;

/// Line, time, first id and first metric of every row.
fn rows_of(spec: &SourceSpec, log: &mut RejectLog) -> Result<(Rows, ReadSummary), SourceError> {
    let mut rows = Vec::new();
    let summary = read(spec, &mut |_, _| {}, log, &mut |batch| {
        assert!(batch.lines.len() <= BATCH_ROWS && batch.frame.height() == batch.lines.len());
        for (row, &line) in batch.lines.iter().enumerate() {
            let id = batch.frame.column(&spec.id_columns[0].name)?.str()?.get(row);
            let time = batch.frame.column(TIME_COLUMN)?.i64()?.get(row);
            let value = batch.frame.column(&spec.metrics[0].name)?.f64()?.get(row);
            rows.push((line, time.unwrap(), id.unwrap().to_string(), value.unwrap()));
        }
        Ok(Vec::new())
    })?;
    Ok((rows, summary))
}

fn csv(text: impl AsRef<[u8]>) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.csv");
    fs::write(&path, text).unwrap();
    (folder, path)
}

fn read_csv_text(text: impl AsRef<[u8]>) -> (Rows, Vec<(RejectReason, u64)>) {
    let (_folder, path) = csv(text);
    let mut log = RejectLog::counting();
    let (rows, _) = rows_of(&wide(&path), &mut log).unwrap();
    let rejected = log.examples().iter().map(|one| (one.reason, one.line)).collect();
    (rows, rejected)
}

fn error_of(text: impl AsRef<[u8]>) -> String {
    let (_folder, path) = csv(text);
    rows_of(&wide(&path), &mut RejectLog::counting()).unwrap_err().to_string()
}

#[test]
fn every_kind_of_bad_row_is_rejected_with_its_line_and_reason() {
    let text = b"when,brand,views\n\
        2025-01-06,a,1\n\
        soon,a,1\n\
        ,a,1\n\
        2025-01-06,,1\n\
        2025-01-06,a,-1\n\
        2025-01-06,a,many\n\
        2025-01-06,a,inf\n\
        2025-01-06,a\n\
        2025-01-06,a,1,2\n\
        2025-01-06,\xff\xfe,1\n\
        2025-01-06,\xc3,\xa9\n\
        2025-01-07,b,\n";
    let (rows, rejected) = read_csv_text(text);
    use RejectReason as R;
    let expected = [
        (R::UnparsableTime, 3),
        (R::MissingTime, 4),
        (R::MissingKey, 5),
        (R::NegativeCount, 6),
        (R::NotANumber, 7),
        (R::InfiniteNumber, 8),
        (R::WrongColumnCount, 9),
        (R::WrongColumnCount, 10),
        (R::BrokenUtf8, 11),
        (R::BrokenUtf8, 12),
    ];
    assert_eq!(rejected, expected);
    assert_eq!(rows.len(), 2);
    assert_eq!((rows[0].0, rows[1].0), (2, 13));
    assert!(rows[1].3.is_nan(), "an empty value is missing, not an error");
}

#[test]
fn delimiters_marks_line_ends_and_quotes_are_understood() {
    let expected = vec![(2, 1_736_121_600, "a,b".to_string(), 5.0)];
    for text in [
        "when,brand,views\n2025-01-06,\"a,b\",5\n",
        "\u{feff}when,brand,views\n2025-01-06,\"a,b\",5",
        "when;brand;views\r\n2025-01-06;a,b;5\r\n",
        "when\tbrand\tviews\n2025-01-06\ta,b\t5\n",
        "when|brand|views\n2025-01-06|a,b|5\n",
        " when , brand ,\"views\"\n 2025-01-06 ,\"a,b\", 5 \n",
    ] {
        assert_eq!(read_csv_text(text), (expected.clone(), vec![]), "{text:?}");
    }
}

#[test]
fn lines_are_counted_alike_for_both_line_ends_and_across_quoted_fields() {
    for end in ["\n", "\r\n"] {
        let text = format!(
            "when,brand,views{end}2025-01-06,\"a{end}b\",1{end}2025-01-06,c,2{end}{end}2025-01-06,d,x{end}"
        );
        let (rows, rejected) = read_csv_text(&text);
        let lines: Vec<u64> = rows.iter().map(|row| row.0).collect();
        assert_eq!(
            (lines, rejected),
            (vec![2, 4], vec![(RejectReason::NotANumber, 6)]),
            "{text:?}"
        );
    }
}

#[test]
fn a_quote_that_is_never_closed_is_an_error_and_loses_no_row_in_silence() {
    let rest = "2025-01-06,b,2\n".repeat(50);
    let text = format!("when,brand,views\n2025-01-06,a,1\n2025-01-06,\"b,2\n{rest}");
    let error = error_of(&text);
    assert!(error.contains("line 3: a quoted field is never closed"), "{error}");

    // Closed by a stray quote further down: every line in between is logged.
    let text =
        "when,brand,views\n2025-01-06,\"b,2\n2025-01-06,b,2\n2025-01-06,b\",2,2\n2025-01-06,c,3\n";
    let (rows, rejected) = read_csv_text(text);
    assert_eq!(rows.len(), 1);
    assert_eq!(rejected.iter().map(|one| one.1).collect::<Vec<_>>(), [2, 3, 4]);
}

#[test]
fn a_runaway_quote_in_a_large_file_stops_before_it_fills_the_memory() {
    let mut text = String::from("when,brand,views\n2025-01-06,\"b,2\n");
    text.push_str(&"2025-01-06,some brand with a name,2\n".repeat(800_000));
    let error = error_of(&text);
    assert!(error.contains("line 2: a quoted field is never closed"), "{error}");
    let reached = error.split("runs to line ").nth(1).and_then(|rest| rest.split(')').next());
    let reached: u64 = reached.unwrap().parse().unwrap();
    assert!(reached < 600_000, "it was read on to line {reached} of 800,002");
}

#[test]
fn files_without_rows_or_columns_say_what_to_do() {
    assert!(error_of("").contains("is empty (0 bytes)"));
    assert!(error_of("\n\n").contains("no header"));
    assert!(error_of("when,brand,views\n").contains("there is a header and no row"));
    let text = error_of("time,brand,view\n2025-01-06,a,1\n");
    assert!(text.contains("no column `view") && text.contains("`time`, `brand`, `view`"), "{text}");
}

#[test]
fn too_many_bad_rows_stop_the_reading_with_an_example_and_a_remedy() {
    let (_folder, path) = csv("when,brand,views\n2025-01-06,a,1\n06.01.2025,a,1\n");
    let mut spec = wide(&path);
    spec.max_rejected_share = 0.5;
    assert!(rows_of(&spec, &mut RejectLog::counting()).is_ok());
    spec.max_rejected_share = 0.49;
    let error = rows_of(&spec, &mut RejectLog::counting()).unwrap_err().to_string();
    for part in ["1 of 2 rows", "unparsable_time", "line 3: \"06.01.2025,a,1\"", "time_format"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_large_bad_file_stops_early_and_a_small_share_does_not() {
    let bad = "x,a,1\n".repeat(100_000);
    let (folder, path) = csv(format!("when,brand,views\n{bad}"));
    let mut spec = wide(&path);
    spec.max_rejected_share = 0.01;
    let mut log = RejectLog::writing_to(folder.path().join("rejected.csv"));
    rows_of(&spec, &mut log).unwrap_err();
    assert_eq!(log.total(), 1_000);
    let kept = fs::read_to_string(folder.path().join("rejected.csv")).unwrap();
    assert_eq!(kept.lines().count(), 1_001);

    let good = "2025-01-06,a,1\n".repeat(50);
    let mixed = format!("{good}x,a,1\n").repeat(3_000); // 2 % bad
    let (_folder, path) = csv(format!("when,brand,views\n{mixed}"));
    let spec = SourceSpec { max_rejected_share: 0.02, ..wide(&path) };
    assert_eq!(rows_of(&spec, &mut RejectLog::counting()).unwrap().1.rows, 150_000);
}

#[test]
fn events_long_rows_constants_and_filters_are_laid_out() {
    let (_folder, path) =
        csv("when,what,n\n2025-01-06,view,3\n2025-01-06,buy,2\n2025-01-06,other,9\n");
    let mut spec = wide(&path);
    spec.id_columns =
        vec![IdColumn { name: "brand".into(), column: None, value: Some("all".into()) }];
    let values = |spec: &SourceSpec| {
        let (rows, summary) = rows_of(spec, &mut RejectLog::counting()).unwrap();
        assert!(rows.iter().all(|row| row.2 == "all"));
        let values: Vec<f64> = rows.iter().map(|row| row.3).collect();
        (values, summary.filtered)
    };
    spec.layout = Layout::Events { value_column: None };
    assert_eq!(values(&spec), (vec![1.0; 3], 0));
    spec.layout = Layout::Events { value_column: Some("n".into()) };
    assert_eq!(values(&spec), (vec![3.0, 2.0, 9.0], 0));
    spec.filters = vec![Filter { column: "what".into(), values: vec!["buy".into()] }];
    assert_eq!(values(&spec), (vec![2.0], 2));
    spec.filters[0].values[0] = "nothing".into();
    let error = rows_of(&spec, &mut RejectLog::counting()).unwrap_err().to_string();
    assert!(error.contains("none of the 3 rows passes"), "{error}");

    spec.filters.clear();
    spec.layout = Layout::Long { metric_column: "what".into(), value_column: Some("n".into()) };
    spec.metrics = vec![metric("views"), metric("buy")];
    spec.metrics[0].column = Some("view".into());
    let (values, filtered) = values(&spec);
    assert_eq!((values[0], filtered), (3.0, 1));
    assert!(values[1].is_nan(), "a row is about one metric only");
}

#[test]
fn a_spec_that_does_not_fit_together_says_everything_at_once() {
    let mut spec = wide(Path::new(""));
    spec.layout = Layout::Events { value_column: None };
    spec.metrics.push(metric("brand"));
    spec.max_rejected_share = f64::NAN;
    let error = rows_of(&spec, &mut RejectLog::counting()).unwrap_err().to_string();
    for key in ["`pattern`", "`metrics`", "`id_columns`", "`max_rejected_share`"] {
        assert!(error.contains(key), "{error}");
    }
}

#[test]
fn rows_that_the_panel_refuses_are_logged_as_duplicates_with_their_lines() {
    let (folder, path) = csv("when,brand,views\n2025-01-08,a,1\n2025-01-06,b,4\n2025-01-06,a,2\n");
    let spec = wide(&path);
    let mut rows = Aggregator::new(AggregationPlan {
        step: Step::Week,
        time_zone: jiff::tz::TimeZone::UTC,
        id_columns: vec!["brand".into()],
        metrics: vec![Metric { name: "views".into(), kind: MetricKind::Count }],
        duplicates: Duplicates::Reject,
        spans: SpanRule::Calendar,
        edges: crate::panel::Edges::Keep,
        blank_is_missing: true,
    });
    let log_path = folder.path().join("rejected.csv");
    let mut log = RejectLog::writing_to(&log_path);
    let push = &mut |batch: &Batch| Ok(rows.push(&batch.frame)?);
    let summary = read(&spec, &mut |_, _| {}, &mut log, push).unwrap();
    assert_eq!(summary.rows, 2);
    assert_eq!(summary.rejected.get(&RejectReason::Duplicate), Some(&1));
    assert!(fs::read_to_string(log_path).unwrap().contains(",4,duplicate,\"a,"));
}

fn parquet(folder: &Path, name: &str, frame: &mut DataFrame) -> std::path::PathBuf {
    let path = folder.join(name);
    let file = fs::File::create(&path).unwrap();
    ParquetWriter::new(file).with_row_group_size(Some(1_000)).finish(frame).unwrap();
    path
}

#[test]
fn parquet_times_of_every_type_mean_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let secs = [1_736_121_600_i64, 1_736_640_000];
    let berlin = |spec: &mut SourceSpec| {
        spec.time_zone = jiff::tz::TimeZone::get("Europe/Berlin").unwrap();
    };
    let mut frame = df!(
        "ms" => secs.map(|s| s * 1_000),
        "s" => secs,
        "f" => secs.map(|s| s as f64 + 0.25),
        "text" => ["2025-01-06", "2025-01-12"],
        "day" => secs.map(|s| (s / 86_400) as i32),
        "brand" => ["a", "b"],
        "views" => [1_i32, 2],
    )
    .unwrap();
    let stamp = |unit| DataType::Datetime(unit, None);
    let with = |frame: &mut DataFrame, from: &str, name: &str, dtype: &DataType| {
        let column = frame.column(from).unwrap().cast(dtype).unwrap().with_name(name.into());
        frame.with_column(column).unwrap();
    };
    with(&mut frame, "ms", "wall", &stamp(TimeUnit::Milliseconds));
    with(&mut frame, "wall", "wall_ns", &stamp(TimeUnit::Nanoseconds));
    with(&mut frame, "day", "date", &DataType::Date);
    let path = parquet(folder.path(), "times.parquet", &mut frame);
    let times = |column: &str, format: TimeFormat, change: &dyn Fn(&mut SourceSpec)| {
        let mut spec = wide(&path);
        spec.time_column = column.into();
        spec.time_format = format;
        change(&mut spec);
        rows_of(&spec, &mut RejectLog::counting())
            .map(|(rows, _)| rows.into_iter().map(|row| row.1).collect::<Vec<_>>())
    };
    for (column, format) in [
        ("wall", TimeFormat::Auto),
        ("wall_ns", TimeFormat::Auto),
        ("date", TimeFormat::Auto),
        ("text", TimeFormat::Auto),
        ("s", TimeFormat::EpochSeconds),
        ("f", TimeFormat::EpochSeconds),
        ("ms", TimeFormat::EpochMillis),
    ] {
        assert_eq!(times(column, format, &|_| {}).unwrap(), secs, "{column}");
    }
    let earlier = secs.map(|s| s - 3_600);
    for column in ["wall", "date", "text"] {
        assert_eq!(times(column, TimeFormat::Auto, &berlin).unwrap(), earlier, "{column}");
    }
    assert_eq!(times("s", TimeFormat::EpochSeconds, &berlin).unwrap(), secs);
    let error = times("s", TimeFormat::Auto, &|_| {}).unwrap_err().to_string();
    assert!(error.contains("column `s`") && error.contains("epoch_seconds"), "{error}");
}

#[test]
fn parquet_is_read_in_slices_with_the_same_rows_as_csv() {
    let folder = tempfile::tempdir().unwrap();
    let n = BATCH_ROWS + 5_000;
    let mut text = String::from("when,brand,views\n");
    let when: Vec<String> = (0..n).map(|i| format!("2025-01-{:02}", 1 + i % 28)).collect();
    let brand: Vec<String> = (0..n).map(|i| format!("brand {}", i % 7)).collect();
    let views: Vec<Option<f64>> = (0..n).map(|i| (i % 11 != 0).then_some(i as f64)).collect();
    for i in 0..n {
        let value = views[i].map_or_else(String::new, |v| v.to_string());
        text.push_str(&format!("{},{},{value}\n", when[i], brand[i]));
    }
    let mut frame = df!("when" => when, "brand" => brand, "views" => views).unwrap();
    let path = parquet(folder.path(), "data.parquet", &mut frame);
    let (_other, csv_path) = csv(&text);
    let comparable = |path: &Path| {
        let (rows, summary) = rows_of(&wide(path), &mut RejectLog::counting()).unwrap();
        assert_eq!(summary.rows, n as u64);
        rows.into_iter().map(|(_, t, id, v)| (t, id, v.to_bits())).collect::<Vec<_>>()
    };
    assert!(comparable(&path) == comparable(&csv_path));
}

#[test]
fn bad_parquet_values_are_rejected_and_a_broken_file_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let mut frame = df!(
        "when" => [Some("2025-01-06"), None, Some("2025-01-06"), Some("2025-01-06")],
        "brand" => [Some("a"), Some("a"), None, Some("a")],
        "views" => [1.0, 1.0, 1.0, -2.0],
    )
    .unwrap();
    let path = parquet(folder.path(), "bad.parquet", &mut frame);
    let mut log = RejectLog::counting();
    assert_eq!(rows_of(&wide(&path), &mut log).unwrap().0.len(), 1);
    use RejectReason as R;
    let found: Vec<_> = log.examples().iter().map(|one| (one.line, one.reason)).collect();
    assert_eq!(found, [(2, R::MissingTime), (3, R::MissingKey), (4, R::NegativeCount)]);

    let bytes = fs::read(&path).unwrap();
    for length in [4, 12, bytes.len() / 2, bytes.len() - 1] {
        let broken = folder.path().join("broken.parquet");
        fs::write(&broken, &bytes[..length]).unwrap();
        let error = rows_of(&wide(&broken), &mut RejectLog::counting()).unwrap_err().to_string();
        assert!(error.contains("broken.parquet") && error.contains("completely"), "{error}");
    }
}

#[test]
fn a_partitioned_folder_is_one_table() {
    let folder = tempfile::tempdir().unwrap();
    for (part, rows) in [("brand=a/day=2025-01-06", "1\n2\n"), ("brand=b/day=2025-01-07", "3\n")] {
        fs::create_dir_all(folder.path().join(part)).unwrap();
        fs::write(folder.path().join(part).join("part-0.csv"), format!("views\n{rows}")).unwrap();
    }
    let mut spec = wide(folder.path());
    spec.time_column = "day".into();
    let (rows, summary) = rows_of(&spec, &mut RejectLog::counting()).unwrap();
    let found: Vec<_> = rows.iter().map(|row| (row.2.as_str(), row.3)).collect();
    assert_eq!(found, [("a", 1.0), ("a", 2.0), ("b", 3.0)]);
    assert_eq!((rows[0].1, rows[2].1), (1_736_121_600, 1_736_208_000));
    assert_eq!(summary.files.len(), 2);
    spec.pattern = folder.path().join("*/*/*.csv").to_string_lossy().into_owned();
    assert_eq!(rows_of(&spec, &mut RejectLog::counting()).unwrap().1, summary);
}

#[test]
fn the_fingerprint_is_the_hash_of_the_bytes_and_progress_ends_at_the_total() {
    let text = format!("when,brand,views\n{}", "2025-01-06,a,1\n".repeat(30_000));
    let (_folder, path) = csv(&text);
    let mut last = (0, 0);
    let mut steps = 0;
    let summary = read(
        &wide(&path),
        &mut |done, total| {
            assert!(done >= last.0 && done <= total);
            last = (done, total);
            steps += 1;
        },
        &mut RejectLog::counting(),
        &mut |_| Ok(Vec::new()),
    )
    .unwrap();
    assert_eq!(last, (text.len() as u64, text.len() as u64));
    assert!(steps > 2);
    assert_eq!(summary.fingerprint, blake3::hash(text.as_bytes()).to_hex().to_string());
    assert_eq!(summary.bytes, text.len() as u64);
}

/// A sample file: time column, id columns, metric, and how many rows it has.
fn sample(name: &str, time: &str, ids: &[&str], value: &str) -> (Rows, ReadSummary) {
    let folder = Path::new("configs/data");
    let mut spec = SourceSpec::new(folder.join(name).to_string_lossy(), time, Layout::Wide);
    spec.id_columns = ids.iter().copied().map(IdColumn::named).collect();
    spec.metrics = vec![MetricColumn { name: value.into(), column: None, count: true }];
    spec.max_rejected_share = 0.0;
    rows_of(&spec, &mut RejectLog::counting()).unwrap()
}

#[test]
fn the_sample_data_are_read_without_a_reject_and_their_labels_fall_on_rows() {
    assert_eq!(sample("influenza.csv", "week", &["region", "age_group"], "cases").1.rows, 11_855);
    for (name, n_rows, n_labels) in [("cloud_monitoring", 10_224, 36), ("nab", 10_839, 10)] {
        let (rows, summary) = sample(&format!("{name}.csv"), "timestamp", &["series"], "value");
        assert_eq!(summary.rows, n_rows);
        let path = Path::new("configs/data").join(format!("{name}_labels.csv"));
        let labels = read_intervals(
            &path,
            &IntervalSpec {
                id_columns: vec!["series".into()],
                delimiter: None,
                time_format: TimeFormat::Auto,
                time_zone: jiff::tz::TimeZone::UTC,
                ambiguous_time: AmbiguousTime::Reject,
            },
        )
        .unwrap();
        assert_eq!(labels.len(), n_labels);
        for label in labels {
            assert!(rows.iter().any(|row| {
                label.key[0].1.as_ref() == Some(&row.2) && (label.start..label.end).contains(&row.1)
            }));
        }
    }
}

proptest! {
    #[test]
    fn every_line_of_any_text_is_either_used_or_rejected(
        cells in prop::collection::vec(("[0-9a-z -]{0,12}", "[a-z]{0,3}", "[0-9.,;-]{0,4}"), 1..40)
    ) {
        let mut text = String::from("when,brand,views\n");
        for (a, b, c) in &cells {
            text.push_str(&format!("{a},{b},{c}\n"));
        }
        let (rows, _) = {
            let (_folder, path) = csv(&text);
            let mut log = RejectLog::counting();
            let (rows, _) = rows_of(&wide(&path), &mut log).unwrap();
            let rejected = log.total();
            prop_assert_eq!(rows.len() as u64 + rejected, cells.len() as u64);
            (rows, rejected)
        };
        prop_assert!(rows.iter().all(|row| !row.2.trim().is_empty() && (row.3.is_nan() || row.3 >= 0.0)));
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let (_folder, path) = csv(&bytes);
        let _ = rows_of(&wide(&path), &mut RejectLog::counting());
    }
}
