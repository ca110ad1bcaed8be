//! Which field of a row plays which part, found once per file.

use std::collections::HashMap;

use super::{
    SourceError,
    files::InputFile,
    spec::{Layout, SourceSpec},
};

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The file's column with this number.
    Field(usize),
    /// The same for every row: a constant, or the value of a `column=value` folder.
    Fixed(String),
}

/// Where a row's metrics come from.
#[derive(Clone, Debug)]
pub(super) enum Values {
    /// A row weighs 1.
    One,
    /// One origin per metric.
    Each(Vec<Origin>),
    /// A name says which metric the value (without one: 1) belongs to.
    Named { metric: Origin, value: Option<Origin>, places: HashMap<String, usize> },
}

/// The parts that a file's columns play.
#[derive(Clone, Debug)]
pub(super) struct Columns {
    pub(super) ids: Vec<Origin>,
    pub(super) time: Origin,
    pub(super) values: Values,
    /// Origin and allowed values.
    pub(super) filters: Vec<(Origin, Vec<String>)>,
}

impl Columns {
    /// Finds every column that `spec` needs among `header` and the file's partition columns.
    pub(super) fn resolve(
        spec: &SourceSpec,
        file: &InputFile,
        header: &[String],
    ) -> Result<Self, SourceError> {
        let find = |column: &str, role: &'static str| origin(file, header, column, role);
        let ids = spec
            .id_columns
            .iter()
            .map(|id| match &id.value {
                Some(value) => Ok(Origin::Fixed(value.clone())),
                None => find(id.source(), "an id column"),
            })
            .collect::<Result<_, _>>()?;
        let values = match &spec.layout {
            Layout::Events { value_column: None } => Values::One,
            Layout::Events { value_column: Some(column) } => {
                Values::Each(vec![find(column, "the value column")?])
            }
            Layout::Wide => Values::Each(
                spec.metrics
                    .iter()
                    .map(|metric| find(metric.source(), "a metric"))
                    .collect::<Result<_, _>>()?,
            ),
            Layout::Long { metric_column, value_column } => Values::Named {
                metric: find(metric_column, "the metric names")?,
                value: value_column
                    .as_ref()
                    .map(|column| find(column, "the value column"))
                    .transpose()?,
                places: spec
                    .metrics
                    .iter()
                    .enumerate()
                    .map(|(place, metric)| (metric.source().to_string(), place))
                    .collect(),
            },
        };
        let filters = spec
            .filters
            .iter()
            .map(|filter| Ok((find(&filter.column, "a filter")?, filter.values.clone())))
            .collect::<Result<_, SourceError>>()?;
        Ok(Self { ids, time: find(&spec.time_column, "the time column")?, values, filters })
    }

    /// The fields that hold metric values.
    pub(super) fn number_fields(&self) -> Vec<usize> {
        match &self.values {
            Values::One => Vec::new(),
            Values::Each(origins) => fields(origins),
            Values::Named { value, .. } => fields(value),
        }
    }

    /// The fields that are read as text.
    pub(super) fn text_fields(&self) -> Vec<usize> {
        let mut found = fields(&self.ids);
        found.extend(fields(self.filters.iter().map(|(origin, _)| origin)));
        if let Values::Named { metric, .. } = &self.values {
            found.extend(fields([metric]));
        }
        found
    }

    /// The field that holds the time, if it is one.
    pub(super) fn time_field(&self) -> Option<usize> {
        match self.time {
            Origin::Field(field) => Some(field),
            Origin::Fixed(_) => None,
        }
    }
}

fn fields<'a>(origins: impl IntoIterator<Item = &'a Origin>) -> Vec<usize> {
    let field = |origin: &Origin| match origin {
        Origin::Field(field) => Some(*field),
        Origin::Fixed(_) => None,
    };
    origins.into_iter().filter_map(field).collect()
}

fn origin(
    file: &InputFile,
    header: &[String],
    column: &str,
    role: &'static str,
) -> Result<Origin, SourceError> {
    let mut places = header.iter().enumerate().filter(|(_, name)| *name == column);
    if let Some((place, _)) = places.next() {
        return match places.count() {
            0 => Ok(Origin::Field(place)),
            others => Err(SourceError::RepeatedColumn {
                path: file.path.clone(),
                column: column.to_string(),
                times: others + 1,
            }),
        };
    }
    if let Some((_, value)) = file.partitions.iter().find(|(name, _)| name == column) {
        return Ok(Origin::Fixed(value.clone()));
    }
    let names: Vec<&str> = header
        .iter()
        .map(String::as_str)
        .chain(file.partitions.iter().map(|(name, _)| name.as_str()))
        .collect();
    Err(missing(file, column, role, &names))
}

/// The error for a column that is not there, with the one that may have been meant.
pub(super) fn missing(
    file: &InputFile,
    column: &str,
    role: &'static str,
    names: &[&str],
) -> SourceError {
    const SHOWN: usize = 40;
    let mut available =
        names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        available += &format!(" and {} more", names.len() - SHOWN);
    }
    SourceError::MissingColumn {
        path: file.path.clone(),
        column: column.to_string(),
        role,
        suggestion: closest(column, names)
            .map_or_else(String::new, |name| format!(", did you mean `{name}`?")),
        available,
    }
}

/// The name that differs least, if it differs by little.
fn closest<'a>(wanted: &str, names: &[&'a str]) -> Option<&'a str> {
    let plain = |text: &str| -> String {
        text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
    };
    let target = plain(wanted);
    let distance = |name: &str| strsim::damerau_levenshtein(&target, &plain(name));
    let best = names.iter().copied().min_by_key(|name| distance(name))?;
    (distance(best) <= 1 + target.chars().count() / 4).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{files::FileKind, spec::IdColumn, spec::MetricColumn};

    fn file() -> InputFile {
        InputFile {
            path: "a.csv".into(),
            kind: FileKind::Csv,
            bytes: 1,
            partitions: vec![("brand".into(), "x".into())],
        }
    }

    fn spec() -> SourceSpec {
        let mut spec = SourceSpec::new("a.csv", "when", Layout::Wide);
        spec.id_columns = vec![IdColumn::named("brand")];
        spec.metrics = vec![MetricColumn { name: "views".into(), column: None, count: true }];
        spec
    }

    fn header(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    #[test]
    fn a_folder_value_stands_in_for_a_column() {
        let columns = Columns::resolve(&spec(), &file(), &header(&["views", "when"])).unwrap();
        assert_eq!(columns.ids, [Origin::Fixed("x".into())]);
        assert_eq!(columns.time_field(), Some(1));
        assert_eq!(columns.number_fields(), [0]);
    }

    #[test]
    fn a_missing_column_is_named_with_what_may_have_been_meant() {
        let names = header(&["Views", "when", "carts"]);
        let text = Columns::resolve(&spec(), &file(), &names).unwrap_err().to_string();
        assert!(
            text.contains("a.csv: no column `views` (a metric), did you mean `Views`?"),
            "{text}"
        );
        assert!(text.contains("`when`, `carts`, `brand`"), "{text}");
        let names = header(&["sales", "when"]);
        let text = Columns::resolve(&spec(), &file(), &names).unwrap_err().to_string();
        assert!(!text.contains("did you mean"), "{text}");
    }

    #[test]
    fn a_needed_column_must_not_come_twice() {
        let names = header(&["when", "views", "views"]);
        let text = Columns::resolve(&spec(), &file(), &names).unwrap_err().to_string();
        assert!(text.contains("`views` comes 2 times"), "{text}");
    }
}
