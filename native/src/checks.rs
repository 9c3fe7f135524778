//! The rules of `relay/process/check`, for both readers: what rejects an item, what is a warning.
//!
//! Only what is common is settled here. Whatever would change an item otherwise than by leaving
//! something out (ids that are derived, links that are taken out) is `Odd`.

use std::collections::HashSet;

use crate::outcome::{
    MOST_REJECTED, MOST_REJECTED_BYTES, MalformedIds, Odd, Outcome, Rejected, Take,
};

/// Bytes of a trace's id.
pub const TRACE_ID_BYTES: usize = 16;
/// Bytes of a span's id.
pub const SPAN_ID_BYTES: usize = 8;

/// What was sent as an id.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Id {
    /// Nothing, or an empty one.
    #[default]
    Missing,
    /// All zero, of the right length.
    Zero,
    /// A good one.
    Good,
    /// Anything else.
    Malformed,
}

impl Id {
    /// Of an id in bytes, of which there should be `size`.
    #[inline]
    #[must_use]
    pub fn of_bytes(raw: &[u8], size: usize) -> Self {
        if raw.is_empty() {
            Self::Missing
        } else if raw.len() != size {
            Self::Malformed
        } else if raw.iter().all(|&byte| byte == 0) {
            Self::Zero
        } else {
            Self::Good
        }
    }
}

/// The reason why something is rejected, and the member at fault.
pub type Flaw = (&'static str, &'static str);

/// Whether malformed ids become derived ones under a service and a scope of these names.
#[must_use]
pub fn is_derived(mode: MalformedIds, service: &[u8], scope: &[u8]) -> bool {
    let known = b"openrouter";
    match mode {
        MalformedIds::Derive => true,
        MalformedIds::Auto => service == known || scope == known,
        MalformedIds::Reject => false,
    }
}

/// Why a span must go, if it must. A parent that is zero is left out by the caller.
///
/// # Errors
/// `Odd` where an id must be derived.
#[inline]
pub fn flaw_of_span(trace: Id, span: Id, parent: Id, derives: bool) -> Take<Option<Flaw>> {
    if trace == Id::Good && span == Id::Good && matches!(parent, Id::Good | Id::Missing) {
        return Ok(None);
    }
    if trace == Id::Missing {
        return Ok(Some(("trace_id_missing", "traceId")));
    }
    if span == Id::Missing {
        return Ok(Some(("span_id_missing", "spanId")));
    }
    let rules = [
        (trace, "traceId", "trace_id_malformed", Some("trace_id_zero")),
        (span, "spanId", "span_id_malformed", Some("span_id_zero")),
        (parent, "parentSpanId", "parent_span_id_malformed", None),
    ];
    for (id, member, malformed, zero) in rules {
        match (id, zero) {
            (Id::Malformed, _) if derives => return Err(Odd),
            (Id::Malformed, _) => return Ok(Some((malformed, member))),
            (Id::Zero, Some(zero)) => return Ok(Some((zero, member))),
            _ => {}
        }
    }
    Ok(None)
}

/// Why a point must go, if it must: of a metric that has a name or not, a number or something else.
#[inline]
#[must_use]
pub fn flaw_of_point(
    is_named: bool,
    lacks_value: bool,
    flags: u32,
    time: u64,
) -> Option<&'static str> {
    if !is_named {
        Some("metric_name_empty")
    } else if lacks_value && flags & NO_RECORDED_VALUE == 0 {
        Some("value_missing")
    } else if time == 0 {
        Some("time_missing")
    } else {
        None
    }
}

/// The flag of a point that says: this series has ended.
pub const NO_RECORDED_VALUE: u32 = 1;

const SECOND_NS: u64 = 1_000_000_000;
const OLD_NS: u64 = 7 * 24 * 3600 * SECOND_NS;
const AHEAD_NS: u64 = 3600 * SECOND_NS;
const YEAR_2000_NS: u64 = 946_684_800 * SECOND_NS;
const LATEST_NS: u64 = 366 * 24 * 3600 * SECOND_NS;

/// The warning of a time that is not near now; none of zero, which is no time.
#[inline]
#[must_use]
pub fn judge_time(time_ns: u64, now_ns: u64) -> Option<&'static str> {
    if time_ns.wrapping_sub(now_ns.wrapping_sub(OLD_NS)) <= OLD_NS + AHEAD_NS || time_ns == 0 {
        return None;
    }
    Some(name_time(time_ns, now_ns))
}

#[cold]
fn name_time(time_ns: u64, now_ns: u64) -> &'static str {
    if time_ns > now_ns {
        return "time_ahead";
    }
    if time_ns >= YEAR_2000_NS {
        return "time_old";
    }
    let units = [
        ("time_in_microseconds", 1_000),
        ("time_in_milliseconds", 1_000_000),
        ("time_in_seconds", SECOND_NS),
    ];
    for (code, factor) in units {
        let told = u128::from(time_ns) * u128::from(factor);
        if told >= u128::from(YEAR_2000_NS) && told <= u128::from(now_ns + LATEST_NS) {
            return code;
        }
    }
    "time_before_2000"
}

/// Whether `now_ns` is a clock that the rules can reckon with, without running over.
#[must_use]
pub fn is_sane(now_ns: u64) -> bool {
    now_ns > YEAR_2000_NS && now_ns < 4 * YEAR_2000_NS
}

impl Outcome {
    /// Count a span that is kept: what breaks a rule without making it invalid.
    #[inline]
    pub fn count_span(&mut self, start: u64, end: u64, is_named: bool, now_ns: u64) {
        self.items += 1;
        if start == 0 {
            self.warn("start_time_missing", 1);
        }
        if end == 0 {
            self.warn("end_time_missing", 1);
        } else if end < start {
            self.warn("end_before_start", 1);
        }
        if !is_named {
            self.warn("name_empty", 1);
        }
        self.count_time(start, now_ns);
    }

    /// Count a time that is not near now.
    #[inline]
    pub fn count_time(&mut self, time_ns: u64, now_ns: u64) {
        if let Some(code) = judge_time(time_ns, now_ns) {
            self.warn(code, 1);
        }
    }

    /// Keep what is rejected.
    ///
    /// # Errors
    /// `Odd` where it becomes too much.
    pub fn reject(&mut self, rejected: Rejected) -> Take<()> {
        let bytes: usize = self.rejected.iter().map(|each| each.fragment.len()).sum();
        if self.rejected.len() >= MOST_REJECTED
            || bytes + rejected.fragment.len() > MOST_REJECTED_BYTES
        {
            return Err(Odd);
        }
        self.rejected.push(rejected);
        Ok(())
    }
}

/// The distinct trace ids of a body, in order.
#[derive(Default)]
pub struct TraceIds {
    packed: Vec<u8>,
    known: HashSet<[u8; TRACE_ID_BYTES]>,
    last: [u8; TRACE_ID_BYTES],
}

/// As many as are looked through one by one.
const FEW: usize = 24;

impl TraceIds {
    /// Remember an id, unless it is known.
    #[inline]
    pub fn add(&mut self, id: [u8; TRACE_ID_BYTES]) {
        if id == self.last {
            return; // never zero, as `last` is at first
        }
        self.last = id;
        if self.packed.len() < FEW * TRACE_ID_BYTES {
            if !self.packed.as_chunks().0.contains(&id) {
                self.packed.extend_from_slice(&id);
            }
            return;
        }
        if self.known.is_empty() {
            self.known.reserve(2 * FEW);
            self.known.extend(self.packed.as_chunks::<TRACE_ID_BYTES>().0);
        }
        if self.known.insert(id) {
            self.packed.extend_from_slice(&id);
        }
    }

    /// All of them, packed.
    #[must_use]
    pub fn into_packed(self) -> Vec<u8> {
        self.packed
    }
}

/// How many messages a body of so many bytes may hold at most: entries, scopes or records. More
/// of them are refused, by the Python path.
#[must_use]
pub fn most_messages(body_bytes: usize) -> usize {
    10_000 + body_bytes / 16
}

/// How many buckets of histograms are looked at in a request.
pub const MOST_BUCKETS: usize = 20_000;

/// A histogram's point, for the look at its buckets.
#[derive(Default)]
pub struct Histogram {
    /// Its count.
    pub count: u64,
    /// How many buckets it has.
    pub buckets: usize,
    /// The sum of what is in them.
    pub sum: u128,
    /// How many bounds it has.
    pub bounds: usize,
    /// Whether a bound is not above the one before.
    pub falls: bool,
}

/// What is left of the buckets that are looked at.
#[derive(Clone)]
pub struct Buckets {
    left: isize,
}

impl Default for Buckets {
    fn default() -> Self {
        // Fits: it is a small constant.
        #[allow(clippy::cast_possible_wrap)]
        Self { left: MOST_BUCKETS as isize }
    }
}

impl Buckets {
    fn may_look_at(&mut self, buckets: usize) -> bool {
        self.left = self.left.saturating_sub_unsigned(buckets);
        self.left >= 0
    }

    /// Whether buckets, bounds and count of a histogram are those of one distribution.
    pub fn fits(&mut self, point: &Histogram) -> bool {
        if point.buckets == 0 && point.bounds == 0 {
            return true;
        }
        if point.buckets != point.bounds + 1 {
            return false;
        }
        !self.may_look_at(point.buckets) || (u128::from(point.count) == point.sum && !point.falls)
    }

    /// Likewise of an exponential histogram; `sum` with the zero count.
    pub fn fits_exponentially(&mut self, point: &Histogram) -> bool {
        !self.may_look_at(point.buckets) || u128::from(point.count) == point.sum
    }
}
