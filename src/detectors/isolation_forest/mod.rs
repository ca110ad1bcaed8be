//! Isolation forest (Liu, Ting and Zhou 2008): rows that few random splits set apart are anomalous.

pub mod forest;
