//! Records: rows that lie on no calendar (one customer interaction each), column by column.

use std::sync::Arc;

/// The code of a missing word in [`WordColumn::codes`].
pub const MISSING_WORD: u32 = u32::MAX;

/// One column of words, each kept once.
#[derive(Clone, Debug, Default)]
pub struct WordColumn {
    /// Every word that was met up to this block, in the order of its first row.
    pub vocabulary: Arc<Vec<String>>,
    /// For each row the place of its word, or [`MISSING_WORD`].
    pub codes: Vec<u32>,
}

impl WordColumn {
    /// The word of a row; empty where it is missing.
    pub fn word(&self, row: usize) -> &str {
        self.codes
            .get(row)
            .and_then(|&code| self.vocabulary.get(code as usize))
            .map_or("", String::as_str)
    }
}

/// Rows with their times, numbers and words.
#[derive(Clone, Debug, Default)]
pub struct RecordBlock {
    /// `[row]`: UTC epoch seconds.
    pub times: Vec<i64>,
    /// Number columns.
    pub n_numbers: usize,
    /// `[row, number column]`, row by row: NaN where missing.
    pub numbers: Vec<f64>,
    /// One per word column.
    pub words: Vec<WordColumn>,
}

impl RecordBlock {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// The numbers of a row.
    pub fn numbers_of(&self, row: usize) -> &[f64] {
        &self.numbers[row * self.n_numbers..][..self.n_numbers]
    }

    /// The first `rows` rows.
    pub fn head(&self, rows: usize) -> Self {
        let rows = rows.min(self.len());
        Self {
            times: self.times[..rows].to_vec(),
            n_numbers: self.n_numbers,
            numbers: self.numbers[..rows * self.n_numbers].to_vec(),
            words: self
                .words
                .iter()
                .map(|column| WordColumn {
                    vocabulary: Arc::clone(&column.vocabulary),
                    codes: column.codes[..rows].to_vec(),
                })
                .collect(),
        }
    }

    /// Adds the rows of a later block of the same reading, whose vocabularies extend this one's.
    pub fn append(&mut self, later: &Self) {
        self.times.extend_from_slice(&later.times);
        self.numbers.extend_from_slice(&later.numbers);
        for (column, more) in self.words.iter_mut().zip(&later.words) {
            column.vocabulary = Arc::clone(&more.vocabulary);
            column.codes.extend_from_slice(&more.codes);
        }
    }
}
