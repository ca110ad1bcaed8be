//! Cross-fitting: every block of steps is scored by a fit that has not seen it.

use std::ops::Range;

use super::{DetectorError, FitContext, FitMask, Scores};
use crate::panel::Panel;

/// How a cross-fitted plan is carried out.
pub(super) struct CrossFit<'a> {
    /// Shown while it runs.
    pub what: &'a str,
    /// Steps of a block.
    pub block: usize,
    /// Fits at most. With fewer than there are blocks, a fit leaves several out: block 0, `most_fits`,
    /// twice that and so on.
    pub most_fits: usize,
}

/// What one fit leaves out and then scores.
pub(super) struct Fold {
    /// The caller's mask without the held-out blocks.
    pub mask: FitMask,
    blocks: Vec<Range<usize>>,
}

impl Fold {
    /// True for a held-out step.
    pub fn holds(&self, time: usize) -> bool {
        let after = self.blocks.partition_point(|block| block.end <= time);
        self.blocks.get(after).is_some_and(|block| block.contains(&time))
    }

    /// From the first held-out step to the last: the block itself where each has a fit of its own.
    pub fn span(&self) -> Range<usize> {
        let first = self.blocks.first().map_or(0, |block| block.start);
        first..self.blocks.last().map_or(first, |block| block.end)
    }
}

impl CrossFit<'_> {
    /// Puts into `scores`, block by block, what `score` makes of each fold.
    ///
    /// # Errors
    /// The first of `score`, or that the run was cancelled.
    pub fn run(
        &self,
        panel: &Panel,
        mask: &FitMask,
        context: &FitContext,
        scores: &mut Scores,
        mut score: impl FnMut(&Fold) -> Result<Scores, DetectorError>,
    ) -> Result<(), DetectorError> {
        let (block, times) = (self.block.max(1), panel.n_times());
        let blocks: Vec<Range<usize>> = (0..times)
            .step_by(block)
            .map(|start| start..start.saturating_add(block).min(times))
            .collect();
        let fits = blocks.len().min(self.most_fits);
        context.progress.start(&format!("{}, held-out blocks", self.what), fits as u64);
        for number in 0..fits {
            context.check_cancelled()?;
            let blocks: Vec<Range<usize>> =
                blocks.iter().skip(number).step_by(fits).cloned().collect();
            let mut fold = Fold { mask: mask.clone(), blocks };
            for block in &fold.blocks {
                fold.mask.forbid_times(block.clone());
            }
            let of_fold = score(&fold)?;
            fold.blocks.into_iter().for_each(|block| scores.take_times(&of_fold, block));
            context.progress.advance(1);
        }
        context.progress.finish();
        Ok(())
    }
}
