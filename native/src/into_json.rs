//! A kept fragment of protobuf as one of JSON: one walk, message by message, by the table.
//!
//! What `relay/otlp/transcode.py` makes of it, or `Odd`: fields that are not known here have no form
//! in JSON and are left out, and so is what is at its default where that says nothing.

use std::io::Write;

use crate::json::numbers::write_finite;
use crate::json::text::{write_base64, write_hex, write_text};
use crate::messages::{Field, Holds, Kind, Message, Signal};
use crate::outcome::{Odd, Take, buffer};
use crate::scan::{MOST_DEPTH, number_of, skip};
use crate::wire::{Reader, check_text};

/// A fragment in protobuf as a fragment in JSON, in normal form.
///
/// # Errors
/// `Odd` where the Python path decides.
pub fn to_json(fragment: &[u8], signal: Signal) -> Take<Vec<u8>> {
    let Kind::Message(entry) = signal.request().fields[0].kind else { return Err(Odd) };
    let mut walk = Walk { out: buffer(2 * fragment.len()), fields: Vec::with_capacity(64) };
    let mut reader = Reader::new(fragment);
    while reader.is_more() {
        let tag = reader.varint()?;
        if tag == ENTRY {
            walk.message(entry, reader.delimited()?, 1)?;
            walk.out.push(b',');
        } else if number_of(tag)? == 1 {
            return Err(Odd);
        } else {
            skip(&mut reader, tag)?;
        }
    }
    walk.out.pop();
    Ok(walk.out)
}

const ENTRY: u64 = 0x0a;

/// What stands in a field.
#[derive(Clone, Copy)]
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

struct Walk<'a> {
    out: Vec<u8>,
    /// Fields of the messages that are being written, the inner ones last: index and value.
    fields: Vec<(usize, Value<'a>)>,
}

impl<'a> Walk<'a> {
    /// A message as an object.
    fn message(&mut self, message: &'static Message, content: &'a [u8], depth: u32) -> Take<()> {
        if depth > MOST_DEPTH {
            return Err(Odd);
        }
        let start = self.fields.len();
        self.read(message, content)?;
        let end = self.fields.len();
        self.out.push(b'{');
        let mut at = start;
        while at < end {
            let index = self.fields[at].0;
            let field = &message.fields[index];
            let next = (at + 1..end).find(|&next| self.fields[next].0 != index).unwrap_or(end);
            self.field(field, at..next, depth)?;
            at = next;
        }
        self.fields.truncate(start);
        close(&mut self.out, b'}');
        Ok(())
    }

    /// Note the fields of a message, in the order of JSON.
    fn read(&mut self, message: &'static Message, content: &'a [u8]) -> Take<()> {
        let start = self.fields.len();
        let (mut last, mut is_sorted, mut has_one_of) = (0, true, false);
        let mut reader = Reader::new(content);
        while reader.is_more() {
            let tag = reader.varint()?;
            let Some(index) = message.index_by_number(number_of(tag)?) else {
                skip(&mut reader, tag)?;
                continue;
            };
            let field = &message.fields[index];
            if tag & 7 != wire_type(field) {
                return Err(Odd);
            }
            let value = match tag & 7 {
                0 => Value::Number(reader.varint()?),
                1 => Value::Number(u64::from_le_bytes(reader.fixed()?)),
                5 => Value::Number(u32::from_le_bytes(reader.fixed()?).into()),
                _ => Value::Bytes(reader.delimited()?),
            };
            if field.holds == Holds::OneOf {
                if has_one_of {
                    return Err(Odd);
                }
                has_one_of = true;
            }
            is_sorted &= index >= last;
            last = index;
            self.fields.push((index, value));
        }
        if !is_sorted {
            self.fields[start..].sort_by_key(|&(index, _)| index);
        }
        Ok(())
    }

    /// A member: the values of one field. More than one where there should be one is `Odd`.
    fn field(
        &mut self,
        field: &'static Field,
        places: std::ops::Range<usize>,
        depth: u32,
    ) -> Take<()> {
        let before = self.out.len();
        self.out.push(b'"');
        self.out.extend_from_slice(field.name.as_bytes());
        self.out.extend_from_slice(b"\":");
        if field.holds == Holds::Many {
            self.out.push(b'[');
            let opened = self.out.len();
            for place in places {
                self.items(field, self.fields[place].1, depth)?;
            }
            if self.out.len() == opened {
                self.out.truncate(before); // numbers, packed, of which there are none
                return Ok(());
            }
            close(&mut self.out, b']');
        } else if places.len() > 1 {
            return Err(Odd);
        } else if !self.value(field, self.fields[places.start].1, depth)? {
            self.out.truncate(before);
            return Ok(());
        }
        self.out.push(b',');
        Ok(())
    }

    /// What one value of a list holds: one item, or packed numbers.
    fn items(&mut self, field: &'static Field, value: Value<'a>, depth: u32) -> Take<()> {
        let Value::Bytes(content) = value else { return Err(Odd) };
        if matches!(field.kind, Kind::Message(_) | Kind::Text) {
            self.value(field, value, depth)?;
            self.out.push(b',');
            return Ok(());
        }
        let mut reader = Reader::new(content);
        while reader.is_more() {
            let number = match field.kind {
                Kind::UInt64 => reader.varint()?,
                Kind::Fixed64 | Kind::Double => u64::from_le_bytes(reader.fixed()?),
                _ => return Err(Odd), // there are no others
            };
            self.value(field, Value::Number(number), depth)?;
            self.out.push(b',');
        }
        Ok(())
    }

    /// One value. False: it is a default that says nothing.
    fn value(&mut self, field: &'static Field, value: Value<'a>, depth: u32) -> Take<bool> {
        let says_nothing = field.holds == Holds::One;
        match (field.kind, value) {
            (Kind::Message(inner), Value::Bytes(content)) => {
                self.message(inner, content, depth + 1)?;
            }
            (_, Value::Bytes([]) | Value::Number(0)) if says_nothing => return Ok(false),
            (Kind::Text, Value::Bytes(text)) => {
                check_text(text)?;
                write_text(text, &mut self.out);
            }
            (Kind::Id, Value::Bytes(id)) => {
                self.out.push(b'"');
                write_hex(id, &mut self.out);
                self.out.push(b'"');
            }
            (Kind::Bytes, Value::Bytes(bytes)) => {
                self.out.push(b'"');
                write_base64(bytes, &mut self.out);
                self.out.push(b'"');
            }
            (Kind::Double, Value::Number(bits)) => {
                self.double(f64::from_bits(bits), says_nothing)?;
            }
            (kind, Value::Number(number)) => self.number(kind, number)?,
            _ => return Err(Odd),
        }
        Ok(true)
    }

    fn double(&mut self, value: f64, says_nothing: bool) -> Take<()> {
        if value.is_finite() {
            if says_nothing && value == 0.0 {
                return Err(Odd); // minus zero: who leaves it out is a matter of versions
            }
            write_finite(value, &mut self.out);
            return Ok(());
        }
        self.out.extend_from_slice(if value.is_nan() {
            b"\"NaN\""
        } else if value > 0.0 {
            b"\"Infinity\""
        } else {
            b"\"-Infinity\""
        });
        Ok(())
    }

    fn number(&mut self, kind: Kind, number: u64) -> Take<()> {
        let out = &mut self.out;
        let signed = number.cast_signed();
        // Writing to a Vec does not fail.
        let _ = match kind {
            Kind::Bool if number < 2 => write!(out, "{}", number == 1),
            Kind::Int32 if i32::try_from(signed).is_ok() => write!(out, "{signed}"),
            Kind::UInt32 | Kind::Fixed32 if u32::try_from(number).is_ok() => {
                write!(out, "{number}")
            }
            Kind::SInt32 if u32::try_from(number).is_ok() => {
                write!(out, "{}", (number >> 1).cast_signed() ^ -(number & 1).cast_signed())
            }
            Kind::Int64 | Kind::SFixed64 => write!(out, "\"{signed}\""),
            Kind::UInt64 | Kind::Fixed64 => write!(out, "\"{number}\""),
            _ => return Err(Odd),
        };
        Ok(())
    }
}

/// The comma behind the last member or item becomes what closes it.
fn close(out: &mut Vec<u8>, closing: u8) {
    match out.last_mut() {
        Some(last) if *last == b',' => *last = closing,
        _ => out.push(closing),
    }
}

fn wire_type(field: &Field) -> u64 {
    if field.holds == Holds::Many {
        return 2; // numbers are packed
    }
    match field.kind {
        Kind::Text | Kind::Bytes | Kind::Id | Kind::Message(_) => 2,
        Kind::Bool | Kind::Int32 | Kind::SInt32 | Kind::UInt32 | Kind::Int64 | Kind::UInt64 => 0,
        Kind::Fixed64 | Kind::SFixed64 | Kind::Double => 1,
        Kind::Fixed32 => 5,
    }
}
