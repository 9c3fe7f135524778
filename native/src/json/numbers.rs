//! Numbers of JSON: what they mean, and how they are written.

use crate::outcome::{Odd, Take};

const ONES: u64 = u64::MAX / 255;

/// Eight digits as the number that they are.
#[inline]
fn eight_digits(digits: [u8; 8]) -> Option<u64> {
    let word = u64::from_le_bytes(digits);
    let is_digits = (word & (ONES * 0xf0)) | ((word.wrapping_add(ONES * 6) & (ONES * 0xf0)) >> 4);
    if is_digits != ONES * 0x33 {
        return None;
    }
    // Pairs, then fours, then all eight: each step joins neighbours.
    let pairs = (word & (ONES * 0x0f)).wrapping_mul(1 + (10 << 8)) >> 8;
    let fours = (pairs & 0x00ff_00ff_00ff_00ff).wrapping_mul(1 + (100 << 16)) >> 16;
    Some((fours & 0x0000_ffff_0000_ffff).wrapping_mul(1 + (10_000 << 32)) >> 32)
}

/// An unsigned integer in canonical form, within 64 bits.
#[inline]
pub fn unsigned(digits: &[u8]) -> Take<u64> {
    if digits.is_empty() || digits.len() > 20 || (digits[0] == b'0' && digits.len() > 1) {
        return Err(Odd);
    }
    let mut rest = digits;
    let mut number = 0_u64;
    while let Some((eight, behind)) = rest.split_first_chunk::<8>() {
        number = number * 100_000_000 + eight_digits(*eight).ok_or(Odd)?; // at most 16 digits
        rest = behind;
    }
    for &digit in rest {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return Err(Odd);
        }
        number = number.checked_mul(10).and_then(|it| it.checked_add(digit.into())).ok_or(Odd)?;
    }
    Ok(number)
}

/// A signed integer in canonical form, within 64 bits. Minus zero is none.
#[inline]
pub fn signed(digits: &[u8]) -> Take<i64> {
    let Some(magnitude) = digits.strip_prefix(b"-") else {
        return i64::try_from(unsigned(digits)?).or(Err(Odd));
    };
    match unsigned(magnitude)? {
        0 => Err(Odd),
        number => 0_i64.checked_sub_unsigned(number).ok_or(Odd),
    }
}

/// A number of JSON: what it means, and whether it is written as an integer.
pub fn double(number: &[u8]) -> Take<(f64, bool)> {
    let shape = Shape::of(number)?;
    let text = std::str::from_utf8(number).or(Err(Odd))?;
    let value: f64 = text.parse().or(Err(Odd))?;
    // The two readers in Python disagree on an integer that is minus zero.
    let is_whole = shape.fraction == 0 && shape.exponent == 0;
    if !value.is_finite() || (is_whole && value == 0.0 && value.is_sign_negative()) {
        return Err(Odd);
    }
    Ok((value, is_whole))
}

/// How many digits the parts of a number have.
struct Shape {
    whole: usize,
    fraction: usize,
    exponent: usize,
}

impl Shape {
    fn of(number: &[u8]) -> Take<Shape> {
        fn digits(rest: &mut &[u8]) -> usize {
            let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            *rest = &rest[count..];
            count
        }
        let mut rest = number.strip_prefix(b"-").unwrap_or(number);
        let is_zero = rest.first() == Some(&b'0');
        let whole = digits(&mut rest);
        if whole == 0 || (is_zero && whole > 1) {
            return Err(Odd);
        }
        let (mut fraction, mut exponent) = (0, 0);
        if let Some(behind) = rest.strip_prefix(b".") {
            rest = behind;
            fraction = digits(&mut rest);
            if fraction == 0 {
                return Err(Odd);
            }
        }
        if let [b'e' | b'E', behind @ ..] = rest {
            rest = match behind {
                [b'+' | b'-', behind @ ..] => behind,
                _ => behind,
            };
            exponent = digits(&mut rest);
            if !matches!(exponent, 1..=4) {
                return Err(Odd);
            }
        }
        if rest.is_empty() { Ok(Shape { whole, fraction, exponent }) } else { Err(Odd) }
    }
}

/// Write a number of JSON as the shortest text of the double that it means.
pub fn write_double(number: &[u8], out: &mut Vec<u8>) -> Take<()> {
    let shape = Shape::of(number)?;
    if is_shortest(number, &shape) {
        out.extend_from_slice(number);
        if shape.fraction == 0 {
            out.extend_from_slice(b".0");
        }
        return Ok(());
    }
    write_finite(double(number)?.0, out);
    Ok(())
}

/// Write the shortest text of a double that is a number.
pub fn write_finite(value: f64, out: &mut Vec<u8>) {
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format_finite(value).as_bytes();
    // The encoder in Python writes an exponent without its plus.
    match memchr::memchr(b'+', text) {
        Some(plus) => {
            out.extend_from_slice(&text[..plus]);
            out.extend_from_slice(&text[plus + 1..]);
        }
        None => out.extend_from_slice(text),
    }
}

/// Whether a number, with `.0` behind it if it is an integer, is the shortest text of its double.
///
/// No two numbers of at most fifteen digits mean the same double. False says nothing.
fn is_shortest(number: &[u8], shape: &Shape) -> bool {
    if shape.exponent != 0 || shape.whole + shape.fraction > 15 {
        return false;
    }
    let digits = number.strip_prefix(b"-").unwrap_or(number);
    let is_below_one = digits[0] == b'0';
    if shape.fraction == 0 {
        return !is_below_one || digits.len() == number.len();
    }
    let fraction = &digits[shape.whole + 1..];
    if fraction == b"0" {
        return true;
    }
    // Behind more zeros than that it is written with an exponent.
    let has_exponent = is_below_one && fraction.starts_with(b"0000");
    !fraction.ends_with(b"0") && !has_exponent
}

/// The double that a name stands for, where JSON has no number.
pub fn special_double(name: &[u8]) -> Option<f64> {
    Some(match name {
        b"NaN" => f64::NAN,
        b"Infinity" => f64::INFINITY,
        b"-Infinity" => f64::NEG_INFINITY,
        _ => return None,
    })
}
