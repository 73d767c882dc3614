//! The MAST command line
fn main() {}
