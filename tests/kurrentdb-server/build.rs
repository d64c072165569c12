//! Compiles the protocol's definitions, without `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=protos");
    let files = ["streams.proto", "gossip.proto", "serverfeatures.proto"];
    let definitions = protox::compile(files, ["protos"])?;
    tonic_build::configure()
        .build_client(false)
        .bytes([
            ".event_store.client.StreamIdentifier",
            ".event_store.client.streams.AppendReq.ProposedMessage",
            ".event_store.client.streams.BatchAppendReq.ProposedMessage",
            ".event_store.client.streams.ReadResp.ReadEvent.RecordedEvent",
        ])
        .extern_path(".event_store.client.Empty", "()")
        .include_file("protocol.rs")
        .compile_fds(definitions)?;
    Ok(())
}
