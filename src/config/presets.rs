//! The configs that ship with the program, compiled in.

/// A shipped config.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    pub name: &'static str,
    /// The file as it stands in `configs/`.
    pub text: &'static str,
}

/// Every shipped config.
pub const PRESETS: &[Preset] = &[
    Preset { name: "quickstart", text: include_str!("../../configs/quickstart.toml") },
    Preset { name: "weekly", text: include_str!("../../configs/weekly.toml") },
    Preset { name: "weekly_lstm_only", text: include_str!("../../configs/weekly_lstm_only.toml") },
    Preset { name: "funnel", text: include_str!("../../configs/funnel.toml") },
    Preset { name: "records", text: include_str!("../../configs/records.toml") },
    Preset { name: "cloud_monitoring", text: include_str!("../../configs/cloud_monitoring.toml") },
    Preset { name: "nab", text: include_str!("../../configs/nab.toml") },
    Preset { name: "influenza", text: include_str!("../../configs/influenza.toml") },
];

impl Preset {
    /// The preset of that name.
    pub fn find(name: &str) -> Option<Preset> {
        PRESETS.iter().copied().find(|preset| preset.name == name)
    }

    /// The name of a shipped config that `name` is a slip of.
    pub fn nearest(name: &str) -> Option<&'static str> {
        let distance = |preset: &Preset| strsim::damerau_levenshtein(preset.name, name);
        let best = PRESETS.iter().min_by_key(|preset| distance(preset))?;
        (distance(best) <= 2.max(name.len() / 4)).then_some(best.name)
    }
}
