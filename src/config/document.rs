//! TOML text -> any checked type, with every problem at once, each with its line and column.
//!
//! serde stops at the first problem. Here the offending entry is noted, taken out of a copy of the
//! document, and the rest is read again, until nothing is left to complain about.

use std::{ops::Range, path::Path};

use serde::de::DeserializeOwned;
use toml_edit::{Document, DocumentMut, Item, TableLike};

/// One thing that is wrong with a config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Dotted key: `nb2.interval_level`. Empty for the file as a whole.
    pub key: String,
    /// What is wrong, and what to write instead.
    pub message: String,
    /// Line and column, both from 1; `None` for values that the file does not hold.
    pub place: Option<(usize, usize)>,
}

/// A TOML document whose keys can be found again.
pub struct Source {
    text: String,
    document: Document<String>,
}

/// Enough for any config; a guard against a loop that removes nothing.
const MAX_PROBLEMS: usize = 200;

impl Source {
    /// Parses the syntax.
    ///
    /// # Errors
    /// One problem, with its place, when the text is no TOML.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let text = text.trim_start_matches('\u{feff}').to_string();
        match Document::parse(text.clone()) {
            Ok(document) => Ok(Self { text, document }),
            Err(error) => Err(Problem {
                key: String::new(),
                message: error.message().to_string(),
                place: error.span().map(|span| line_column(&text, span.start)),
            }),
        }
    }

    /// The document, for changes.
    pub fn to_mut(&self) -> DocumentMut {
        self.document.clone().into_mut()
    }

    /// The entry of a top-level key as it was written, with its spans.
    pub fn entry(&self, key: &str) -> Option<&Item> {
        self.document.get(key)
    }

    /// Line and column of the start of a span.
    pub fn place_at(&self, span: &Range<usize>) -> (usize, usize) {
        line_column(&self.text, span.start)
    }

    /// Line and column of a dotted key, or of the nearest table above it that the file holds.
    pub fn place_of(&self, key: &str) -> Option<(usize, usize)> {
        let mut found = None;
        let mut item = self.document.as_item();
        for part in key.split('.') {
            let Some((span, next)) = child(item, part) else { break };
            found = span.or(found);
            item = next;
        }
        found.map(|span| line_column(&self.text, span.start))
    }
}

/// Reads `document` into `T`.
///
/// # Errors
/// Every problem, without places: see [`Source::place_of`].
pub fn read<T: DeserializeOwned>(document: &DocumentMut) -> Result<T, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut rest = document.clone();
    loop {
        let text = rest.to_string();
        let error = match toml_edit::de::from_str::<T>(&text) {
            Ok(value) if problems.is_empty() => return Ok(value),
            Ok(_) => return Err(problems),
            Err(error) => error,
        };
        let path = error.span().and_then(|span| path_at(&text, span));
        problems.push(Problem {
            key: path.as_ref().map(|path| path.join(".")).unwrap_or_default(),
            message: with_suggestion(error.message()),
            place: None,
        });
        let removed = path.is_some_and(|path| remove(rest.as_item_mut(), &path));
        if !removed || problems.len() >= MAX_PROBLEMS {
            return Err(problems);
        }
    }
}

/// Sets a dotted key to `value`, read as TOML where it is TOML and as a string otherwise.
///
/// # Errors
/// When the key is empty or runs through something that is no table.
pub fn set(document: &mut DocumentMut, key: &str, value: &str) -> Result<(), Problem> {
    let problem = |message: String| Problem { key: key.to_string(), message, place: None };
    let parts: Vec<&str> = key.split('.').map(str::trim).collect();
    let Some((last, tables)) = parts.split_last().filter(|_| parts.iter().all(|p| !p.is_empty()))
    else {
        return Err(problem("is no key: write --set table.key=value".into()));
    };
    let mut item = document.as_item_mut();
    for part in tables {
        let table = item.as_table_like_mut().ok_or_else(|| {
            problem(format!("`{part}` cannot be reached: its parent is no table"))
        })?;
        item = table.entry(part).or_insert_with(toml_edit::table);
    }
    let table = item
        .as_table_like_mut()
        .ok_or_else(|| problem("its parent is a plain value, not a table".into()))?;
    let value = value.parse::<toml_edit::Value>().unwrap_or_else(|_| value.into());
    table.insert(last, Item::Value(value));
    Ok(())
}

/// Makes the paths of the `[source]` table start from `base`, the folder of the config file.
pub fn resolve_paths(document: &mut DocumentMut, base: &Path) {
    if base.as_os_str().is_empty() {
        return;
    }
    let Some(table) = document.get_mut("source").and_then(Item::as_table_like_mut) else { return };
    for key in ["path", "labels", "known_events"] {
        let Some(Item::Value(value)) = table.get_mut(key) else { continue };
        if let Some(text) = value.as_str().filter(|text| Path::new(text).is_relative()) {
            *value = base.join(text).to_string_lossy().into_owned().into();
        }
    }
}

/// The child `part` of a table, or element number `part` of an array, with the span of its key.
fn child<'a>(item: &'a Item, part: &str) -> Option<(Option<Range<usize>>, &'a Item)> {
    if let Some(table) = item.as_table_like() {
        let (key, next) = table.get_key_value(part)?;
        return Some((key.span().or_else(|| next.span()), next));
    }
    None
}

/// The path of keys down to the deepest entry whose key or value covers the start of `span`.
fn path_at(text: &str, span: Range<usize>) -> Option<Vec<String>> {
    let document = Document::parse(text).ok()?;
    let mut path = Vec::new();
    descend(document.as_table(), &span, &mut path);
    (!path.is_empty()).then_some(path)
}

fn descend(table: &dyn TableLike, span: &Range<usize>, path: &mut Vec<String>) -> bool {
    let covers = |range: Option<Range<usize>>| {
        range.is_some_and(|range| range.start <= span.start && span.end <= range.end)
    };
    for (name, item) in table.iter() {
        let key_span = table.get_key_value(name).and_then(|(key, _)| key.span());
        path.push(name.to_string());
        if let Some(inner) = item.as_table_like()
            && descend(inner, span, path)
        {
            return true;
        }
        if let Some(array) = item.as_array_of_tables() {
            for (i, inner) in array.iter().enumerate() {
                path.push(i.to_string());
                if descend(inner, span, path) || covers(inner.span()) {
                    return true;
                }
                path.pop();
            }
        }
        if covers(key_span) || covers(item.span()) {
            return true;
        }
        path.pop();
    }
    false
}

fn remove(item: &mut Item, path: &[String]) -> bool {
    let Some((first, rest)) = path.split_first() else { return false };
    if let Some(array) = item.as_array_of_tables_mut() {
        let Some(table) = first.parse().ok().and_then(|i: usize| array.get_mut(i)) else {
            return false;
        };
        return match rest.split_first() {
            Some((key, [])) => table.remove(key).is_some(),
            Some((key, rest)) => table.get_mut(key).is_some_and(|next| remove(next, rest)),
            None => first.parse().is_ok_and(|i: usize| {
                array.remove(i);
                true
            }),
        };
    }
    let Some(table) = item.as_table_like_mut() else { return false };
    if rest.is_empty() {
        return table.remove(first).is_some();
    }
    table.get_mut(first).is_some_and(|next| remove(next, rest))
}

/// Adds "did you mean" to serde's "unknown field `x`, expected one of `a`, `b`".
fn with_suggestion(message: &str) -> String {
    let message = message.trim().to_string();
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let Some((wrong, candidates)) = quoted.split_first().filter(|_| message.starts_with("unknown"))
    else {
        return message;
    };
    let best = candidates
        .iter()
        .map(|candidate| (strsim::jaro_winkler(wrong, candidate), candidate))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match best {
        Some((likeness, candidate)) if likeness > 0.8 => {
            format!("unknown key or value `{wrong}`: did you mean `{candidate}`?")
        }
        _ => message,
    }
}

fn line_column(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..offset.min(text.len())];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        seed: u64,
        #[serde(default)]
        inner: Inner,
        #[serde(default)]
        list: Vec<Inner>,
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields, default)]
    struct Inner {
        level: f64,
        name: String,
    }

    #[test]
    fn every_problem_is_found_at_once() {
        let text =
            "seed = -1\n[inner]\nlevl = 0.9\nname = 3\n\n[[list]]\nlevel = \"x\"\n[other]\na = 1\n";
        let source = Source::parse(text).unwrap();
        let problems = read::<Sample>(&source.to_mut()).unwrap_err();
        let keys: Vec<&str> = problems.iter().map(|p| p.key.as_str()).collect();
        for key in ["seed", "inner.levl", "inner.name", "list.0.level", "other"] {
            assert!(keys.contains(&key), "{key} not in {keys:?}");
        }
        let misspelt = problems.iter().find(|p| p.key == "inner.levl").unwrap();
        assert!(misspelt.message.contains("did you mean `level`"), "{}", misspelt.message);
        assert_eq!(source.place_of("inner.levl"), Some((3, 1)));
        assert_eq!(source.place_of("inner.name"), Some((4, 1)));
    }

    #[test]
    fn an_override_takes_toml_or_a_bare_string() {
        let mut document = Source::parse("seed = 1").unwrap().to_mut();
        set(&mut document, "inner.level", "0.5").unwrap();
        set(&mut document, "inner.name", "plain words").unwrap();
        let sample: Sample = read(&document).unwrap();
        assert_eq!(sample.inner, Inner { level: 0.5, name: "plain words".into() });
        assert!(set(&mut document, "seed.deep", "1").is_err());
        assert!(set(&mut document, "", "1").is_err());
    }

    #[test]
    fn broken_syntax_has_a_place() {
        let problem = Source::parse("a = 1\nb = = 2").err().unwrap();
        assert_eq!(problem.place.map(|p| p.0), Some(2));
    }
}
