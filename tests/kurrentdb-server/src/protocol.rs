//! The messages and services of the protocol, generated from `protos/`.

#![allow(missing_docs, unreachable_pub, dead_code, clippy::all, rustdoc::all, reason = "it is generated")]

include!(concat!(env!("OUT_DIR"), "/protocol.rs"));
