//! JSON in; JSON or protobuf out: one pass over the text, which is copied but never made a tree.
//!
//! Members are written as they are met, and put into order at the end of their message where they
//! came in another. What is in normal form already is copied as it stands.

mod attributes;
mod checks;
mod enums;
mod frame;
mod ignored;
mod members;
mod metrics;
pub(crate) mod numbers;
mod rejects;
mod scalars;
mod scan;
#[cfg(test)]
mod tests;
pub(crate) mod text;

use crate::checks::{is_sane, most_messages};
use crate::json::members::Pass;
use crate::messages::Signal;
use crate::outcome::{Given, MalformedIds, Odd, Outcome, Steps, Take};

/// Offsets are kept in 32 bits.
const MOST_BODY_BYTES: usize = 1 << 30;

/// A request in JSON as a fragment in JSON.
///
/// # Errors
/// `Odd` where the Python path decides.
pub fn prepare(given: &Given) -> Take<Outcome> {
    if !is_sane(given.now_ns) {
        return Err(Odd);
    }
    let mut pass = begin::<true>(given)?;
    pass.request()?;
    pass.scan.expect_end()?;
    if pass.ignored.depends_on_the_way() && pass.may_have_lost_a_list()? {
        return Err(Odd);
    }
    let places = pass.ignored.places(given.body)?;
    if pass.outcome.items == 0 {
        return Err(Odd);
    }
    let mut outcome = pass.outcome;
    for (code, times) in pass.ignored.counts() {
        outcome.warn(code, times);
    }
    outcome.places = places;
    outcome.trace_ids = pass.trace_ids.into_packed();
    outcome.body = pass.out;
    Ok(outcome)
}

/// A kept fragment in JSON, in normal form, as a fragment in protobuf.
///
/// # Errors
/// `Odd` where the Python path decides.
pub fn to_protobuf(fragment: &[u8], signal: Signal) -> Take<Vec<u8>> {
    let given = Given {
        body: fragment,
        signal,
        additions: &[],
        malformed_ids: MalformedIds::Reject,
        now_ns: 0,
        steps: Steps::ALL,
    };
    let mut pass = begin::<false>(&given)?;
    pass.entries()?;
    Ok(pass.out)
}

fn begin<'a, const JSON: bool>(given: &'a Given<'a>) -> Take<Pass<'a, JSON>> {
    let body = given.body;
    if body.len() > MOST_BODY_BYTES || simdutf8::basic::from_utf8(body).is_err() {
        return Err(Odd);
    }
    Ok(Pass::new(given, most_messages(body.len())))
}
