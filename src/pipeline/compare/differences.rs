//! In which keys configs differ.

use std::collections::BTreeMap;

use toml_edit::{DocumentMut, Item, TableLike};

use super::comparison::KeyDifference;
use crate::config::Config;

/// Every key in which the configs differ, by name. `name` does not count, nor do the keys in
/// `ignored`.
pub fn differences(configs: &[&Config], ignored: &[&str]) -> Vec<KeyDifference> {
    let flat: Vec<BTreeMap<String, String>> =
        configs.iter().map(|config| flatten(config)).collect();
    let mut keys: Vec<&String> = flat.iter().flat_map(BTreeMap::keys).collect();
    keys.sort();
    keys.dedup();
    keys.into_iter()
        .filter(|key| *key != "name" && !ignored.contains(&key.as_str()))
        .map(|key| KeyDifference {
            key: key.clone(),
            values: flat.iter().map(|values| values.get(key).cloned()).collect(),
        })
        .filter(|found| found.values.iter().any(|value| *value != found.values[0]))
        .collect()
}

/// Dotted keys and their values as TOML. A list is one value.
fn flatten(config: &Config) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    // A checked config always has a TOML form.
    let document = config.to_toml().ok().and_then(|text| text.parse::<DocumentMut>().ok());
    if let Some(document) = document {
        walk("", document.as_table(), &mut found);
    }
    found
}

fn walk(prefix: &str, table: &dyn TableLike, into: &mut BTreeMap<String, String>) {
    for (name, item) in table.iter() {
        let key = if prefix.is_empty() { name.to_string() } else { format!("{prefix}.{name}") };
        if let Some(inner) = item.as_table_like() {
            walk(&key, inner, into);
        } else {
            into.insert(key, text(item));
        }
    }
}

/// One line: line breaks and runs of spaces become one space.
fn text(item: &Item) -> String {
    let value = item.clone().into_value();
    let text = value.map_or_else(|item| item.to_string(), |value| value.to_string());
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.replace("[ ", "[").replace(", ]", "]").replace(" ]", "]")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn config(text: &str) -> Config {
        Config::parse(text, "t.toml", Path::new(""), &[]).unwrap()
    }

    #[test]
    fn only_keys_with_several_values_are_listed() {
        let a = config("name = \"a\"\n[generate.weekly]\nkeys = 5\n");
        let b = config(
            "name = \"b\"\nseed = 9\n[generate.weekly]\nkeys = 7\n[ensemble]\nmembers = [\"nb2\"]\nweights = { nb2 = 2 }\n",
        );
        let found = differences(&[&a, &b, &a], &["seed"]);
        let keys: Vec<&str> = found.iter().map(|d| d.key.as_str()).collect();
        assert_eq!(keys, ["ensemble.members", "ensemble.weights.nb2", "generate.weekly.keys"]);
        assert_eq!(found[0].values[1].as_deref(), Some("[\"nb2\"]"));
        assert_eq!(found[1].values[0], None);
        assert_eq!(found[2].values, [Some("5".into()), Some("7".into()), Some("5".into())]);
        assert!(differences(&[&a, &a], &[]).is_empty());
    }
}
