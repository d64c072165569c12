//! Acceptance tests: the whole system, over real sockets, and the rules that hold it together.

#![cfg(test)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod adding_a_read_model;
mod adding_an_aggregate;
mod batches;
mod checkouts;
mod clients;
mod commands;
mod docs;
mod executors;
mod export;
mod failover;
mod graphql;
mod history;
mod hostile;
mod house;
mod import;
mod limits;
mod mailboxes;
mod moving;
mod observability;
mod open_shop;
mod openapi;
mod overload;
mod read_back;
mod read_model_docs;
mod read_models;
mod readers;
mod replicas;
mod retries;
mod schemathesis;
mod snapshots;
mod support;
mod tokens;
