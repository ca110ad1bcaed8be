//! Special functions, the negative binomial distribution, quantiles and seeded random streams.
//! Imports no other room.

pub mod eigen;
pub mod fourier;
pub mod linalg;
pub mod nb;
pub mod random;
pub mod robust;
pub mod simplex;
pub mod special;
pub mod student;
