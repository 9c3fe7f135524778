//! JSON in; JSON or protobuf out.

use crate::messages::Signal;
use crate::outcome::{Given, Odd, Outcome, Take};

/// A request in JSON as a fragment in JSON.
///
/// # Errors
/// `Odd` where the Python path decides.
pub fn prepare(_given: &Given) -> Take<Outcome> {
    Err(Odd)
}

/// A kept fragment in JSON, in normal form, as a fragment in protobuf.
///
/// # Errors
/// `Odd` where the Python path decides.
pub fn to_protobuf(_fragment: &[u8], _signal: Signal) -> Take<Vec<u8>> {
    Err(Odd)
}
