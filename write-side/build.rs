//! Has the migrations built in anew when one is added.

fn main() {
    for schema in ["processes", "sandbox", "snapshots"] {
        println!("cargo::rerun-if-changed=../migrations/{schema}");
    }
}
