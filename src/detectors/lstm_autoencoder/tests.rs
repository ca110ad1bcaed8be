//! The detector as a whole, on small panels.
