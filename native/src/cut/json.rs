//! A fragment of JSON in normal form, taken apart: without blanks, members in a known order.

use std::ops::Range;

use memchr::{memchr2, memmem};

use super::{Envelope, Item, Whole};
use crate::checks::TRACE_ID_BYTES;
use crate::messages::{Kind, METRIC, Role, Signal};
use crate::outcome::{Odd, Take};

const POINTS: &str = "dataPoints";

/// The entries and items of a fragment.
pub fn take_apart(fragment: &[u8], signal: Signal) -> Take<Whole<'_>> {
    let mut whole = Whole { separator: b",", ..Whole::default() };
    // The names of the lists from an entry in.
    let mut lists = Vec::new();
    let mut message = signal.request();
    while let Some(field) = message.fields.iter().find(|field| field.role == Role::Inside)
        && let Kind::Message(inside) = field.kind
    {
        lists.push(field.name);
        message = inside;
    }
    let levels = if signal == Signal::Metrics { &lists[1..3] } else { &lists[1..] };
    for text in elements(fragment, 0..fragment.len())? {
        let entry = envelope(text, levels, true, signal, &mut whole)?;
        whole.entries.push(entry);
    }
    Ok(whole)
}

/// An entry or a scope, or what is in them: `lists` are the names of the lists from here in.
fn envelope<'a>(
    text: &'a [u8],
    lists: &[&str],
    is_entry: bool,
    signal: Signal,
    whole: &mut Whole<'a>,
) -> Take<Envelope<'a>> {
    let (list, inner) = match lists {
        [] => (points_in(text)?, lists),
        [name, inner @ ..] => (member(text, 0, name)?.ok_or(Odd)?, inner),
    };
    // Without its brackets.
    let list = list.start + 1..list.end - 1;
    let mut made = Envelope {
        before: &text[..list.start],
        behind: &text[list.end..],
        items: whole.items.len()..0,
        ..Envelope::default()
    };
    // Python counts an entry with its list and a comma; a scope or metric as it is without the
    // list, and the list with two commas, of which one is there unless the list is alone.
    let name = lists.first().unwrap_or(&POINTS);
    let is_alone = made.before.ends_with(format!("{{\"{name}\":[").as_bytes())
        && made.behind.starts_with(b"]}");
    made.size = made.before.len() + made.behind.len() + 1 + usize::from(is_alone && !is_entry);
    let holds_metrics = signal == Signal::Metrics && lists.len() == 1;
    for each in elements(text, list)? {
        if inner.is_empty() && !holds_metrics {
            let trace_id = if lists.is_empty() { None } else { trace_id_of(each) };
            whole.items.push(Item { text: each, size: each.len() + 1, trace_id });
        } else {
            made.inner.push(envelope(each, inner, false, signal, whole)?);
        }
    }
    made.items.end = whole.items.len();
    Ok(made)
}

/// Where the points of a metric stand in it, with their brackets.
fn points_in(metric: &[u8]) -> Take<Range<usize>> {
    for kind in METRIC.fields.iter().filter(|field| field.role == Role::Inside) {
        if let Some(data) = member(metric, 0, kind.name)? {
            return member(metric, data.start, POINTS)?.ok_or(Odd);
        }
    }
    Err(Odd)
}

/// Where the value of this member stands, in the object that begins at `at`.
fn member(text: &[u8], at: usize, name: &str) -> Take<Option<Range<usize>>> {
    let mut at = at + 1;
    while text.get(at) == Some(&b'"') {
        let value = end_of(text, at)? + 1;
        let end = end_of(text, value)?;
        if &text[at + 1..value - 2] == name.as_bytes() {
            return Ok(Some(value..end));
        }
        at = end + 1;
    }
    Ok(None)
}

/// What stands in a list, whose inside is given.
fn elements(text: &[u8], list: Range<usize>) -> Take<Vec<&[u8]>> {
    let mut found = Vec::new();
    let mut at = list.start;
    while at < list.end {
        let end = end_of(text, at)?;
        found.push(&text[at..end]);
        at = end + 1;
    }
    Ok(found)
}

/// Where the value ends that begins at `at`.
fn end_of(text: &[u8], at: usize) -> Take<usize> {
    let mut depth = 0_usize;
    let mut at = at;
    loop {
        match *text.get(at).ok_or(Odd)? {
            b'"' => at = end_of_text(text, at)?,
            b'{' | b'[' => {
                depth += 1;
                at += 1;
                continue;
            }
            b'}' | b']' if depth > 0 => {
                depth -= 1;
                at += 1;
            }
            _ if depth > 0 => {
                at += 1;
                continue;
            }
            _ => {
                let is_end = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b':');
                let length = text[at..].iter().position(is_end);
                at += length.ok_or(Odd)?;
            }
        }
        if depth == 0 {
            return Ok(at);
        }
    }
}

fn end_of_text(text: &[u8], start: usize) -> Take<usize> {
    let mut at = start + 1;
    loop {
        at += memchr2(b'"', b'\\', text.get(at..).ok_or(Odd)?).ok_or(Odd)?;
        if text[at] == b'"' {
            return Ok(at + 1);
        }
        at += 2;
    }
}

/// The trace id of a span or log record: nothing else in one is called so before it.
fn trace_id_of(record: &[u8]) -> Option<[u8; TRACE_ID_BYTES]> {
    let name = b"\"traceId\":\"";
    let at = memmem::find(record, name)? + name.len();
    let digits = record.get(at..at + 2 * TRACE_ID_BYTES)?;
    let mut id = [0; TRACE_ID_BYTES];
    for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = u8::try_from(digit(0)? << 4 | digit(1)?).ok()?;
    }
    Some(id)
}
