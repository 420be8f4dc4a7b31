//! What a developer, a newcomer and CI run.

fn main() {}
