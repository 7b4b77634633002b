//! Prints the CRD, generated from the Rust types.

fn main() -> anyhow::Result<()> {
    print!("{}", chord_operator::api::crd_yaml()?);
    Ok(())
}
