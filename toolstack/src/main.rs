//! toolstack
fn main() {}
