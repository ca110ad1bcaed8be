//! `[matrix]`: one config file that stands for many, the cross product of lists of values.
//!
//! ```toml
//! [matrix]
//! decision.level = [0.99, 0.995]
//! ensemble.members = [["nb2"], ["nb2", "seasonal_profile"]]
//! ```
//!
//! Every entry names a config key and lists the values that it takes; the last key changes
//! fastest, and the first combination is the baseline of a comparison. A value is written as it
//! would be at its own place, so a key that takes a list has a list of lists.

use std::path::Path;

use toml_edit::{Item, Value};

use super::{Config, ConfigError, Override, Problem, Source};

/// Configs that one matrix may stand for.
pub const MAX_VARIANTS: usize = 256;
/// What other commands say of a `[matrix]`.
pub(super) const MISPLACED: &str =
    "a matrix is for `anomalist compare`: the other commands take a single config";

/// One config of a matrix.
#[derive(Clone, Debug)]
pub struct Variant {
    /// Key and value of every entry of the matrix; empty for a config without one.
    pub choices: Vec<(String, String)>,
    pub config: Config,
}

impl Variant {
    /// The config's name, with the choices after it: `weekly level=0.995`.
    pub fn label(&self) -> String {
        let mut label = self.config.name.clone();
        for (key, value) in &self.choices {
            let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_string();
            let short = last(key);
            let alone = self.choices.iter().filter(|(other, _)| last(other) == short).count() == 1;
            label.push_str(&format!(" {}={value}", if alone { &short } else { key }));
        }
        label
    }
}

/// One key of a matrix with its values.
struct Axis {
    key: String,
    values: Vec<Choice>,
}

#[derive(Clone)]
struct Choice {
    value: String,
    place: Option<(usize, usize)>,
}

impl Config {
    /// Reads a config file that may have a `[matrix]`; without one there is one variant.
    ///
    /// # Errors
    /// Every problem of every variant, once.
    pub fn parse_variants(
        text: &str,
        file: &str,
        base: &Path,
        overrides: &[Override],
    ) -> Result<Vec<Variant>, ConfigError> {
        let fail = |problems: Vec<Problem>| ConfigError { file: file.to_string(), problems };
        let source = Source::parse(text).map_err(|problem| fail(vec![problem]))?;
        let mut document = source.to_mut();
        document.remove("matrix");
        let axes = axes(&source, overrides).map_err(fail)?;
        let mut variants = Vec::new();
        let mut problems: Vec<Problem> = Vec::new();
        for choices in combinations(&axes) {
            let mut all = overrides.to_vec();
            all.extend(choices.iter().map(|(key, choice)| Override {
                key: key.to_string(),
                value: choice.value.clone(),
                typed: format!("[matrix] {key} = {}", choice.value),
            }));
            match Self::parse_document(&source, document.clone(), file, base, &all) {
                Ok(config) => variants.push(Variant {
                    choices: choices
                        .into_iter()
                        .map(|(key, choice)| (key.to_string(), choice.value))
                        .collect(),
                    config,
                }),
                Err(error) => collect(&mut problems, error.problems, &choices),
            }
        }
        if problems.is_empty() {
            return Ok(variants);
        }
        problems.sort_by_key(|problem| problem.place.unwrap_or((usize::MAX, 0)));
        Err(fail(problems))
    }
}

/// Adds what is new in `found`, placed at the choice that it is about.
fn collect(problems: &mut Vec<Problem>, found: Vec<Problem>, choices: &[(&str, Choice)]) {
    for mut problem in found {
        let choice = choices
            .iter()
            .find(|(key, _)| problem.key == *key || problem.key.starts_with(&format!("{key}.")));
        if let Some((_, choice)) = choice {
            problem.place = choice.place.or(problem.place);
        }
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    }
}

fn axes(source: &Source, overrides: &[Override]) -> Result<Vec<Axis>, Vec<Problem>> {
    let Some(item) = source.entry("matrix") else { return Ok(Vec::new()) };
    let mut reader = AxisReader { source, axes: Vec::new(), problems: Vec::new() };
    reader.read("", item, item.span().map(|span| source.place_at(&span)));
    let AxisReader { axes, mut problems, .. } = reader;
    for (i, axis) in axes.iter().enumerate() {
        let place = axis.values.first().and_then(|choice| choice.place);
        let mut complain = |message: String| {
            problems.push(Problem { key: format!("matrix.{}", axis.key), message, place });
        };
        if axis.key == "seed" {
            complain("seeds are paired between configs: give them with --seeds 1..5".into());
        }
        if let Some(entry) = overrides.iter().find(|entry| entry.key == axis.key) {
            complain(format!("is set by `{}` too: leave one of them out", entry.typed));
        }
        if axes[..i].iter().any(|other| other.key == axis.key) {
            complain("comes twice".into());
        }
    }
    let size = axes.iter().try_fold(1_usize, |n, axis| n.checked_mul(axis.values.len()));
    if size.is_none_or(|n| n > MAX_VARIANTS) {
        let counts: Vec<String> = axes.iter().map(|axis| axis.values.len().to_string()).collect();
        problems.push(Problem {
            key: "matrix".into(),
            message: format!(
                "{} combinations, of at most {MAX_VARIANTS}: shorten a list, or split the matrix over several files",
                counts.join(" × ")
            ),
            place: source.place_of("matrix"),
        });
    }
    problems.sort_by_key(|problem| problem.place.unwrap_or((usize::MAX, 0)));
    if problems.is_empty() { Ok(axes) } else { Err(problems) }
}

struct AxisReader<'a> {
    source: &'a Source,
    axes: Vec<Axis>,
    problems: Vec<Problem>,
}

impl AxisReader<'_> {
    /// Takes the lists below `item`, whose dotted key is `key`.
    fn read(&mut self, key: &str, item: &Item, place: Option<(usize, usize)>) {
        if let Some(table) = item.as_table_like() {
            for (name, inner) in table.iter() {
                let span = table.get_key_value(name).and_then(|(key, _)| key.span());
                let place = span.map(|span| self.source.place_at(&span)).or(place);
                let key = if key.is_empty() { name.to_string() } else { format!("{key}.{name}") };
                self.read(&key, inner, place);
            }
            return;
        }
        let mut complain = |message: &str| {
            let key = format!("matrix.{key}").trim_end_matches('.').to_string();
            self.problems.push(Problem { key, message: message.into(), place });
        };
        match item.as_array() {
            Some(list) if list.is_empty() => complain("has no value: list at least one"),
            Some(list) => {
                let values: Vec<Choice> = list
                    .iter()
                    .map(|value| Choice {
                        value: plain(value),
                        place: value.span().map(|span| self.source.place_at(&span)),
                    })
                    .collect();
                let twice = |(i, choice): (usize, &Choice)| {
                    values[..i].iter().any(|other| other.value == choice.value)
                };
                if values.iter().enumerate().any(twice) {
                    complain("lists a value twice");
                }
                self.axes.push(Axis { key: key.to_string(), values });
            }
            None => complain(
                "must be a list of the values that the key takes: `decision.level = [0.99, 0.995]`",
            ),
        }
    }
}

/// A value without the spaces, line breaks and comments around it.
fn plain(value: &Value) -> String {
    let mut value = value.clone();
    value.decor_mut().clear();
    if let Some(list) = value.as_array_mut() {
        list.fmt();
    }
    value.to_string()
}

/// The cross product, the last axis fastest.
fn combinations(axes: &[Axis]) -> Vec<Vec<(&str, Choice)>> {
    let mut found: Vec<Vec<(&str, Choice)>> = vec![Vec::new()];
    for axis in axes {
        found = found
            .into_iter()
            .flat_map(|chosen| {
                axis.values.iter().map(move |choice| {
                    let mut chosen = chosen.clone();
                    chosen.push((axis.key.as_str(), choice.clone()));
                    chosen
                })
            })
            .collect();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "name = \"sweep\"\n[source]\npath = \"x.csv\"\n";

    fn variants(matrix: &str, overrides: &[Override]) -> Result<Vec<Variant>, String> {
        let text = format!("{BASE}{matrix}");
        Config::parse_variants(&text, "sweep.toml", Path::new(""), overrides)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_matrix_is_a_cross_product_with_the_last_key_fastest() {
        let found = variants(
            "[matrix]\ndecision.level = [0.99, 0.995]\n\"ensemble.members\" = [[\"nb2\"], [ \"zscore\",\n  \"nb2\" ]]\n",
            &[],
        )
        .unwrap();
        let labels: Vec<String> = found.iter().map(Variant::label).collect();
        assert_eq!(
            labels,
            [
                "sweep level=0.99 members=[\"nb2\"]",
                "sweep level=0.99 members=[\"zscore\", \"nb2\"]",
                "sweep level=0.995 members=[\"nb2\"]",
                "sweep level=0.995 members=[\"zscore\", \"nb2\"]",
            ]
        );
        assert_eq!(found[2].config.decision.level, 0.995);
        assert_eq!(found[2].config.members().len(), 1);
    }

    #[test]
    fn the_shipped_matrix_is_read() {
        let text = include_str!("../../configs/weekly_matrix.toml");
        let found = Config::parse_variants(text, "weekly_matrix.toml", Path::new(""), &[]);
        assert_eq!(found.unwrap().len(), 6);
    }

    #[test]
    fn without_a_matrix_there_is_one_config() {
        let found = variants("", &[]).unwrap();
        assert_eq!((found.len(), found[0].label()), (1, "sweep".to_string()));
    }

    #[test]
    fn every_problem_comes_once_and_at_its_place() {
        let text = "[decision]\nlevl = 1\n[matrix]\nnb2.interval_level = [0.99, 7.0]\nnb2.nonsense = [1, 2]\n";
        let error = variants(text, &[]).unwrap_err();
        assert!(error.contains("sweep.toml:5:1: `decision.levl`"), "{error}");
        assert_eq!(error.matches("decision.levl").count(), 1, "{error}");
        // Keys are read before values are judged, as in every config.
        let place = "sweep.toml:8:17: `nb2.nonsense`";
        assert!(error.contains(place), "{error}");
        let error = variants("[matrix]\nnb2.interval_level = [0.99, 7.0]\n", &[]).unwrap_err();
        assert!(error.contains("sweep.toml:5:29: `nb2.interval_level`"), "{error}");
        assert!(error.contains("[matrix] nb2.interval_level = 7.0"), "{error}");
    }

    #[test]
    fn what_is_no_list_of_values_is_refused() {
        let text = "[matrix]\nseed = [1, 2]\ndecision.level = 0.9\nnb2.trend = []\nname = [\"a\", \"a\"]\n";
        let error = variants(text, &[]).unwrap_err();
        for part in [
            "5:9: `matrix.seed`",
            "6:10: `matrix.decision.level`: must be a list",
            "7:5: `matrix.nb2.trend`: has no value",
            "8:1: `matrix.name`: lists a value twice",
        ] {
            assert!(error.contains(part), "{part}: {error}");
        }
        let error = variants("[matrix]\nseed = [1, 2]\n", &[]).unwrap_err();
        assert!(error.contains("--seeds"), "{error}");
        let set = Override {
            key: "nb2.trend".into(),
            value: "true".into(),
            typed: "--set nb2.trend=true".into(),
        };
        let error = variants("[matrix]\nnb2.trend = [true, false]\n", &[set]).unwrap_err();
        assert!(error.contains("--set nb2.trend=true"), "{error}");
    }

    #[test]
    fn too_many_combinations_are_refused_before_any_is_read() {
        let list: Vec<String> =
            (0..20).map(|i| (0.9 + f64::from(i) / 1000.0).to_string()).collect();
        let list = list.join(", ");
        let text = format!("[matrix]\ndecision.level = [{list}]\nnb2.interval_level = [{list}]\n");
        let error = variants(&text, &[]).unwrap_err();
        assert!(error.contains("20 × 20 combinations, of at most 256"), "{error}");
    }

    #[test]
    fn other_commands_say_where_a_matrix_belongs() {
        let text = format!("{BASE}[matrix]\ndecision.level = [0.9]\n");
        let error = Config::parse(&text, "sweep.toml", Path::new(""), &[]).unwrap_err().to_string();
        assert!(error.contains("anomalist compare"), "{error}");
    }
}
