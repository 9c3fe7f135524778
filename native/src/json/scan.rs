//! Reads the tokens of JSON text where they stand, copying nothing.
//!
//! Everything here takes only what every reader of JSON agrees on. The rest is `Odd`: broken
//! text, and what is merely unusual, such as a number with a leading zero. Text is taken to be
//! UTF-8: who begins says so.

use crate::json::numbers::double;
use crate::json::text::unescape;
use crate::outcome::{Odd, Steps, Take};

/// What stands between two quotation marks: from where, to where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Text {
    pub start: usize,
    pub end: usize,
    /// It holds a backslash: what it means is not what it is.
    pub is_escaped: bool,
    /// It holds an escape that is written otherwise in normal form.
    pub is_odd: bool,
}

impl Text {
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }
}

/// How deep a value that is ignored may be nested.
const MOST_IGNORED_LEVELS: u32 = 32;
/// More digits than any number needs: beyond it the two readers in Python differ.
const MOST_NUMBER_BYTES: usize = 300;

#[derive(Clone)]
pub struct Scanner<'a> {
    pub text: &'a [u8],
    pub at: usize,
    pub steps: Steps,
}

impl<'a> Scanner<'a> {
    pub fn new(text: &'a [u8], steps: Steps) -> Self {
        Scanner { text, at: 0, steps }
    }

    /// What is yet to be read.
    #[inline(always)]
    pub fn rest(&self) -> &'a [u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// The next byte; NUL, which is no JSON, at the end.
    #[inline(always)]
    pub fn peek(&self) -> u8 {
        self.text.get(self.at).copied().unwrap_or(0)
    }

    #[inline(always)]
    pub fn skip_blanks(&mut self) {
        while matches!(self.peek(), b' ' | b'\n' | b'\r' | b'\t') {
            self.at += 1;
        }
    }

    /// Pass `byte`, blanks before it too.
    #[inline(always)]
    pub fn expect(&mut self, byte: u8) -> Take<()> {
        if self.take(byte) { Ok(()) } else { Err(Odd) }
    }

    /// Whether `byte` comes next; it is passed then.
    #[inline(always)]
    pub fn take(&mut self, byte: u8) -> bool {
        self.skip_blanks();
        let found = self.peek() == byte;
        self.at += usize::from(found);
        found
    }

    /// Pass a comma, which is true, or what closes a list or an object.
    #[inline(always)]
    pub fn has_more(&mut self, close: u8) -> Take<bool> {
        if self.take(b',') {
            self.steps.spend(1)?;
            return Ok(true);
        }
        self.expect(close)?;
        Ok(false)
    }

    /// Whether exactly these bytes come next; they are passed then.
    #[inline(always)]
    pub fn take_bytes(&mut self, bytes: &[u8]) -> bool {
        let found = self.rest().starts_with(bytes);
        if found {
            self.at += bytes.len();
        }
        found
    }

    /// Pass a null, if one comes next.
    #[inline(always)]
    pub fn take_null(&mut self) -> bool {
        self.skip_blanks();
        self.peek() == b'n' && self.take_bytes(b"null")
    }

    #[inline(always)]
    pub fn string(&mut self) -> Take<Text> {
        self.expect(b'"')?;
        self.rest_of_string()
    }

    /// As `string`, behind the quotation mark that opens it.
    #[inline(always)]
    pub fn rest_of_string(&mut self) -> Take<Text> {
        let start = self.at;
        let (mut is_escaped, mut is_odd) = (false, false);
        let mut at = start;
        loop {
            at = find_special(self.text, at);
            match self.text.get(at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    is_escaped = true;
                    match self.text.get(at + 1) {
                        Some(b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't') => (),
                        Some(b'/' | b'u') => is_odd = true,
                        _ => return Err(Odd),
                    }
                    at += 2;
                }
                _ => return Err(Odd),
            }
        }
        self.at = at + 1;
        Ok(Text { start, end: at, is_escaped, is_odd })
    }

    /// A name of a member, which no sender escapes, and its colon.
    #[inline(always)]
    pub fn key(&mut self) -> Take<Text> {
        self.expect(b'"')?;
        self.rest_of_key()
    }

    /// As `key`, behind the quotation mark that opens it, where it is known to be so long.
    #[inline(always)]
    pub fn known_key(&mut self, length: usize) -> Take<Text> {
        let key = Text { start: self.at, end: self.at + length, ..Text::default() };
        self.at = key.end + 1;
        self.expect(b':')?;
        Ok(key)
    }

    /// As `key`, behind the quotation mark that opens it.
    #[inline(always)]
    pub fn rest_of_key(&mut self) -> Take<Text> {
        let key = self.rest_of_string()?;
        if key.is_escaped {
            return Err(Odd);
        }
        self.expect(b':')?;
        Ok(key)
    }

    /// Nothing but blanks is left.
    pub fn expect_end(&mut self) -> Take<()> {
        self.skip_blanks();
        if self.at == self.text.len() { Ok(()) } else { Err(Odd) }
    }

    /// The bytes between the quotation marks.
    #[inline(always)]
    pub fn raw(&self, text: Text) -> &'a [u8] {
        &self.text[text.start..text.end]
    }

    pub fn boolean(&mut self) -> Take<bool> {
        self.skip_blanks();
        if self.take_bytes(b"true") {
            return Ok(true);
        }
        if self.take_bytes(b"false") { Ok(false) } else { Err(Odd) }
    }

    /// The bytes that a number can be made of.
    #[inline(always)]
    pub fn number(&mut self) -> Take<&'a [u8]> {
        self.skip_blanks();
        let start = self.at;
        while matches!(self.peek(), b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E') {
            self.at += 1;
        }
        let number = &self.text[start..self.at];
        if number.is_empty() || number.len() > MOST_NUMBER_BYTES { Err(Odd) } else { Ok(number) }
    }

    /// A 64-bit integer: text, as OTLP has it, or a number. Its digits, not yet looked at.
    #[inline(always)]
    pub fn integer(&mut self) -> Take<&'a [u8]> {
        self.skip_blanks();
        if self.peek() != b'"' {
            return self.number();
        }
        let text = self.string()?;
        Ok(self.raw(text))
    }

    /// Pass any value; only that it is one counts.
    pub fn ignore(&mut self) -> Take<()> {
        self.ignore_at(0)
    }

    fn ignore_at(&mut self, level: u32) -> Take<()> {
        if level > MOST_IGNORED_LEVELS {
            return Err(Odd);
        }
        self.skip_blanks();
        match self.peek() {
            b'"' => self.ignore_string(),
            b'{' => {
                self.at += 1;
                if self.take(b'}') {
                    return Ok(());
                }
                loop {
                    self.skip_blanks();
                    self.ignore_string()?;
                    self.expect(b':')?;
                    self.ignore_at(level + 1)?;
                    if !self.has_more(b'}')? {
                        return Ok(());
                    }
                }
            }
            b'[' => {
                self.at += 1;
                if self.take(b']') {
                    return Ok(());
                }
                loop {
                    self.ignore_at(level + 1)?;
                    if !self.has_more(b']')? {
                        return Ok(());
                    }
                }
            }
            b't' | b'f' => self.boolean().map(drop),
            b'n' => {
                if self.take_null() {
                    Ok(())
                } else {
                    Err(Odd)
                }
            }
            _ => double(self.number()?).map(drop),
        }
    }

    fn ignore_string(&mut self) -> Take<()> {
        let text = self.string()?;
        if text.is_odd {
            unescape(self.raw(text), &mut Vec::new())?;
        }
        Ok(())
    }
}

const ONES: u64 = u64::MAX / 255;
const HIGHS: u64 = ONES << 7;

/// The first quotation mark, backslash or control character at or behind `at`; the end if none.
#[inline(always)]
pub fn find_special(text: &[u8], mut at: usize) -> usize {
    // Most texts end within the first words; long ones go on in larger steps.
    for _ in 0..4 {
        let Some(word) = text.get(at..).and_then(|rest| rest.first_chunk::<8>()) else {
            return find_slowly(text, at);
        };
        let found = specials(u64::from_le_bytes(*word));
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    find_far(text, at)
}

/// The highest bit of each special byte, and perhaps of bytes behind the first of these.
#[inline(always)]
fn specials(word: u64) -> u64 {
    let quote = word ^ (ONES * u64::from(b'"'));
    let backslash = word ^ (ONES * u64::from(b'\\'));
    let zero_in = |it: u64| it.wrapping_sub(ONES) & !it;
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    (zero_in(quote) | zero_in(backslash) | control) & HIGHS
}

fn find_far(text: &[u8], mut at: usize) -> usize {
    while let Some(chunk) = text[at..].first_chunk::<64>() {
        // Without a branch, so that the compiler can look at sixteen or more bytes at once.
        let found = chunk.iter().fold(0, |found, &byte| {
            let is_end = u8::from(byte == b'"') | u8::from(byte == b'\\');
            found | is_end | u8::from(byte < 0x20)
        });
        if found != 0 {
            break;
        }
        at += 64;
    }
    while let Some(word) = text[at..].first_chunk::<8>() {
        let found = specials(u64::from_le_bytes(*word));
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    find_slowly(text, at)
}

fn find_slowly(text: &[u8], at: usize) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    let found = rest.iter().position(|&byte| matches!(byte, b'"' | b'\\' | 0..0x20));
    at + found.unwrap_or(rest.len())
}
