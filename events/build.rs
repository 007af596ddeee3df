//! Compiles the protos with protox, so that no `protoc` is needed, and keeps the
//! descriptors for the tests of the wire contract and for documentation.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(["ensemble/v1/events.proto"], ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let bytes = prost_encode(&descriptors);
    std::fs::write(out.join("descriptors.bin"), bytes)?;
    prost_build::Config::new()
        .bytes(["."])
        .enable_type_names()
        .compile_fds(descriptors)?;
    Ok(())
}

fn prost_encode(set: &impl prost::Message) -> Vec<u8> {
    set.encode_to_vec()
}
