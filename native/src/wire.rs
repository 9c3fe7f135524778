//! Protobuf's wire format: writing and reading of single fields.

use crate::outcome::{Odd, Take};

/// Put a varint.
#[inline]
pub fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number > 127 {
        out.push(low_byte(number) | 128);
        number >>= 7;
    }
    out.push(low_byte(number));
}

#[inline]
fn low_byte(number: u64) -> u8 {
    number.to_le_bytes()[0]
}

/// How many bytes a length takes as a varint.
#[inline]
#[must_use]
pub fn length_bytes(length: usize) -> usize {
    (((length | 1).ilog2() + 7) / 7) as usize
}

/// A field that says its length, of which that is not known yet.
#[must_use]
pub struct Opened {
    start: usize,
    kept: usize,
}

/// What takes one byte to say its length.
pub const SHORT: usize = 127;

/// Begin a field that says its length: the tag, and room for the length of about so many bytes.
/// Give what comes back to `close` once the content stands behind it.
#[inline]
pub fn open(out: &mut Vec<u8>, tag: &[u8], likely_bytes: usize) -> Opened {
    out.extend_from_slice(tag);
    let kept = length_bytes(likely_bytes);
    out.extend_from_slice(&[0; 10][..kept]);
    Opened { start: out.len(), kept }
}

/// End a field that `open` began: its length, for which the content is moved if room was wrong.
#[inline]
pub fn close(out: &mut Vec<u8>, opened: &Opened) {
    let Opened { start, kept } = *opened;
    let length = out.len() - start;
    let needed = length_bytes(length);
    let end = out.len();
    if needed > kept {
        out.resize(end + needed - kept, 0);
        out.copy_within(start..end, start + needed - kept);
    } else if needed < kept {
        out.copy_within(start..end, start - (kept - needed));
        out.truncate(end - (kept - needed));
    }
    let at = start - kept;
    let mut left = length as u64;
    for byte in &mut out[at..at + needed] {
        *byte = low_byte(left) | 128;
        left >>= 7;
    }
    out[at + needed - 1] &= 127;
}

/// Put a whole field that says its length.
#[inline]
pub fn put_delimited(out: &mut Vec<u8>, tag: &[u8], content: &[u8]) {
    out.extend_from_slice(tag);
    put_varint(out, content.len() as u64);
    out.extend_from_slice(content);
}

/// Reads one message, field by field.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Of these bytes.
    #[inline]
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Where it stands.
    #[inline]
    #[must_use]
    pub fn at(&self) -> usize {
        self.at
    }

    /// Whether there is more.
    #[inline]
    #[must_use]
    pub fn is_more(&self) -> bool {
        self.at < self.bytes.len()
    }

    /// A varint in its shortest form: another would be written anew.
    ///
    /// # Errors
    /// `Odd` for any other.
    #[inline(always)]
    pub fn varint(&mut self) -> Take<u64> {
        let first = *self.bytes.get(self.at).ok_or(Odd)?;
        self.at += 1;
        if first < 128 {
            return Ok(u64::from(first));
        }
        self.long_varint(u64::from(first & 127))
    }

    #[inline(never)]
    fn long_varint(&mut self, mut number: u64) -> Take<u64> {
        let mut shift = 7;
        loop {
            let byte = *self.bytes.get(self.at).ok_or(Odd)?;
            self.at += 1;
            number |= u64::from(byte & 127) << shift;
            if byte < 128 {
                let runs_over = shift == 63 && byte > 1;
                return if byte == 0 || runs_over { Err(Odd) } else { Ok(number) };
            }
            shift += 7;
            if shift > 63 {
                return Err(Odd);
            }
        }
    }

    /// What a field holds that says its length.
    ///
    /// # Errors
    /// `Odd` where there is less.
    #[inline(always)]
    pub fn delimited(&mut self) -> Take<&'a [u8]> {
        let length = usize::try_from(self.varint()?).map_err(|_| Odd)?;
        let end = self.at.checked_add(length).ok_or(Odd)?;
        let content = self.bytes.get(self.at..end).ok_or(Odd)?;
        self.at = end;
        Ok(content)
    }

    /// So many bytes.
    ///
    /// # Errors
    /// `Odd` where there are fewer.
    #[inline(always)]
    pub fn fixed<const BYTES: usize>(&mut self) -> Take<[u8; BYTES]> {
        let found = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk).ok_or(Odd)?;
        self.at += BYTES;
        Ok(*found)
    }
}

/// Whether it is UTF-8.
///
/// # Errors
/// `Odd` if not.
#[inline(always)]
pub fn check_text(text: &[u8]) -> Take<()> {
    let is_text = if text.len() < 32 {
        text.is_ascii() || std::str::from_utf8(text).is_ok()
    } else {
        simdutf8::basic::from_utf8(text).is_ok()
    };
    if is_text { Ok(()) } else { Err(Odd) }
}
