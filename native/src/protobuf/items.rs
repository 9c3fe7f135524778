//! Items of protobuf, one by one: what becomes of each.

use std::collections::HashSet;

use super::{Fate, Pass, Scope};
use crate::checks::{
    Id, NO_RECORDED_VALUE, SPAN_ID_BYTES, TRACE_ID_BYTES, flaw_of_point, flaw_of_span, is_derived,
};
use crate::messages::{LOG_RECORD, METRIC, Role, SPAN};
use crate::outcome::{Odd, Steps, Take};
use crate::scan::{Edits, Seen, attribute_of, number_of, scan, skip};
use crate::wire::Reader;

/// A sender whose keys are odd shows it in these spans.
const SPANS_WITH_KEYS_CHECKED: usize = 16;
/// Of a span.
const KEYS_CHECKED: usize = 1000;
/// As many keys as are compared one by one.
const FEW_KEYS: usize = 48;

/// Tag of a span's attributes.
const ATTRIBUTES: u64 = 9 << 3 | 2;
/// Numbers of fields that may be left out or put in.
const PARENT: u32 = 4;
const TRACE_OF_LOG: u32 = 9;
const SPAN_OF_LOG: u32 = 10;
const OBSERVED: u32 = 11;

impl<'a> Pass<'a> {
    pub(super) fn span(&mut self, content: &'a [u8], scope: &Scope) -> Take<Option<Fate>> {
        let mut seen = Seen::default();
        let is_normal = scan(&SPAN, content, 3, &mut seen, &mut self.findings)?;
        let parent = Id::of_bytes(seen.parent, SPAN_ID_BYTES);
        let flaw = flaw_of_span(
            Id::of_bytes(seen.trace, TRACE_ID_BYTES),
            Id::of_bytes(seen.span, SPAN_ID_BYTES),
            parent,
            is_derived(self.given.malformed_ids, scope.service, scope.name),
        )?;
        if let Some(flaw) = flaw {
            return Ok(Some(Fate::Reject(flaw, seen.trace.to_vec())));
        }
        self.ids.add(seen.trace.try_into().map_err(|_| Odd)?);
        self.out.count_span(seen.start, seen.end, !seen.name.is_empty(), self.given.now_ns);
        if self.spans_with_keys < SPANS_WITH_KEYS_CHECKED {
            self.spans_with_keys += 1;
            self.count_keys(content)?;
        }
        let without = if parent == Id::Zero { 1 << PARENT } else { 0 };
        Ok(edit(is_normal, Edits { without, ..Edits::default() }))
    }

    fn count_keys(&mut self, span: &[u8]) -> Take<()> {
        let mut keys = Keys::default();
        let mut has_index = false;
        let mut reader = Reader::new(span);
        while reader.is_more() && keys.count < KEYS_CHECKED {
            let tag = reader.varint()?;
            if tag == ATTRIBUTES {
                let attribute = attribute_of(reader.delimited()?)?;
                has_index |= attribute.is_by_index;
                keys.add(attribute.key);
            } else {
                skip(&mut reader, tag)?;
            }
        }
        self.out.warn("attribute_key_duplicate", usize::from(keys.has_twice));
        let code = if has_index { "string_index" } else { "attribute_key_empty" };
        self.out.warn(code, usize::from(keys.has_empty));
        Ok(())
    }

    pub(super) fn log_record(&mut self, content: &'a [u8]) -> Take<Option<Fate>> {
        let mut seen = Seen::default();
        let is_normal = scan(&LOG_RECORD, content, 3, &mut seen, &mut self.findings)?;
        let mut edits = Edits::default();
        let ids =
            [(seen.trace, TRACE_ID_BYTES, TRACE_OF_LOG), (seen.span, SPAN_ID_BYTES, SPAN_OF_LOG)];
        for (raw, size, number) in ids {
            match Id::of_bytes(raw, size) {
                Id::Malformed => return Err(Odd),
                Id::Zero => edits.without |= 1 << number,
                Id::Good if number == TRACE_OF_LOG => {
                    self.ids.add(raw.try_into().map_err(|_| Odd)?);
                }
                Id::Good | Id::Missing => {}
            }
        }
        if seen.time == 0 && seen.observed == 0 {
            edits.without |= 1 << OBSERVED; // a zero, if it is there
            edits.with = Some((OBSERVED, self.given.now_ns));
        } else {
            let time = if seen.time == 0 { seen.observed } else { seen.time };
            self.out.count_time(time, self.given.now_ns);
        }
        self.out.items += 1;
        Ok(edit(is_normal, edits))
    }

    pub(super) fn metric(&mut self, content: &'a [u8]) -> Take<Option<Fate>> {
        let mut seen = Seen::default();
        self.findings.points.clear();
        let is_normal = scan(&METRIC, content, 3, &mut seen, &mut self.findings)?;
        let kind = kind_of(content)?;
        let points = std::mem::take(&mut self.findings.points);
        self.steps.spend(points.len() * Steps::AN_ITEM)?;
        let mut flaws = Vec::new();
        let mut odd = 0;
        for (number, point) in points.iter().enumerate() {
            let lacks_value = matches!(kind, "gauge" | "sum") && !point.has_value;
            let flaw = flaw_of_point(!seen.name.is_empty(), lacks_value, point.flags, point.time);
            if let Some(reason) = flaw {
                flaws.push((number, reason));
                continue;
            }
            self.out.count_time(point.time, self.given.now_ns);
            if point.flags & NO_RECORDED_VALUE == 0 {
                odd += usize::from(match kind {
                    "histogram" => !self.buckets.fits(&point.histogram),
                    "exponentialHistogram" => !self.buckets.fits_exponentially(&point.histogram),
                    _ => false,
                });
            }
        }
        let total = points.len();
        self.findings.points = points; // its room is used again
        if total == 0 {
            return Err(Odd);
        }
        let kept = total - flaws.len();
        if kept > 0 {
            let has_temporality = !matches!(kind, "gauge" | "summary");
            let is_unspecified = has_temporality && !seen.has_temporality;
            self.out.warn("temporality_unspecified", usize::from(is_unspecified));
            self.out.warn("histogram_shape", odd);
            self.out.items += kept;
        }
        if flaws.is_empty() {
            Ok(edit(is_normal, Edits::default()))
        } else {
            Ok(Some(Fate::Points { kind, total, flaws }))
        }
    }
}

/// The kind of a metric. `Odd` without one.
fn kind_of(metric: &[u8]) -> Take<&'static str> {
    let mut reader = Reader::new(metric);
    while reader.is_more() {
        let tag = reader.varint()?;
        if let Some(field) = METRIC.by_number(number_of(tag)?)
            && field.role == Role::Inside
        {
            return Ok(field.name);
        }
        skip(&mut reader, tag)?;
    }
    Err(Odd)
}

fn edit(is_normal: bool, edits: Edits) -> Option<Fate> {
    let is_as_sent = is_normal && edits.without == 0 && edits.with.is_none();
    (!is_as_sent).then_some(Fate::Rewrite(edits))
}

/// The keys of a list of attributes.
#[derive(Default)]
pub(super) struct Keys<'a> {
    count: usize,
    few: Vec<&'a [u8]>,
    many: HashSet<&'a [u8]>,
    pub(super) has_twice: bool,
    pub(super) has_empty: bool,
}

impl<'a> Keys<'a> {
    pub(super) fn add(&mut self, key: &'a [u8]) {
        self.count += 1;
        self.has_empty |= key.is_empty();
        if self.many.is_empty() {
            if self.few.contains(&key) {
                self.has_twice = true;
                return;
            }
            self.few.push(key);
            if self.few.len() > FEW_KEYS {
                self.many.extend(&self.few);
            }
        } else if !self.many.insert(key) {
            self.has_twice = true;
        }
    }

    pub(super) fn has(&self, key: &[u8]) -> bool {
        if self.many.is_empty() { self.few.contains(&key) } else { self.many.contains(key) }
    }
}
