//! Every picture of a report as files.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::report::{
    canvas::{Picture, to_png, to_svg},
    data::{ReportData, file_stem},
    error::ReportError,
    evaluation::evaluation_pictures,
    frame,
    heatmap::HeatmapPicture,
    ranking::RankingPicture,
    series_chart::SeriesPicture,
    training::TrainingPicture,
};

/// Width of every chart in pixels.
pub const CHART_WIDTH: u32 = frame::WIDTH;

/// Which files [`write_charts`] makes of each picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChartFormat {
    #[default]
    Png,
    Svg,
    Both,
}

impl ChartFormat {
    /// The extensions of its files.
    pub(crate) fn extensions(self) -> &'static [&'static str] {
        match self {
            Self::Png => &["png"],
            Self::Svg => &["svg"],
            Self::Both => &["png", "svg"],
        }
    }
}

/// A picture and its file stem.
pub(crate) type Named<'a> = (String, Box<dyn Picture + 'a>);

/// The rankings, heat maps and charts of records with their file stems, in the page's order.
///
/// # Errors
/// [`ReportError::Shape`] when a heat map's rows do not fit its times.
pub(crate) fn level_pictures(data: &ReportData) -> Result<Vec<Named<'_>>, ReportError> {
    let mut pictures: Vec<Named<'_>> = Vec::new();
    for level in &data.levels {
        let ranking = RankingPicture::new(&level.ranking, &level.name);
        if !ranking.is_empty() {
            pictures.push((file_stem("ranking", &level.name), Box::new(ranking)));
        }
        if let Some(map) = level.heatmap.as_ref().filter(|map| !map.rows.is_empty()) {
            let picture = HeatmapPicture::new(map, &level.name)?;
            pictures.push((file_stem("heatmap", &level.name), Box::new(picture)));
        }
    }
    pictures.extend(data.records.iter().flat_map(|records| records.pictures()));
    Ok(pictures)
}

/// Draws every picture of `data` into `dir`, in parallel, and returns the files in a fixed order:
/// rankings and heat maps by level, the training curve, then the series in their order.
///
/// The folder is made if it is missing. A series' file is named after its
/// [`id`](crate::report::SeriesChart::id), numbered where two ids end at the same name.
/// `progress` is called with the number of files written since its last call.
///
/// # Errors
/// [`ReportError`] naming the file or the chart.
pub fn write_charts(
    data: &ReportData,
    dir: &Path,
    format: ChartFormat,
    progress: &mut dyn FnMut(u64),
) -> Result<Vec<PathBuf>, ReportError> {
    fs::create_dir_all(dir)
        .map_err(|source| ReportError::Write { path: dir.to_path_buf(), source })?;
    let mut pictures = level_pictures(data)?;
    pictures.extend(evaluation_pictures(&data.evaluation));
    if let Some(curve) = &data.training {
        pictures.push(("training_curve".to_string(), Box::new(TrainingPicture::new(curve))));
    }
    for chart in &data.charts {
        pictures.push((file_stem("", &chart.id), Box::new(SeriesPicture::new(chart)?)));
    }
    number_twins(&mut pictures);
    write_all(&pictures, dir, format, progress)
}

/// Writes pictures in parallel, portion by portion.
pub(crate) fn write_all(
    pictures: &[Named<'_>],
    dir: &Path,
    format: ChartFormat,
    progress: &mut dyn FnMut(u64),
) -> Result<Vec<PathBuf>, ReportError> {
    let extensions = format.extensions();
    let jobs: Vec<(&dyn Picture, PathBuf)> = pictures
        .iter()
        .flat_map(|(stem, picture)| {
            extensions
                .iter()
                .map(move |extension| (picture.as_ref(), dir.join(format!("{stem}.{extension}"))))
        })
        .collect();
    // By portions, so that `progress` runs on the caller's thread and needs no lock.
    let portion = rayon::current_num_threads() * 4;
    for jobs in jobs.chunks(portion) {
        jobs.par_iter().try_for_each(|(picture, path)| write_one(*picture, path))?;
        progress(jobs.len() as u64);
    }
    Ok(jobs.into_iter().map(|(_, path)| path).collect())
}

pub(crate) fn write_one(picture: &dyn Picture, path: &Path) -> Result<(), ReportError> {
    if path.extension().is_some_and(|extension| extension == "png") {
        return to_png(picture, path);
    }
    fs::write(path, to_svg(picture)?)
        .map_err(|source| ReportError::Write { path: path.to_path_buf(), source })
}

/// Gives the second `a` the name `a_2`, unless that is taken too.
fn number_twins(pictures: &mut [Named<'_>]) {
    let mut taken = HashSet::new();
    for (stem, _) in pictures {
        let wanted = stem.clone();
        let mut number = 2;
        while !taken.insert(stem.clone()) {
            *stem = format!("{wanted}_{number}");
            number += 1;
        }
    }
}
