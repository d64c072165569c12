//! The second version of the guide's read model. In the crate it takes the place of the first.

pub mod dispatch_times;
