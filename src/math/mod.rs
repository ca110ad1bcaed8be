//! Special functions, the negative binomial distribution, quantiles and seeded random streams.
//! Imports no other room.

pub mod random;
pub mod simplex;
