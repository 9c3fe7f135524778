//! Attributes and their values, most of every body.

use crate::json::members::{Member, Pass};
use crate::json::numbers::signed;
use crate::json::scan::Text;
use crate::json::text::unbase64;
use crate::messages::{ANY_VALUE, KEY_VALUE};
use crate::outcome::{Odd, SPECIAL_DOUBLES, Take};
use crate::wire::{SHORT, close, length_bytes, open, put_delimited, put_varint};

/// How many levels of arrays and maps are taken: what every parser of protobuf takes.
const MOST_LEVELS: usize = 30;
/// Above so many keys of one message they are compared in order, not each with each.
const FEW_KEYS: usize = 32;

/// The usual values of attributes.
enum Usual {
    Text(Text),
    Integer(i64),
    Boolean(bool),
}

/// Marks of keys: two that leave the same may be equal.
#[derive(Default)]
struct Marks([u64; 8]);

impl Marks {
    /// Whether a key that leaves the same mark was there.
    #[inline]
    fn add(&mut self, key: &[u8]) -> bool {
        let mut hash = key.len() as u64;
        let mut mix =
            |word: u64| hash = (hash.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
        match key.last_chunk() {
            Some(last) => {
                key.chunks_exact(8)
                    .for_each(|word| mix(word.try_into().map_or(0, u64::from_le_bytes)));
                mix(u64::from_le_bytes(*last));
            }
            None => mix(key.iter().fold(0, |word, &byte| word << 8 | u64::from(byte))),
        }
        let place = (hash >> 55) as usize; // nine bits
        let bit = 1 << (place & 63);
        let word = &mut self.0[place >> 6];
        let is_there = *word & bit != 0;
        *word |= bit;
        is_there
    }
}

impl<const JSON: bool> Pass<'_, JSON> {
    /// The attributes of one message, of a resource or of something else.
    pub fn attributes(&mut self, member: Member, is_of_resource: bool) -> Take<bool> {
        self.scan.expect(b'[')?;
        let opened = self.scan.at;
        if self.scan.take(b']') {
            return Ok(false);
        }
        if JSON {
            self.copy(member, opened);
        }
        self.keys.clear();
        let mut marks = Marks::default();
        let mut is_doubtful = false;
        // What is copied as it stands: attributes in normal form that follow one another.
        let mut run = 0..0;
        loop {
            self.scan.skip_blanks();
            let at = self.scan.at;
            let (key, text) = if let Some((key, value)) = self.usual_attribute() {
                if JSON {
                    if run.end + 1 != at {
                        self.end_run(&run);
                        run.start = at;
                    }
                    run.end = self.scan.at;
                } else {
                    self.put_attribute(member, key, &value);
                }
                (key, if let Usual::Text(text) = value { Some(text) } else { None })
            } else {
                self.end_run(&run);
                run = 0..0;
                self.attribute(member, 0)?
            };
            if JSON && !self.is_as_sent {
                let raw = self.scan.raw(key);
                is_doubtful |= key.is_empty() | marks.add(raw);
                self.keys.push(raw);
                if is_of_resource && raw == b"service.name" {
                    self.name_service(text)?;
                }
            }
            if !self.scan.has_more(b']')? {
                break;
            }
        }
        if JSON {
            self.end_run(&run);
            self.end_list();
            if is_doubtful && !self.is_again {
                self.look_at_keys();
            }
            if is_of_resource && !self.is_as_sent {
                std::mem::swap(&mut self.entry.keys, &mut self.keys);
            }
        }
        Ok(true)
    }

    #[inline]
    fn end_run(&mut self, run: &std::ops::Range<usize>) {
        if JSON && !run.is_empty() {
            self.out.extend_from_slice(&self.scan.text[run.clone()]);
            self.out.push(b',');
        }
    }

    /// Count what is wrong with the keys of one message.
    #[cold]
    fn look_at_keys(&mut self) {
        let keys = &self.keys;
        let is_twice = if keys.len() <= FEW_KEYS {
            keys.iter().enumerate().any(|(index, key)| keys[..index].contains(key))
        } else {
            let mut sorted = keys.clone();
            sorted.sort_unstable();
            sorted.windows(2).any(|pair| pair[0] == pair[1])
        };
        let is_empty = keys.iter().any(|key| key.is_empty());
        self.outcome.warn("attribute_key_duplicate", usize::from(is_twice));
        self.outcome.warn("attribute_key_empty", usize::from(is_empty));
    }

    /// An attribute as nearly every sender writes it, which is in normal form, or none and nothing
    /// is passed.
    #[inline]
    fn usual_attribute(&mut self) -> Option<(Text, Usual)> {
        let start = self.scan.at;
        let found = self.read_usual();
        if found.is_none() {
            self.scan.at = start;
        }
        found
    }

    #[inline]
    fn read_usual(&mut self) -> Option<(Text, Usual)> {
        let scan = &mut self.scan;
        if !scan.take_bytes(b"{\"key\":\"") {
            return None;
        }
        let key = scan.rest_of_string().ok()?;
        if key.is_empty() || key.is_escaped || !scan.take_bytes(b",\"value\":{\"") {
            return None;
        }
        let value = if scan.take_bytes(b"stringValue\":\"") {
            let text = scan.rest_of_string().ok()?;
            let is_other = if JSON { text.is_odd } else { text.is_escaped };
            if is_other {
                return None;
            }
            Usual::Text(text)
        } else if scan.take_bytes(b"intValue\":\"") {
            let text = scan.rest_of_string().ok()?;
            Usual::Integer(signed(scan.raw(text)).ok()?)
        } else if scan.take_bytes(b"boolValue\":") && matches!(scan.peek(), b't' | b'f') {
            Usual::Boolean(scan.boolean().ok()?)
        } else {
            return None;
        };
        scan.take_bytes(b"}}").then_some((key, value))
    }

    /// The same in protobuf, where all lengths are known beforehand.
    #[inline]
    fn put_attribute(&mut self, member: Member, key: Text, value: &Usual) {
        let key = self.scan.raw(key);
        self.tag(member.field, 2);
        let out = &mut self.out;
        let delimited = |length: usize| 1 + length_bytes(length) + length;
        let mut content = [0; 11];
        let (content, length) = match *value {
            Usual::Text(text) => {
                let raw = self.scan.raw(text);
                (raw, delimited(raw.len()))
            }
            Usual::Boolean(is_true) => {
                content[..2].copy_from_slice(&[0x10, is_true.into()]);
                (&content[..2], 2)
            }
            Usual::Integer(number) => {
                let mut left = number.cast_unsigned();
                content[0] = 0x18;
                let mut count = 1;
                while left > 127 {
                    content[count] = left.to_le_bytes()[0] | 128;
                    left >>= 7;
                    count += 1;
                }
                content[count] = left.to_le_bytes()[0];
                (&content[..=count], count + 1)
            }
        };
        put_varint(out, (delimited(key.len()) + delimited(length)) as u64);
        put_delimited(out, b"\x0a", key);
        out.push(0x12);
        put_varint(out, length as u64);
        if matches!(value, Usual::Text(_)) {
            put_delimited(out, b"\x0a", content);
        } else {
            out.extend_from_slice(content);
        }
    }

    /// Any attribute, in JSON with a comma behind it: its key, and its text if it has one.
    fn attribute(&mut self, member: Member, level: usize) -> Take<(Text, Option<Text>)> {
        if JSON {
            let found = self.key_value(level)?;
            self.out.push(b',');
            return Ok(found);
        }
        self.tag(member.field, 2);
        let opened = open(&mut self.out, b"", SHORT);
        let found = self.key_value(level)?;
        close(&mut self.out, &opened);
        Ok(found)
    }

    /// A key and a value; in protobuf what is in the message.
    fn key_value(&mut self, level: usize) -> Take<(Text, Option<Text>)> {
        self.scan.skip_blanks();
        let object = self.scan.at;
        self.scan.expect(b'{')?;
        if JSON {
            self.out.push(b'{');
        }
        let (mut key, mut text, mut early, mut has_value) = (None, None, None, false);
        let mut is_more = !self.scan.take(b'}');
        while is_more {
            let name = self.scan.key()?;
            match self.scan.raw(name) {
                b"key" if key.is_none() && (JSON || !has_value) => {
                    key = Some(self.attribute_key(level)?);
                }
                b"value" if !has_value => {
                    has_value = true;
                    // In a kept fragment no key comes any more.
                    if key.is_some() || !JSON {
                        text = self.attribute_value(level)?;
                    } else {
                        self.scan.skip_blanks();
                        early = Some(self.scan.at);
                        self.scan.ignore()?; // it is written behind the key
                    }
                }
                b"key" | b"value" | b"keyStrindex" => return Err(Odd),
                _ if level > 0 => return Err(Odd), // Python tells of them in another order
                _ => self.ignore(&KEY_VALUE, name, object)?,
            }
            is_more = self.scan.has_more(b'}')?;
        }
        if let Some(at) = early {
            let end = std::mem::replace(&mut self.scan.at, at);
            text = self.attribute_value(level)?;
            self.scan.at = end;
        }
        if JSON {
            self.end_object();
        }
        Ok((key.unwrap_or_default(), text))
    }

    fn attribute_key(&mut self, level: usize) -> Take<Text> {
        if self.scan.take_null() {
            self.note_exact()?;
            return Ok(Text::default());
        }
        let key = self.scan.string()?;
        if JSON && key.is_escaped && level == 0 {
            return Err(Odd); // keys of a message are compared as they stand
        }
        if key.is_empty() {
            return Ok(key);
        }
        if JSON {
            self.out.extend_from_slice(b"\"key\":\"");
            self.rest_of_text(key)?;
            self.out.push(b',');
        } else {
            self.out.push(0x0a);
            self.delimited(key)?;
        }
        Ok(key)
    }

    fn attribute_value(&mut self, level: usize) -> Take<Option<Text>> {
        if self.scan.take_null() {
            self.note_exact()?;
            return Ok(None);
        }
        if JSON {
            self.out.extend_from_slice(b"\"value\":");
            let text = self.value(level)?;
            self.out.push(b',');
            return Ok(text);
        }
        self.out.push(0x12);
        let opened = open(&mut self.out, b"", SHORT);
        let text = self.value(level)?;
        close(&mut self.out, &opened);
        Ok(text)
    }

    /// An `AnyValue`; in protobuf what is in the message. Its text, if that is what it is.
    pub fn value(&mut self, level: usize) -> Take<Option<Text>> {
        self.scan.skip_blanks();
        let object = self.scan.at;
        self.scan.expect(b'{')?;
        if JSON {
            self.out.push(b'{');
        }
        let (mut text, mut is_set) = (None, false);
        let mut is_more = !self.scan.take(b'}');
        while is_more {
            let key = self.scan.key()?;
            let name = self.scan.raw(key);
            if ANY_VALUE.by_name(name).is_none() {
                if level > 0 {
                    return Err(Odd); // Python tells of them in another order
                }
                self.ignore(&ANY_VALUE, key, object)?;
            } else if is_set {
                return Err(Odd);
            } else if self.scan.take_null() {
                self.note_exact()?;
            } else {
                is_set = true;
                text = self.one_of(name, level)?;
            }
            is_more = self.scan.has_more(b'}')?;
        }
        if JSON {
            self.out.push(b'}');
        }
        Ok(text)
    }

    /// The member of a value that is set. Its text, if that is what it is.
    fn one_of(&mut self, name: &[u8], level: usize) -> Take<Option<Text>> {
        if JSON {
            self.out.push(b'"');
            self.out.extend_from_slice(name);
            self.out.extend_from_slice(b"\":");
        }
        self.scan.skip_blanks();
        let at = self.scan.at;
        match name {
            b"stringValue" => {
                let text = self.scan.string()?;
                if JSON {
                    self.out.push(b'"');
                    self.rest_of_text(text)?;
                } else {
                    self.out.push(0x0a);
                    self.delimited(text)?;
                }
                return Ok(Some(text));
            }
            b"boolValue" => {
                let is_true = self.scan.boolean()?;
                if JSON {
                    self.out.extend_from_slice(&self.scan.text[at..self.scan.at]);
                } else {
                    self.out.extend_from_slice(&[0x10, is_true.into()]);
                }
            }
            b"intValue" => {
                let digits = self.scan.integer()?;
                let number = signed(digits)?;
                if JSON {
                    self.decimal(at, digits);
                } else {
                    self.out.push(0x18);
                    put_varint(&mut self.out, number.cast_unsigned());
                }
            }
            b"doubleValue" => self.double_value()?,
            b"bytesValue" => {
                let text = self.scan.string()?;
                self.scratch.clear();
                unbase64(self.scan.raw(text), &mut self.scratch)?;
                if JSON {
                    self.out.extend_from_slice(&self.scan.text[at..self.scan.at]);
                } else {
                    put_delimited(&mut self.out, b"\x3a", &self.scratch);
                }
            }
            b"arrayValue" | b"kvlistValue" if level < MOST_LEVELS => {
                self.container(name == b"kvlistValue", level + 1)?;
            }
            _ => return Err(Odd), // too deep, or by index, which is for profiles
        }
        Ok(None)
    }

    fn double_value(&mut self) -> Take<()> {
        let is_special = if JSON {
            self.write_double()?
        } else {
            let value = self.read_double()?;
            self.out.push(0x21);
            self.out.extend_from_slice(&value.to_le_bytes());
            false
        };
        if is_special {
            self.outcome.flags |= SPECIAL_DOUBLES;
        }
        Ok(())
    }

    /// A list of values, or of keys with values.
    fn container(&mut self, is_map: bool, level: usize) -> Take<()> {
        self.scan.expect(b'{')?;
        let mut opened = None;
        if JSON {
            self.out.push(b'{');
        } else {
            opened = Some(open(&mut self.out, if is_map { b"\x32" } else { b"\x2a" }, SHORT));
        }
        if !self.scan.take(b'}') {
            let name = self.scan.key()?;
            if self.scan.raw(name) != b"values" {
                return Err(Odd); // Python tells of it in another order
            }
            if self.scan.take_null() {
                self.note_exact()?;
            } else {
                self.contents(is_map, level)?;
            }
            self.scan.expect(b'}')?;
        }
        match opened {
            None => self.out.push(b'}'),
            Some(opened) => close(&mut self.out, &opened),
        }
        Ok(())
    }

    fn contents(&mut self, is_map: bool, level: usize) -> Take<()> {
        self.scan.expect(b'[')?;
        if self.scan.take(b']') {
            return Ok(());
        }
        if JSON {
            self.out.extend_from_slice(b"\"values\":[");
        }
        loop {
            let opened = (!JSON).then(|| open(&mut self.out, b"\x0a", SHORT));
            if is_map {
                self.key_value(level)?;
            } else if self.scan.take_null() {
                self.note_exact()?;
                self.out.extend_from_slice(b"{}"); // in JSON, where alone this is taken
            } else {
                self.value(level)?;
            }
            match opened {
                None => self.out.push(b','),
                Some(opened) => close(&mut self.out, &opened),
            }
            if !self.scan.has_more(b']')? {
                break;
            }
        }
        if JSON {
            self.end_list();
        }
        Ok(())
    }
}
