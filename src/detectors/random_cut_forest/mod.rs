//! Robust random cut forest (Guha, Mishra, Roy and Schrijvers 2016).

pub mod forest;
