//! NGSIv2 as pure functions: the data model, what an update does to an entity, the query language, subscriptions.
//! No I/O, no clock, no runtime.

mod model;

pub use model::{Attribute, Attributes, Entity, Metadata};
