//! A message of protobuf, by its row of the table: whether it is whole and in normal form, and
//! written anew where it is not.
//!
//! Normal form is what the official classes serialise: fields by number, no defaults, then the
//! fields that are not known here, as they came.

use std::cmp::Ordering;
use std::ptr;

use crate::checks::{Histogram, Id, SPAN_ID_BYTES, TRACE_ID_BYTES};
use crate::messages::{ANY_VALUE, Field, Holds, KEY_VALUE, Kind, LINK, Message, Role};
use crate::outcome::{Odd, Take};
use crate::wire::{Reader, check_text, close, open, put_varint};

/// The wire types.
const VARINT: u64 = 0;
const EIGHT_BYTES: u64 = 1;
const DELIMITED: u64 = 2;
const FOUR_BYTES: u64 = 5;

/// Messages within messages. The official parsers stop at 100.
pub const MOST_DEPTH: u32 = 80;
/// Points of one metric. What is seen of each takes a hundred times what an empty one takes.
const MOST_POINTS: usize = 10_000;
/// Set among the numbers of fields that were there: one of a oneof was.
const ONE_OF: u32 = 1 << 31;

/// What the checks ask of one message, as far as it has it.
#[derive(Default)]
pub struct Seen<'a> {
    /// The trace's id.
    pub trace: &'a [u8],
    /// The span's id.
    pub span: &'a [u8],
    /// The id of the span's parent.
    pub parent: &'a [u8],
    /// Its name.
    pub name: &'a [u8],
    /// When it began.
    pub start: u64,
    /// When it ended.
    pub end: u64,
    /// When it is of.
    pub time: u64,
    /// When it was seen.
    pub observed: u64,
    /// The flags of a point.
    pub flags: u32,
    /// Whether a number point or exemplar has a value.
    pub has_value: bool,
    /// Whether a metric says its temporality.
    pub has_temporality: bool,
    /// Buckets of a point.
    pub histogram: Histogram,
}

/// What is found over all messages of a body.
#[derive(Default)]
pub struct Findings<'a> {
    /// The value of an attribute, or a log's body, is NaN or an infinity.
    pub has_special_doubles: bool,
    /// A field that is not known here.
    pub has_unknown: bool,
    /// The points of the metric that was looked through last, each by itself.
    pub points: Vec<Seen<'a>>,
}

/// Look through a message. Whether it is in normal form; `Odd` where it cannot be vouched for.
pub fn scan<'a>(
    message: &'static Message,
    content: &'a [u8],
    depth: u32,
    seen: &mut Seen<'a>,
    findings: &mut Findings<'a>,
) -> Take<bool> {
    if depth > MOST_DEPTH {
        return Err(Odd);
    }
    let mut reader = Reader::new(content);
    let mut is_normal = true;
    let mut last = 0;
    let mut present = 0;
    while reader.is_more() {
        let tag = reader.varint()?;
        let number = number_of(tag)?;
        let Some(field) = message.by_number(number) else {
            skip(&mut reader, tag)?;
            findings.has_unknown = true;
            last = u32::MAX;
            continue;
        };
        is_normal &= number >= last;
        last = number;
        let may_repeat =
            field.holds == Holds::Many && matches!(field.kind, Kind::Message(_) | Kind::Text);
        if !may_repeat {
            let taken = 1 << number | if field.holds == Holds::OneOf { ONE_OF } else { 0 };
            if present & taken != 0 {
                return Err(Odd); // merged, or the last one wins
            }
            present |= taken;
        }
        is_normal &= match field.kind {
            Kind::Message(inside) => {
                expect(tag, DELIMITED)?;
                let content = reader.delimited()?;
                scan_inside(field, inside, content, depth + 1, seen, findings)?
            }
            Kind::Text | Kind::Bytes | Kind::Id => {
                expect(tag, DELIMITED)?;
                let text = reader.delimited()?;
                if matches!(field.kind, Kind::Text) {
                    check_text(text)?;
                }
                see_text(field.role, text, seen);
                !text.is_empty() || field.holds != Holds::One
            }
            _ if field.holds == Holds::Many => {
                expect(tag, DELIMITED)?;
                let numbers = reader.delimited()?;
                see_numbers(field, numbers, &mut seen.histogram)?;
                !numbers.is_empty()
            }
            _ => {
                let number = read_number(field.kind, tag, &mut reader)?;
                if ptr::eq(message, &raw const ANY_VALUE) && matches!(field.kind, Kind::Double) {
                    findings.has_special_doubles |= !f64::from_bits(number).is_finite();
                }
                see_number(field.role, number, seen);
                number != 0 || field.holds != Holds::One
            }
        };
    }
    Ok(is_normal)
}

fn scan_inside<'a>(
    field: &Field,
    inside: &'static Message,
    content: &'a [u8],
    depth: u32,
    seen: &mut Seen<'a>,
    findings: &mut Findings<'a>,
) -> Take<bool> {
    if ptr::eq(inside, &raw const KEY_VALUE) {
        return scan_attribute(content, depth, seen, findings);
    }
    if ptr::eq(inside, &raw const ANY_VALUE) {
        return scan_value(content, depth, seen, findings);
    }
    if field.role == Role::Inside && field.holds == Holds::Many {
        if findings.points.len() >= MOST_POINTS {
            return Err(Odd);
        }
        let mut point = Seen::default();
        let is_normal = scan(inside, content, depth, &mut point, findings)?;
        findings.points.push(point);
        return Ok(is_normal);
    }
    if !matches!(field.role, Role::Links | Role::Exemplars) {
        return scan(inside, content, depth, seen, findings);
    }
    let mut own = Seen::default();
    let is_normal = scan(inside, content, depth, &mut own, findings)?;
    let is_good = if ptr::eq(inside, &raw const LINK) {
        own.trace.len() == TRACE_ID_BYTES && own.span.len() == SPAN_ID_BYTES
    } else {
        let is_id = |raw, size| matches!(Id::of_bytes(raw, size), Id::Good | Id::Missing);
        own.has_value && is_id(own.trace, TRACE_ID_BYTES) && is_id(own.span, SPAN_ID_BYTES)
    };
    if is_good { Ok(is_normal) } else { Err(Odd) }
}

/// An attribute: nearly always a key and a value, and nothing else.
#[inline]
fn scan_attribute<'a>(
    content: &'a [u8],
    depth: u32,
    seen: &mut Seen<'a>,
    findings: &mut Findings<'a>,
) -> Take<bool> {
    match pair_of(content) {
        Some((key, value)) => {
            check_text(key)?;
            scan_value(value, depth + 1, seen, findings)
        }
        None => scan(&KEY_VALUE, content, depth, seen, findings),
    }
}

/// The key and the value of an attribute that has these two, in this order, or only a key.
#[inline]
fn pair_of(content: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut reader = Reader::new(content);
    let key = (reader.varint() == Ok(0x0a)).then(|| reader.delimited().ok())??;
    if !reader.is_more() && !key.is_empty() {
        return Some((key, b""));
    }
    let value = (reader.varint() == Ok(0x12)).then(|| reader.delimited().ok())??;
    (!key.is_empty() && !reader.is_more()).then_some((key, value))
}

/// A value: nearly always one member, and nothing else.
#[inline(always)]
fn scan_value<'a>(
    content: &'a [u8],
    depth: u32,
    seen: &mut Seen<'a>,
    findings: &mut Findings<'a>,
) -> Take<bool> {
    if content.is_empty() {
        return Ok(true);
    }
    let mut reader = Reader::new(content);
    let is_plain = match reader.varint() {
        Ok(0x0a) => reader.delimited().and_then(check_text),
        Ok(0x10) => reader.varint().and_then(|truth| if truth > 1 { Err(Odd) } else { Ok(()) }),
        Ok(0x18) => reader.varint().map(drop),
        _ => Err(Odd),
    };
    if is_plain.is_ok() && !reader.is_more() {
        return Ok(true);
    }
    scan(&ANY_VALUE, content, depth, seen, findings)
}

/// An attribute, for who looks at keys.
pub struct Attribute<'a> {
    /// Its key.
    pub key: &'a [u8],
    /// Its value where that is a text, else empty.
    pub text: &'a [u8],
    /// Whether its key is given by an index.
    pub is_by_index: bool,
}

/// What an attribute is, which was looked through.
pub fn attribute_of(content: &[u8]) -> Take<Attribute<'_>> {
    if let Some((key, value)) = pair_of(content) {
        return Ok(Attribute { key, text: text_of(value)?, is_by_index: false });
    }
    let mut found = Attribute { key: b"", text: b"", is_by_index: false };
    let mut reader = Reader::new(content);
    while reader.is_more() {
        match reader.varint()? {
            0x0a => found.key = reader.delimited()?,
            0x12 => found.text = text_of(reader.delimited()?)?,
            0x18 => found.is_by_index = reader.varint()? != 0,
            tag => skip(&mut reader, tag)?,
        }
    }
    Ok(found)
}

fn text_of(value: &[u8]) -> Take<&[u8]> {
    let mut reader = Reader::new(value);
    while reader.is_more() {
        match reader.varint()? {
            0x0a => return reader.delimited(),
            tag => skip(&mut reader, tag)?,
        }
    }
    Ok(b"")
}

/// The number of the field with this tag.
#[inline]
pub fn number_of(tag: u64) -> Take<u32> {
    let number = u32::try_from(tag).map_err(|_| Odd)? >> 3;
    if number == 0 { Err(Odd) } else { Ok(number) }
}

#[inline]
fn expect(tag: u64, wire_type: u64) -> Take<()> {
    if tag & 7 == wire_type { Ok(()) } else { Err(Odd) }
}

/// Pass over what stands behind a tag.
pub fn skip(reader: &mut Reader, tag: u64) -> Take<()> {
    match tag & 7 {
        VARINT => reader.varint().map(drop),
        EIGHT_BYTES => reader.fixed::<8>().map(drop),
        DELIMITED => reader.delimited().map(drop),
        FOUR_BYTES => reader.fixed::<4>().map(drop),
        _ => Err(Odd), // a group
    }
}

/// A number as 64 bits, zero where it is the default. `Odd` where it would be written otherwise.
#[inline]
fn read_number(kind: Kind, tag: u64, reader: &mut Reader) -> Take<u64> {
    match kind {
        Kind::Fixed64 | Kind::SFixed64 | Kind::Double => {
            expect(tag, EIGHT_BYTES)?;
            reader.fixed().map(u64::from_le_bytes)
        }
        Kind::Fixed32 => {
            expect(tag, FOUR_BYTES)?;
            reader.fixed().map(u32::from_le_bytes).map(u64::from)
        }
        _ => {
            expect(tag, VARINT)?;
            let number = reader.varint()?;
            let is_in_range = match kind {
                Kind::Bool => number <= 1,
                Kind::Int32 => i32::try_from(number.cast_signed()).is_ok(),
                Kind::UInt32 | Kind::SInt32 => u32::try_from(number).is_ok(),
                _ => true,
            };
            if is_in_range { Ok(number) } else { Err(Odd) }
        }
    }
}

#[inline]
fn see_text<'a>(role: Role, text: &'a [u8], seen: &mut Seen<'a>) {
    match role {
        Role::Trace => seen.trace = text,
        Role::Span => seen.span = text,
        Role::Parent => seen.parent = text,
        Role::Name => seen.name = text,
        _ => {}
    }
}

#[inline]
fn see_number(role: Role, number: u64, seen: &mut Seen) {
    match role {
        Role::Start => seen.start = number,
        Role::End => seen.end = number,
        Role::Time => seen.time = number,
        Role::Observed => seen.observed = number,
        Role::Flags => seen.flags = u32::try_from(number).unwrap_or(u32::MAX),
        Role::Value => seen.has_value = true,
        Role::Temporality => seen.has_temporality = number != 0,
        Role::Count => seen.histogram.count = number,
        Role::ZeroCount => seen.histogram.sum += u128::from(number),
        _ => {}
    }
}

/// A packed list of numbers, of which only histograms have some.
fn see_numbers(field: &Field, numbers: &[u8], histogram: &mut Histogram) -> Take<()> {
    let (eights, rest) = numbers.as_chunks::<8>();
    match (field.kind, field.role) {
        (Kind::UInt64, Role::Counts) => {
            let mut reader = Reader::new(numbers);
            while reader.is_more() {
                histogram.sum += u128::from(reader.varint()?);
                histogram.buckets += 1;
            }
            return Ok(());
        }
        (Kind::Fixed64, Role::Counts) => {
            histogram.buckets += eights.len();
            histogram.sum +=
                eights.iter().map(|&each| u128::from(u64::from_le_bytes(each))).sum::<u128>();
        }
        (Kind::Double, Role::Bounds) => {
            histogram.bounds = eights.len();
            let number = |each: &[u8; 8]| f64::from_le_bytes(*each);
            histogram.falls = eights.windows(2).any(|pair| {
                !matches!(number(&pair[0]).partial_cmp(&number(&pair[1])), Some(Ordering::Less))
            });
        }
        _ => return Err(Odd),
    }
    if rest.is_empty() { Ok(()) } else { Err(Odd) }
}

/// What is changed of a message while it is written anew.
#[derive(Default, Clone)]
pub struct Edits {
    /// Numbers of fields that are left out, as bits.
    pub without: u32,
    /// A field of eight bytes that is put in: its number, and what it holds.
    pub with: Option<(u32, u64)>,
    /// Of a metric, whether each of its points stays.
    pub points: Option<Vec<bool>>,
}

/// Write a message, which was looked through, in normal form.
pub fn rewrite(
    message: &'static Message,
    content: &[u8],
    edits: &Edits,
    out: &mut Vec<u8>,
) -> Take<()> {
    let mut fields = Vec::new();
    let mut reader = Reader::new(content);
    while reader.is_more() {
        let start = reader.at();
        let tag = reader.varint()?;
        let content_at = reader.at();
        skip(&mut reader, tag)?;
        let number = number_of(tag)?;
        let known = message.by_number(number);
        let order = if known.is_some() { number } else { u32::MAX };
        fields.push((order, known, start, content_at, reader.at()));
    }
    let mut added = edits.with;
    fields.sort_by_key(|&(order, ..)| order);
    let mut index = 0;
    for (order, known, start, content_at, end) in fields {
        if let Some((number, value)) = added
            && order > number
        {
            put_eight_bytes(number, value, out);
            added = None;
        }
        let whole = &content[start..end];
        let Some(field) = known else {
            out.extend_from_slice(whole);
            continue;
        };
        if edits.without & 1 << order != 0 {
            continue;
        }
        match field.kind {
            Kind::Message(inside) => {
                let is_inside = field.role == Role::Inside;
                if is_inside && field.holds == Holds::Many {
                    index += 1;
                    if edits
                        .points
                        .as_ref()
                        .is_some_and(|stays| stays.get(index - 1) == Some(&false))
                    {
                        continue;
                    }
                }
                let within = Reader::new(&content[content_at..end]).delimited()?;
                let mut findings = Findings::default();
                if ptr::eq(inside, &raw const KEY_VALUE)
                    && scan_attribute(within, 0, &mut Seen::default(), &mut findings)?
                {
                    out.extend_from_slice(whole);
                    continue;
                }
                let begun = open(out, &content[start..content_at], within.len());
                let none = Edits::default();
                rewrite(inside, within, if is_inside { edits } else { &none }, out)?;
                close(out, &begun);
            }
            _ if is_default(field, &content[content_at..end]) => {}
            _ => out.extend_from_slice(whole),
        }
    }
    if let Some((number, value)) = added {
        put_eight_bytes(number, value, out);
    }
    Ok(())
}

fn put_eight_bytes(number: u32, value: u64, out: &mut Vec<u8>) {
    put_varint(out, u64::from(number) << 3 | EIGHT_BYTES);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Whether a field, which holds no message, holds what is left out.
fn is_default(field: &Field, content: &[u8]) -> bool {
    let is_zero = || content.iter().all(|&byte| byte == 0);
    match (field.holds, field.kind) {
        (Holds::Many, Kind::Text) | (Holds::Optional | Holds::OneOf, _) => false,
        (Holds::Many, _) | (Holds::One, Kind::Text | Kind::Bytes | Kind::Id) => content == [0],
        (Holds::One, _) => is_zero(),
    }
}
