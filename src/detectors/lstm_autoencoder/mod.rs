//! The LSTM autoencoder.
pub mod cell;
