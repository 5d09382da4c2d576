//! Generates the gRPC code of `/proto` at build time, so that it never disagrees with its source.

fn main() -> std::io::Result<()> {
    let root = "../../proto";
    let files = ["cluster", "dispatcher", "ca", "raft", "images", "doctor"]
        .map(|name| format!("{root}/rswarm/v1/{name}.proto"));
    println!("cargo:rerun-if-changed={root}");
    tonic_prost_build::configure().compile_protos(&files, &[root.to_owned()])
}
