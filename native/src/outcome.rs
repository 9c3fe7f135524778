//! What both readers are given, and what they give back.

use std::cell::Cell;

use crate::messages::Signal;

/// Why there is no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Declined {
    /// The native pass cannot vouch for this body: the Python path decides.
    Odd,
    /// There is more to it than the caller has time for.
    Heavy,
}
pub use Declined::{Heavy, Odd};

thread_local! {
    /// What the last body of this thread was written to: new memory costs more than a small body.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// More than that is given back to the system.
const MOST_SPARE_BYTES: usize = 1024 * 1024;

/// An empty buffer for so many bytes, at first.
#[must_use]
pub fn buffer(bytes: usize) -> Vec<u8> {
    let mut buffer = SPARE.take();
    buffer.clear();
    buffer.reserve(bytes);
    buffer
}

/// Keep a buffer that is done with for the next body.
pub fn keep_buffer(buffer: Vec<u8>) {
    if buffer.capacity() <= MOST_SPARE_BYTES {
        SPARE.set(buffer);
    }
}

/// A result, or none and the Python path decides.
pub type Take<T> = Result<T, Declined>;

/// What becomes of malformed ids, as `malformed_ids` of the configuration says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MalformedIds {
    /// They reject their span.
    Reject,
    /// Ids are derived from them.
    Derive,
    /// Derived for senders known to need it, else as `Reject`.
    Auto,
}

/// A resource attribute that is added where a resource lacks it.
pub struct Addition {
    /// Its key.
    pub key: Vec<u8>,
    /// The key's former name, empty if it has none: a resource with that does not get it either.
    pub former: Vec<u8>,
    /// The whole attribute in the encoding of the body: an object of JSON, or of protobuf the
    /// field of a resource with tag and length.
    pub encoded: Vec<u8>,
}

/// One body and all that decides what becomes of it.
pub struct Given<'a> {
    /// As it was sent.
    pub body: &'a [u8],
    /// What it holds.
    pub signal: Signal,
    /// What is added to each resource that lacks it, in this order.
    pub additions: &'a [Addition],
    /// What becomes of malformed ids.
    pub malformed_ids: MalformedIds,
    /// When it arrived, in nanoseconds since the epoch.
    pub now_ns: u64,
    /// How much there may be to it.
    pub steps: Steps,
}

/// What is left of the time for one body, counted by what costs time: some 25 ns each.
#[derive(Debug, Clone, Copy)]
pub struct Steps(usize);

impl Steps {
    /// As many as a body takes.
    pub const ALL: Self = Self(usize::MAX);
    /// What an event loop has time for in one turn: some 5 ms. Usual spans are 60,000 a megabyte.
    pub const ONE_TURN: Self = Self(200_000);
    /// An entry, a scope, a record or a point is that many, beside what it holds.
    pub const AN_ITEM: usize = 8;

    /// Count so many.
    ///
    /// # Errors
    /// `Heavy` if there are no more.
    #[inline(always)]
    pub fn spend(&mut self, steps: usize) -> Take<()> {
        self.0 = self.0.checked_sub(steps).ok_or(Heavy)?;
        Ok(())
    }
}

/// An item (or points of one metric) that was taken out, for `Rejections.add` in Python.
#[derive(Debug, PartialEq, Eq)]
pub struct Rejected {
    /// A value of `relay.model.reasons.Reason`.
    pub reason: &'static str,
    /// The member at fault below the record, such as `traceId` or `gauge.dataPoints[3]`.
    pub member: String,
    /// Indices of the entry, the scope and the record, as they were sent.
    pub place: [usize; 3],
    /// What stood in the place of the trace id: text in JSON, hex of the bytes in protobuf.
    pub trace_id: String,
    /// A fragment with this alone, its resource (not enriched) and scope around it.
    pub fragment: Vec<u8>,
    /// How many items that is.
    pub items: usize,
}

/// A body in normal form: checked and enriched, for one row.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The fragment for the disk.
    pub body: Vec<u8>,
    /// Spans, log records or data points in it.
    pub items: usize,
    /// The distinct trace ids in order, 16 bytes each.
    pub trace_ids: Vec<u8>,
    /// The distinct service names in order.
    pub services: Vec<String>,
    /// Of each entry that is kept the index of its service's name, if it has one.
    pub entries: Vec<Option<usize>>,
    /// Bits of `relay.model.records.BodyFlag`.
    pub flags: u32,
    /// Warnings by code, and how often; see `WARNING_WORDS` in Python.
    pub warnings: Vec<(&'static str, usize)>,
    /// The first few places of warnings that have such, by code.
    pub places: Vec<(&'static str, String)>,
    /// What was taken out, in order.
    pub rejected: Vec<Rejected>,
}

/// `BodyFlag.SPECIAL_DOUBLES`: an attribute, or a log's body, is NaN or an infinity.
pub const SPECIAL_DOUBLES: u32 = 1;
/// `BodyFlag.DEEP`: nested deeper than 30 levels.
pub const DEEP: u32 = 2;

/// More rejected items than that are left to the Python path.
pub const MOST_REJECTED: usize = 64;
/// And so are more bytes of fragments of them.
pub const MOST_REJECTED_BYTES: usize = 1024 * 1024;

/// A body of more services than that is left to the Python path: each is looked for among all.
pub const MOST_SERVICES: usize = 256;

impl Outcome {
    /// The same, unless it holds more than it should.
    ///
    /// # Errors
    /// `Odd` if it does.
    pub fn bounded(self) -> Take<Self> {
        if self.services.len() > MOST_SERVICES { Err(Odd) } else { Ok(self) }
    }

    /// Count a warning so many times.
    pub fn warn(&mut self, code: &'static str, times: usize) {
        if times == 0 {
            return;
        }
        match self.warnings.iter_mut().find(|(known, _)| *known == code) {
            Some((_, count)) => *count += times,
            None => self.warnings.push((code, times)),
        }
    }

    /// Note an entry that is kept, and the name of its service, which may be empty.
    pub fn service(&mut self, name: &str) {
        let known = self.services.iter().position(|known| known == name);
        let is_new = known.is_none() && !name.is_empty() && self.services.len() <= MOST_SERVICES;
        if is_new {
            self.services.push(name.to_owned());
        }
        self.entries.push(if is_new { Some(self.services.len() - 1) } else { known });
    }
}
