//! One pass over an OTLP body: a result that is byte for byte that of the Python path, or none,
//! and the Python path decides. See `native/README.md`.

pub mod checks;
pub mod cut;
pub mod into_json;
pub mod json;
pub mod messages;
pub mod outcome;
pub mod protobuf;
#[cfg(feature = "python")]
mod python;
mod scan;
pub mod wire;
