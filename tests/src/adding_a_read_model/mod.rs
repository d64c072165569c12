//! The code of `docs/adding-a-read-model.md`, compiled and run.
//!
//! The read model of the guide is no part of the shop. This module stands where the guide has the crate `projections`: what
//! the guide calls `crate::…` is `crate::adding_a_read_model::…` here, the folder `migrations` stands in this one, and
//! nothing else differs. [`guide`] holds the text to that, [`followed`] goes through its steps over a Postgres.

#[allow(unreachable_pub, reason = "in the crate of the read models it is public")]
pub mod dispatch_times;
mod followed;
mod guide;
#[allow(unreachable_pub, reason = "in the crate of the read models it is public")]
mod later;

use std::sync::Arc;

use projections::runtime::{Projector, runs};
use projections::{read_model, row, rows, shop_event, tables, testing};

/// The register of read models, as it is in their crate.
fn read_models() -> Vec<Arc<dyn Projector>> {
    vec![
        runs::<dispatch_times::DispatchTimes>(),
        // The list is longer there.
    ]
}
