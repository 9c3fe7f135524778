//! Members of messages that are texts or numbers, and lists of such.

use crate::json::enums::number_of;
use crate::json::members::{Facts, Member, Pass};
use crate::json::numbers::{double, signed, special_double, unsigned, write_double};
use crate::json::scan::Text;
use crate::json::text::{normalise_escapes, unescape};
use crate::messages::{Field, Holds, Kind, Role};
use crate::outcome::{Odd, Take};
use crate::wire::{SHORT, close, open, put_delimited, put_varint};

impl<const JSON: bool> Pass<'_, JSON> {
    /// Copy the text from the member's name to `end`.
    #[inline]
    pub fn copy(&mut self, member: Member, end: usize) {
        self.out.extend_from_slice(&self.scan.text[member.from..end]);
    }

    #[inline]
    pub fn tag(&mut self, field: &Field, wire_type: u64) {
        put_varint(&mut self.out, u64::from(field.number) << 3 | wire_type);
    }

    pub fn text(&mut self, member: Member, facts: &mut Facts) -> Take<bool> {
        let text = self.scan.string()?;
        match member.field.role {
            Role::Name => facts.name = text,
            Role::Plain if member.field.name == "schemaUrl" => facts.url = text,
            _ => {}
        }
        if text.is_empty() {
            return Ok(false);
        }
        if JSON {
            self.copy(member, text.start);
            self.rest_of_text(text)?;
        } else {
            self.tag(member.field, 2);
            self.delimited(text)?;
        }
        Ok(true)
    }

    /// What a text holds, and the quotation mark behind it.
    #[inline]
    pub fn rest_of_text(&mut self, text: Text) -> Take<()> {
        if text.is_odd {
            normalise_escapes(self.scan.raw(text), &mut self.out)?;
            self.out.push(b'"');
        } else {
            self.out.extend_from_slice(&self.scan.text[text.start..=text.end]);
        }
        Ok(())
    }

    /// What a text means, behind its length.
    #[inline]
    pub fn delimited(&mut self, text: Text) -> Take<()> {
        let raw = self.scan.raw(text);
        if !text.is_escaped {
            put_delimited(&mut self.out, b"", raw);
            return Ok(());
        }
        self.scratch.clear();
        unescape(raw, &mut self.scratch)?;
        put_delimited(&mut self.out, b"", &self.scratch);
        Ok(())
    }

    /// An unsigned integer of 64 bits. Zero is left out.
    #[inline]
    pub fn unsigned(&mut self, member: Member, facts: &mut Facts) -> Take<bool> {
        let at = self.scan.at;
        let digits = self.scan.integer()?;
        let number = unsigned(digits)?;
        match member.field.role {
            Role::Start => facts.start = number,
            Role::End => facts.end = number,
            Role::Time => facts.time = number,
            Role::Observed => facts.observed = number,
            Role::Count => facts.histogram.count = number,
            Role::ZeroCount => facts.zero_count = number,
            _ => {}
        }
        if number == 0 {
            return Ok(false);
        }
        if JSON {
            self.copy(member, at);
            self.decimal(at, digits);
        } else {
            let wire_type = u64::from(matches!(member.field.kind, Kind::Fixed64));
            self.tag(member.field, wire_type);
            self.put_unsigned(member.field, number);
        }
        Ok(true)
    }

    #[inline]
    fn put_unsigned(&mut self, field: &Field, number: u64) {
        if matches!(field.kind, Kind::Fixed64) {
            self.out.extend_from_slice(&number.to_le_bytes());
        } else {
            put_varint(&mut self.out, number);
        }
    }

    /// Digits in quotation marks, which they may stand in at `at` already.
    #[inline]
    pub fn decimal(&mut self, at: usize, digits: &[u8]) {
        if self.scan.text[at] == b'"' {
            self.out.extend_from_slice(&self.scan.text[at..self.scan.at]);
        } else {
            self.out.push(b'"');
            self.out.extend_from_slice(digits);
            self.out.push(b'"');
        }
    }

    pub fn signed(&mut self, member: Member) -> Take<bool> {
        let at = self.scan.at;
        let digits = self.scan.integer()?;
        let number = signed(digits)?;
        if JSON {
            self.copy(member, at);
            self.decimal(at, digits);
        } else {
            self.tag(member.field, 1);
            self.out.extend_from_slice(&number.to_le_bytes());
        }
        Ok(true)
    }

    /// An integer of 32 bits, or an enum. Zero is left out.
    pub fn small(&mut self, member: Member, facts: &mut Facts) -> Take<bool> {
        let field = member.field;
        let at = self.scan.at;
        let is_quoted = self.scan.peek() == b'"';
        let digits = self.scan.integer()?;
        let named = if is_quoted { number_of(field.name, digits) } else { None };
        let number = named.map_or_else(|| signed(digits), Ok)?;
        if is_quoted {
            self.note_exact()?;
        }
        if named.is_some() && !self.is_as_sent && !self.is_again {
            self.outcome.warn("enum_name", 1);
        }
        let is_fit = match field.kind {
            Kind::Int32 | Kind::SInt32 => i32::try_from(number).is_ok(),
            _ => u32::try_from(number).is_ok(),
        };
        if !is_fit {
            return Err(Odd);
        }
        // Both fit as far as they are looked at: what they are is looked at above.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        match field.role {
            Role::Flags => facts.flags = number as u32,
            Role::Temporality => facts.temporality = number as i32,
            _ => {}
        }
        if number == 0 {
            return Ok(false);
        }
        if JSON {
            self.copy(member, at);
            if named.is_some() {
                self.out.extend_from_slice(number.to_string().as_bytes());
            } else {
                self.out.extend_from_slice(digits);
            }
            return Ok(true);
        }
        match field.kind {
            Kind::Fixed32 => {
                self.tag(field, 5);
                self.out.extend_from_slice(&number.to_le_bytes()[..4]);
            }
            Kind::SInt32 => {
                self.tag(field, 0);
                put_varint(&mut self.out, ((number << 1) ^ (number >> 63)).cast_unsigned());
            }
            _ => {
                self.tag(field, 0);
                put_varint(&mut self.out, number.cast_unsigned());
            }
        }
        Ok(true)
    }

    pub fn boolean(&mut self, member: Member) -> Take<bool> {
        let is_true = self.scan.boolean()?;
        if JSON {
            self.copy(member, self.scan.at);
        } else {
            self.tag(member.field, 0);
            self.out.push(1);
        }
        Ok(is_true)
    }

    /// A double. In JSON a zero that was sent is kept; in protobuf it is left out where it says
    /// nothing.
    pub fn double(&mut self, member: Member) -> Take<bool> {
        let at = self.scan.at;
        if JSON {
            self.copy(member, at);
            self.write_double()?;
            return Ok(true);
        }
        let value = self.read_double()?;
        self.tag(member.field, 1);
        self.out.extend_from_slice(&value.to_le_bytes());
        Ok(member.field.holds != Holds::One || value.to_bits() != 0)
    }

    /// A double in JSON: a number, which may stand in quotation marks, or the name of one that
    /// is none. Whether it is such a name.
    #[inline]
    pub fn write_double(&mut self) -> Take<bool> {
        let at = self.scan.at;
        let digits = self.scan.integer()?;
        if self.scan.text[at] == b'"' {
            if special_double(digits).is_some() {
                self.out.extend_from_slice(&self.scan.text[at..self.scan.at]);
                return Ok(true);
            }
            self.note_exact()?;
        }
        write_double(digits, &mut self.out)?;
        Ok(false)
    }

    pub fn read_double(&mut self) -> Take<f64> {
        let is_quoted = self.scan.peek() == b'"';
        let digits = self.scan.integer()?;
        if is_quoted {
            if let Some(special) = special_double(digits) {
                return Ok(special);
            }
            self.note_exact()?;
        }
        Ok(double(digits)?.0)
    }

    /// A list of texts or numbers.
    pub fn values(&mut self, member: Member, facts: &mut Facts) -> Take<bool> {
        self.scan.expect(b'[')?;
        let start = self.scan.at;
        if self.scan.take(b']') {
            return Ok(false);
        }
        let field = member.field;
        let mut packed = None;
        if JSON {
            self.copy(member, start);
        } else if !matches!(field.kind, Kind::Text) {
            self.tag(field, 2);
            packed = Some(open(&mut self.out, b"", SHORT));
        }
        let mut before = f64::NEG_INFINITY;
        loop {
            self.scan.skip_blanks();
            match field.kind {
                Kind::Text => self.one_text(field)?,
                Kind::Double => {
                    let bound = self.one_double()?;
                    let is_first = facts.histogram.bounds == 0;
                    facts.histogram.falls |= !(is_first || before < bound);
                    facts.histogram.bounds += 1;
                    before = bound;
                }
                _ => {
                    facts.histogram.buckets += 1;
                    facts.histogram.sum += u128::from(self.one_unsigned(field)?);
                }
            }
            if JSON {
                self.out.push(b',');
            }
            if !self.scan.has_more(b']')? {
                break;
            }
        }
        if JSON {
            self.end_list();
        } else if let Some(packed) = packed {
            close(&mut self.out, &packed);
        }
        Ok(true)
    }

    fn one_text(&mut self, field: &Field) -> Take<()> {
        let text = self.scan.string()?;
        if JSON {
            self.out.push(b'"');
            return self.rest_of_text(text);
        }
        self.tag(field, 2);
        self.delimited(text)
    }

    fn one_double(&mut self) -> Take<f64> {
        let at = self.scan.at;
        let value = self.read_double()?;
        if JSON {
            self.scan.at = at;
            self.write_double()?;
        } else {
            self.out.extend_from_slice(&value.to_le_bytes());
        }
        Ok(value)
    }

    fn one_unsigned(&mut self, field: &Field) -> Take<u64> {
        let at = self.scan.at;
        let digits = self.scan.integer()?;
        let number = unsigned(digits)?;
        if JSON {
            self.decimal(at, digits);
        } else {
            self.put_unsigned(field, number);
        }
        Ok(number)
    }
}
