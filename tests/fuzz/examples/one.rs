//! Runs inputs from files, such as one that libFuzzer found: `cargo run --release -p mast-fuzz --example one TARGET FILE…`

use mast_fuzz::Target;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_default();
    let target = Target::named(&name).ok_or_else(|| format!("there is no target {name:?}"))?;
    for file in arguments {
        println!("{file}");
        (target.run)(&std::fs::read(file)?);
    }
    Ok(())
}
