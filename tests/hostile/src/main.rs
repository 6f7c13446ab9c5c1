//! tests/hostile
fn main() {}
