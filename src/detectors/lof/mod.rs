//! Local outlier factor (Breunig, Kriegel, Ng and Sander 2000).

pub mod factor;
