//! A fragment of protobuf, taken apart.

use super::{Envelope, Item, Whole};
use crate::checks::TRACE_ID_BYTES;
use crate::messages::{METRIC, Role, Signal};
use crate::outcome::Take;
use crate::scan::{number_of, skip};
use crate::wire::Reader;

/// What a nested message costs: its tag and a length.
const FRAME_BYTES: usize = 6;

const INSIDE: u64 = 0x12;
const ENTRY_OR_POINT: u64 = 0x0a;
const TRACE_OF_SPAN: u64 = 0x0a;
const TRACE_OF_LOG: u64 = 9 << 3 | 2;

/// The entries and items of a fragment.
pub fn take_apart(fragment: &[u8], signal: Signal) -> Take<Whole<'_>> {
    let mut whole = Whole::default();
    for field in fields(fragment, ENTRY_OR_POINT, &mut whole.rest)? {
        let mut entry = Envelope { items: whole.items.len()..0, ..Envelope::default() };
        let mut text = Vec::new();
        for field in fields(field.content, INSIDE, &mut text)? {
            let scope = scope(&field, signal, &mut whole)?;
            entry.inner.push(scope);
        }
        whole.entries.push(end(entry, vec![(vec![0x0a], text)], &whole));
    }
    Ok(whole)
}

fn scope<'a>(field: &Field<'a>, signal: Signal, whole: &mut Whole<'a>) -> Take<Envelope<'a>> {
    let mut scope = Envelope { items: whole.items.len()..0, ..Envelope::default() };
    let mut text = Vec::new();
    for field in fields(field.content, INSIDE, &mut text)? {
        if signal == Signal::Metrics {
            let metric = metric(&field, whole)?;
            scope.inner.push(metric);
        } else {
            let trace_id = trace_id_of(field.content, signal)?;
            whole.items.push(item(&field, trace_id));
        }
    }
    Ok(end(scope, vec![(vec![0x12], text)], whole))
}

fn metric<'a>(field: &Field<'a>, whole: &mut Whole<'a>) -> Take<Envelope<'a>> {
    let metric = Envelope { items: whole.items.len()..0, ..Envelope::default() };
    let (mut text, mut kind_text, mut tag) = (Vec::new(), Vec::new(), Vec::new());
    let mut reader = Reader::new(field.content);
    while reader.is_more() {
        let start = reader.at();
        let found = reader.varint()?;
        let known = METRIC.by_number(number_of(found)?);
        if known.is_some_and(|known| known.role == Role::Inside) {
            tag = field.content[start..reader.at()].to_vec();
            for point in fields(reader.delimited()?, ENTRY_OR_POINT, &mut kind_text)? {
                whole.items.push(item(&point, None));
            }
        } else {
            skip(&mut reader, found)?;
            text.extend_from_slice(&field.content[start..reader.at()]);
        }
    }
    Ok(end(metric, vec![(vec![0x12], text), (tag, kind_text)], whole))
}

fn item<'a>(field: &Field<'a>, trace_id: Option<[u8; TRACE_ID_BYTES]>) -> Item<'a> {
    Item { text: field.whole, size: field.content.len() + FRAME_BYTES, trace_id }
}

/// An envelope of which all items are known.
fn end<'a>(
    mut envelope: Envelope<'a>,
    shells: Vec<(Vec<u8>, Vec<u8>)>,
    whole: &Whole,
) -> Envelope<'a> {
    envelope.size = shells.iter().map(|(_, text)| text.len()).sum::<usize>() + 2 * FRAME_BYTES;
    envelope.shells = shells;
    envelope.items.end = whole.items.len();
    envelope
}

struct Field<'a> {
    whole: &'a [u8],
    content: &'a [u8],
}

/// The fields of a message with this tag; the others, as they came, go to `rest`.
fn fields<'a>(message: &'a [u8], tag: u64, rest: &mut Vec<u8>) -> Take<Vec<Field<'a>>> {
    let mut found = Vec::new();
    let mut reader = Reader::new(message);
    while reader.is_more() {
        let start = reader.at();
        let each = reader.varint()?;
        if each == tag {
            let content = reader.delimited()?;
            found.push(Field { whole: &message[start..reader.at()], content });
        } else {
            skip(&mut reader, each)?;
            rest.extend_from_slice(&message[start..reader.at()]);
        }
    }
    Ok(found)
}

fn trace_id_of(record: &[u8], signal: Signal) -> Take<Option<[u8; TRACE_ID_BYTES]>> {
    let wanted = if signal == Signal::Logs { TRACE_OF_LOG } else { TRACE_OF_SPAN };
    let mut reader = Reader::new(record);
    while reader.is_more() {
        let tag = reader.varint()?;
        if tag == wanted {
            return Ok(reader.delimited()?.try_into().ok());
        }
        skip(&mut reader, tag)?;
    }
    Ok(None)
}
