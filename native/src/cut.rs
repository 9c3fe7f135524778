//! A fragment that is too large for one row, cut at item borders: as `relay/otlp/cuts.py` and the
//! requests of both encodings do it.
//!
//! It is cut where it stands, in normal form: envelopes are repeated around the items of each part.

mod json;
mod protobuf;

use std::mem::take;
use std::ops::Range;

use crate::checks::{TRACE_ID_BYTES, TraceIds};
use crate::messages::Signal;
use crate::outcome::{Odd, Outcome, Take};
use crate::wire::{close, open};

/// A part of a request, for one row.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// The fragment for the disk.
    pub body: Vec<u8>,
    /// How many items it holds.
    pub items: usize,
    /// The distinct trace ids in order, 16 bytes each.
    pub trace_ids: Vec<u8>,
    /// The distinct service names in order.
    pub services: Vec<String>,
}

/// An item, as it stands in the fragment.
struct Item<'a> {
    text: &'a [u8],
    /// What it counts as, framing included.
    size: usize,
    trace_id: Option<[u8; TRACE_ID_BYTES]>,
}

/// What is around items: an entry, a scope or a metric.
#[derive(Default)]
struct Envelope<'a> {
    /// Of JSON: what stands before and behind what it holds.
    before: &'a [u8],
    behind: &'a [u8],
    /// Of protobuf: tags, each with the fields that stand before what it holds.
    shells: Vec<(Vec<u8>, Vec<u8>)>,
    /// What it adds to a part, framing included.
    size: usize,
    /// The items in it.
    items: Range<usize>,
    inner: Vec<Envelope<'a>>,
}

/// A whole fragment, taken apart.
#[derive(Default)]
struct Whole<'a> {
    entries: Vec<Envelope<'a>>,
    items: Vec<Item<'a>>,
    /// Fields of a request that are not known here, which the first part gets.
    rest: Vec<u8>,
    separator: &'static [u8],
}

/// An outcome as parts: one, unless it is larger than the limit and holds more than one item.
///
/// # Errors
/// As `cut`.
pub fn parts(
    outcome: &mut Outcome,
    is_json: bool,
    signal: Signal,
    limit: usize,
) -> Take<Vec<Part>> {
    if outcome.body.len() > limit && outcome.items != 1 {
        return cut(outcome, is_json, signal, limit);
    }
    Ok(vec![Part {
        body: take(&mut outcome.body),
        items: outcome.items,
        trace_ids: take(&mut outcome.trace_ids),
        services: take(&mut outcome.services),
    }])
}

/// The parts of a fragment, each within the limit as far as its items allow that.
///
/// # Errors
/// `Odd` if it is not what the readers write.
pub fn cut(outcome: &Outcome, is_json: bool, signal: Signal, limit: usize) -> Take<Vec<Part>> {
    let whole = if is_json {
        json::take_apart(&outcome.body, signal)?
    } else {
        protobuf::take_apart(&outcome.body, signal)?
    };
    if whole.items.len() != outcome.items || whole.entries.len() != outcome.entries.len() {
        return Err(Odd);
    }
    let mut parts: Vec<Part> = Vec::new();
    for range in whole.groups(limit) {
        let mut part = whole.part(&range, outcome);
        if parts.is_empty() {
            part.body.extend_from_slice(&whole.rest);
        }
        parts.push(part);
    }
    Ok(parts)
}

impl Whole<'_> {
    /// Runs of items, each within the limit; a single larger item is one of its own.
    fn groups(&self, limit: usize) -> Vec<Range<usize>> {
        let mut groups: Vec<Range<usize>> = Vec::new();
        let mut place: Vec<usize> = Vec::new();
        let (mut size, mut around) = (0, 0);
        for (number, item) in self.items.iter().enumerate() {
            let mut added = item.size;
            // Where the item stands, and what is new around it.
            let (mut level, mut found) = (&self.entries, Vec::new());
            let (mut all, mut new, mut is_shared) = (0, 0, true);
            while let Some(at) = index_of(level, number) {
                is_shared &= place.get(found.len()) == Some(&at);
                all += level[at].size;
                new += if is_shared { 0 } else { level[at].size };
                found.push(at);
                level = &level[at].inner;
            }
            if found != place {
                around = all;
                added += new;
                place = found;
            }
            if groups.is_empty() || size + added > limit.max(2 * around) {
                groups.push(number..number);
                size = 0;
                added = item.size + around;
            }
            if let Some(group) = groups.last_mut() {
                group.end = number + 1;
            }
            size += added;
        }
        groups
    }

    fn part(&self, range: &Range<usize>, outcome: &Outcome) -> Part {
        let mut part = Part { items: range.len(), ..Part::default() };
        let mut names = Outcome::default();
        let chosen = overlapping(&self.entries, range);
        for (entry, service) in self.entries[chosen.clone()].iter().zip(&outcome.entries[chosen]) {
            if !part.body.is_empty() {
                part.body.extend_from_slice(self.separator);
            }
            self.write(entry, range, &mut part.body);
            if let Some(name) = service.and_then(|index| outcome.services.get(index)) {
                names.service(name);
            }
        }
        part.services = names.services;
        let mut ids = TraceIds::default();
        self.items[range.clone()]
            .iter()
            .filter_map(|item| item.trace_id)
            .for_each(|id| ids.add(id));
        part.trace_ids = ids.into_packed();
        part
    }

    /// An envelope around those of its items that are in the range.
    fn write(&self, envelope: &Envelope, range: &Range<usize>, out: &mut Vec<u8>) {
        let mut opened = Vec::new();
        for (tag, text) in &envelope.shells {
            opened.push(open(out, tag, 0));
            out.extend_from_slice(text);
        }
        out.extend_from_slice(envelope.before);
        let mut is_first = true;
        let mut separate = |out: &mut Vec<u8>| {
            if !is_first {
                out.extend_from_slice(self.separator);
            }
            is_first = false;
        };
        for inner in &envelope.inner[overlapping(&envelope.inner, range)] {
            separate(out);
            self.write(inner, range, out);
        }
        if envelope.inner.is_empty() {
            let (first, end) =
                (envelope.items.start.max(range.start), envelope.items.end.min(range.end));
            for item in &self.items[first..end] {
                separate(out);
                out.extend_from_slice(item.text);
            }
        }
        out.extend_from_slice(envelope.behind);
        for opened in opened.iter().rev() {
            close(out, opened);
        }
    }
}

/// Which of these envelopes hold items of the range: each holds some, in order.
fn overlapping(envelopes: &[Envelope], range: &Range<usize>) -> Range<usize> {
    let first = envelopes.partition_point(|each| each.items.end <= range.start);
    let end = envelopes.partition_point(|each| each.items.start < range.end);
    first..end.max(first)
}

/// Which of these envelopes holds an item.
fn index_of(envelopes: &[Envelope], number: usize) -> Option<usize> {
    let at = envelopes.partition_point(|each| each.items.end <= number);
    (at < envelopes.len()).then_some(at)
}
