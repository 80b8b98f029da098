//! `kevy`: the server binary. Everything is in the library, so that tests reach it.

fn main() {}
