//! Chooses the twins for this package alone: nothing else has to be built for it.

fn main() {
    println!("cargo::rustc-cfg=loom");
}
