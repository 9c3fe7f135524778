//! Texts of JSON: escapes, hexadecimal ids, base64.

use crate::json::scan::find_special;
use crate::outcome::{Odd, Take};

/// Append what an escaped text means. Half a pair of surrogates is none.
pub fn unescape(raw: &[u8], out: &mut Vec<u8>) -> Take<()> {
    copy_with_escapes(raw, out, |letter, rest, out| {
        match letter {
            b'"' | b'\\' | b'/' => out.push(letter),
            b'u' => {
                let character = escaped_character(rest)?;
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            _ => out.push(control_of(letter).ok_or(Odd)?),
        }
        Ok(())
    })
}

/// Append an escaped text with those escapes only that normal form has.
pub fn normalise_escapes(raw: &[u8], out: &mut Vec<u8>) -> Take<()> {
    copy_with_escapes(raw, out, |letter, rest, out| {
        match letter {
            b'/' => out.push(b'/'),
            b'u' => write_character(escaped_character(rest)?, out),
            _ => out.extend_from_slice(&[b'\\', letter]),
        }
        Ok(())
    })
}

/// Append `raw` as it stands but for its escapes: `write` gets the letter of each, and what follows.
fn copy_with_escapes<'a>(
    raw: &'a [u8],
    out: &mut Vec<u8>,
    write: impl Fn(u8, &mut &'a [u8], &mut Vec<u8>) -> Take<()>,
) -> Take<()> {
    let mut rest = raw;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        let letter = *rest.get(at + 1).ok_or(Odd)?;
        rest = &rest[at + 2..];
        write(letter, &mut rest, out)?;
    }
    out.extend_from_slice(rest);
    Ok(())
}

fn control_of(letter: u8) -> Option<u8> {
    Some(match letter {
        b'b' => 8,
        b't' => b'\t',
        b'n' => b'\n',
        b'f' => 12,
        b'r' => b'\r',
        _ => return None,
    })
}

fn write_character(character: char, out: &mut Vec<u8>) {
    let short = match character {
        '"' => b'"',
        '\\' => b'\\',
        '\u{8}' => b'b',
        '\t' => b't',
        '\n' => b'n',
        '\u{c}' => b'f',
        '\r' => b'r',
        '\0'..'\u{20}' => {
            out.extend_from_slice(b"\\u00");
            return write_hex(character.encode_utf8(&mut [0; 4]).as_bytes(), out);
        }
        _ => return out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
    };
    out.extend_from_slice(&[b'\\', short]);
}

/// Append a text, which is UTF-8, in quotation marks, with the escapes of normal form.
pub fn write_text(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let mut at = 0;
    loop {
        let special = find_special(text, at);
        out.extend_from_slice(&text[at..special]);
        let Some(&byte) = text.get(special) else { break };
        write_character(char::from(byte), out);
        at = special + 1;
    }
    out.push(b'"');
}

/// Append bytes as standard base64 with padding.
pub fn write_base64(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for group in bytes.chunks(3) {
        let mut three = [0; 4];
        three[1..=group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes(three);
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place) & 63) as usize];
            out.push(if place <= group.len() { digit } else { b'=' });
        }
    }
}

/// The character behind `\u`, which is passed; of a pair of surrogates the one that both mean.
fn escaped_character(rest: &mut &[u8]) -> Take<char> {
    let unit = four_hex_digits(rest)?;
    if !(0xd800..0xdc00).contains(&unit) {
        return char::from_u32(unit).ok_or(Odd);
    }
    *rest = rest.strip_prefix(b"\\u").ok_or(Odd)?;
    let low = four_hex_digits(rest)?;
    if !(0xdc00..0xe000).contains(&low) {
        return Err(Odd);
    }
    char::from_u32(0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00)).ok_or(Odd)
}

fn four_hex_digits(rest: &mut &[u8]) -> Take<u32> {
    let (digits, behind) = rest.split_first_chunk::<4>().ok_or(Odd)?;
    *rest = behind;
    digits.iter().try_fold(0, |number, &digit| {
        char::from(digit).to_digit(16).map(|it| number << 4 | it).ok_or(Odd)
    })
}

/// Append the bytes that standard base64 with padding stands for, in the only form that is normal.
pub fn unbase64(text: &[u8], out: &mut Vec<u8>) -> Take<()> {
    let (groups, []) = text.as_chunks::<4>() else { return Err(Odd) };
    for (index, group) in groups.iter().enumerate() {
        let padding = group.iter().rev().take_while(|&&byte| byte == b'=').count();
        if padding > 2 || (padding > 0 && index + 1 < groups.len()) {
            return Err(Odd);
        }
        let mut bits = 0_u32;
        for &digit in &group[..4 - padding] {
            bits = bits << 6 | u32::from(base64_digit(digit).ok_or(Odd)?);
        }
        bits <<= 6 * padding;
        let bytes = &bits.to_be_bytes()[1..];
        let (content, unused) = bytes.split_at(3 - padding);
        if unused.iter().any(|&byte| byte != 0) {
            return Err(Odd);
        }
        out.extend_from_slice(content);
    }
    Ok(())
}

fn base64_digit(digit: u8) -> Option<u8> {
    Some(match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    })
}

/// What each byte is worth as a hexadecimal digit; 255 where it is none.
static HEX_DIGITS: [u8; 256] = {
    let mut digits = [255; 256];
    let mut at: u8 = 0;
    while at < 16 {
        digits[b"0123456789abcdef"[at as usize] as usize] = at;
        digits[b"0123456789ABCDEF"[at as usize] as usize] = at;
        at += 1;
    }
    digits
};

/// The bytes of an id in hexadecimal digits of either case; none if it is not as long as that.
#[inline]
pub fn unhex<const SIZE: usize>(text: &[u8]) -> Option<[u8; SIZE]> {
    let (pairs, []) = text.as_chunks::<2>() else { return None };
    let pairs: &[[u8; 2]; SIZE] = pairs.try_into().ok()?;
    let mut wrong = 0;
    let id = pairs.map(|[high, low]| {
        let (high, low) = (HEX_DIGITS[high as usize], HEX_DIGITS[low as usize]);
        wrong |= high | low;
        high << 4 | low & 15
    });
    if wrong > 15 { None } else { Some(id) }
}

pub fn write_hex(id: &[u8], out: &mut Vec<u8>) {
    let digit = |it: u8| b"0123456789abcdef"[usize::from(it)];
    out.extend(id.iter().flat_map(|&byte| [digit(byte >> 4), digit(byte & 15)]));
}
