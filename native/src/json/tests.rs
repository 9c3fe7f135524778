//! What Python cannot see of the pass: its parts, and that nothing makes it panic.
//!
//! How many bodies it is fed is set by `NATIVE_FUZZ`. Whether what it takes is right is held by
//! the tests in Python, which compare it with the Python path.

use crate::json::numbers::{signed, unsigned, write_double};
use crate::json::scan::Scanner;
use crate::json::text::{normalise_escapes, unbase64, unescape, unhex, write_hex};
use crate::json::{prepare, to_protobuf};
use crate::messages::{Holds, Kind, Message, Signal};
use crate::outcome::{Addition, Given, MalformedIds, Steps};

const SIGNALS: [Signal; 3] = [Signal::Traces, Signal::Logs, Signal::Metrics];
const NOW_NS: u64 = 1_764_470_000_000_000_000;
/// What is put anywhere into a body.
const PARTS: [&str; 24] = [
    "null",
    "{}",
    "[]",
    "\"\"",
    "0",
    "-0",
    "1e999",
    "\\ud800",
    "\\u0041",
    "\\",
    "\"",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\0",
    "\n",
    "\\/",
    "{\"values\":[",
    "{\"stringValue\":\"x\"}",
    "true",
    "\u{e9}",
];

/// Xorshift: the same every time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % (end as u64)).unwrap()
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }
}

fn count(usual: usize) -> usize {
    std::env::var("NATIVE_FUZZ").map_or(usual, |text| text.parse().unwrap())
}

/// The text of a message with something in nearly every field.
fn write(message: &'static Message, depth: usize, random: &mut Random, out: &mut String) {
    let fields = message.fields;
    let chosen = random.below(fields.len());
    out.push('{');
    for (index, field) in fields.iter().enumerate() {
        let is_second = field.holds == Holds::OneOf && index != chosen;
        let is_out = is_second && random.below(200) > 0;
        if is_out || random.below(10) == 0 || field.name.ends_with("Strindex") {
            continue;
        }
        out.extend(["\"", field.name, "\":"]);
        if field.holds == Holds::Many {
            out.push('[');
            for _ in 0..random.below(3) {
                write_value(field.kind, field.name, depth, random, out);
                out.push(',');
            }
            if out.ends_with(',') {
                out.pop();
            }
            out.push(']');
        } else {
            write_value(field.kind, field.name, depth, random, out);
        }
        out.push(',');
    }
    if out.ends_with(',') {
        out.pop();
    }
    out.push('}');
}

fn write_value(kind: Kind, name: &str, depth: usize, random: &mut Random, out: &mut String) {
    let texts: &[&str] = match kind {
        Kind::Message(inner) if depth < 12 => return write(inner, depth + 1, random, out),
        Kind::Message(_) => &["{}"],
        Kind::Text if name == "key" => &["\"a\"", "\"b\"", "\"service.name\"", "\"host.name\""],
        Kind::Text => &["\"\"", "\"a\"", "\"openrouter\"", "\"\\\"\\/\\u00e9\\n\""],
        Kind::Bytes => &["\"\"", "\"AAEC/w==\""],
        Kind::Id if random.below(50) == 0 => {
            &["\"x\"", "\"\"", "\"00000000000000000000000000000000\""]
        }
        Kind::Id if name == "traceId" => &["\"0AF7651916cd43dd8448eb211c80319c\""],
        Kind::Id => &["\"b7ad6b7169203331\""],
        Kind::Bool => &["true", "false"],
        Kind::Double => &["1.5", "\"NaN\"", "-0.0", "1e-7", "12345678901234567890"],
        Kind::Fixed64 if name.contains("Nano") => {
            &["\"1764460000000000000\"", "1764460000000000001"]
        }
        _ => &["0", "1", "\"2\"", "3", "255"],
    };
    out.push_str(random.pick(texts));
}

/// Parts put in, taken out, or doubled, or the end cut off.
fn damage(text: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..random.below(4) {
        let at = random.below(text.len() + 1);
        let end = (at + random.below(12)).min(text.len());
        match random.below(5) {
            0 => drop(text.splice(at..at, random.pick(&PARTS).bytes())),
            1 => drop(text.splice(at..end, random.pick(&PARTS).bytes())),
            2 => drop(text.splice(at..end, [random.next().to_le_bytes()[0]])),
            3 => text.extend_from_within(at..end),
            _ => text.truncate(at),
        }
    }
}

#[test]
fn nothing_makes_it_panic() {
    let mut random = Random(0x0a11_ce5e_ed5e_ed03);
    let encoded = b"{\"key\":\"k\",\"value\":{\"boolValue\":true}}".to_vec();
    let additions = [Addition { key: b"k".to_vec(), former: b"f".to_vec(), encoded }];
    let modes = [MalformedIds::Reject, MalformedIds::Derive, MalformedIds::Auto];
    let bodies = count(20_000);
    let (mut taken, mut rejected, mut transcoded) = (0, 0, 0);
    for number in 0..bodies {
        let signal = SIGNALS[number % 3];
        let mut text = String::new();
        write(signal.request(), 0, &mut random, &mut text);
        let mut body = text.into_bytes();
        damage(&mut body, &mut random);
        let given = Given {
            body: &body,
            signal,
            additions: &additions[..number % 2],
            malformed_ids: modes[number % 5 % 3],
            now_ns: NOW_NS,
            steps: Steps::ALL,
        };
        if let Ok(outcome) = prepare(&given) {
            taken += 1;
            rejected += outcome.rejected.len();
            transcoded += usize::from(to_protobuf(&outcome.body, signal).is_ok());
            body = outcome.body;
            damage(&mut body, &mut random);
        }
        let _ = to_protobuf(&body, signal);
    }
    // What takes nothing cannot panic.
    assert!(
        taken > bodies / 50 && transcoded > taken * 9 / 10,
        "{taken}, {transcoded} of {bodies}"
    );
    assert!(rejected > 0);
}

#[test]
fn noise_does_not_make_it_panic() {
    let mut random = Random(0x0a11_ce5e_ed5e_ed04);
    for number in 0..count(20_000) {
        let mut body: Vec<u8> = b"{\"resourceSpans\":[".to_vec();
        for _ in 0..random.below(40) {
            body.extend_from_slice(random.pick(&PARTS).as_bytes());
        }
        let _ = to_protobuf(&body[..random.below(body.len())], SIGNALS[number % 3]);
        let _ = Scanner::new(&body, Steps::ALL).ignore();
        let _ = Scanner::new(&body[17..], Steps::ALL).ignore();
    }
}

#[test]
fn the_end_of_a_text_is_found_wherever_it_is() {
    let mut random = Random(0x0a11_ce5e_ed5e_ed05);
    for _ in 0..count(20_000) {
        let length = random.below(300);
        let mut text: Vec<u8> =
            (0..length).map(|_| 0x20 + random.next().to_le_bytes()[0] % 0xe0).collect();
        text.retain(|byte| !matches!(byte, b'"' | b'\\'));
        let end = text.len();
        text.push(b'"');
        text.extend_from_slice(b"\"\\\0 behind it");
        let found = Scanner::new(&text, Steps::ALL).rest_of_string().unwrap();
        assert_eq!((found.start, found.end, found.is_escaped), (0, end, false));
        text[random.below(end + 1)] = 0x1f;
        assert!(Scanner::new(&text, Steps::ALL).rest_of_string().is_err());
    }
}

#[test]
fn doubles_are_written_as_the_shortest_text_of_the_same_double() {
    let mut random = Random(0x0a11_ce5e_ed5e_ed06);
    let check = |text: &str| {
        let mut out = Vec::new();
        write_double(text.as_bytes(), &mut out).unwrap();
        let out = String::from_utf8(out).unwrap();
        let value: f64 = text.parse().unwrap();
        assert_eq!(out.parse::<f64>().unwrap().to_bits(), value.to_bits(), "{text} {out}");
        let digits = |text: &str| text.bytes().filter(u8::is_ascii_digit).count();
        let shortest = format!("{value:e}");
        assert!(digits(&out) <= digits(&shortest) + 17, "{text} {out}");
        let mut again = Vec::new();
        write_double(out.as_bytes(), &mut again).unwrap();
        assert_eq!(out.as_bytes(), again);
    };
    for _ in 0..count(20_000) {
        let value = f64::from_bits(random.next());
        if value.is_finite() {
            check(&format!("{value:e}"));
            let small = f64::from_bits(0x3ff0_0000_0000_0000 | random.next() >> 12);
            check(&format!("{small:.*}", 1 + random.below(18)));
            check(&format!("{:.*}", random.below(4), small * 1e12));
        }
    }
}

#[test]
fn integers_are_those_of_the_standard_library_in_canonical_form_alone() {
    let mut random = Random(0x0a11_ce5e_ed5e_ed07);
    for _ in 0..count(20_000) {
        let number = random.next() >> random.below(64);
        assert_eq!(unsigned(number.to_string().as_bytes()), Ok(number));
        let number = number.cast_signed();
        assert_eq!(signed(number.to_string().as_bytes()), Ok(number));
    }
    for wrong in [
        "",
        "-",
        "-0",
        "00",
        "01",
        "+1",
        "1.",
        "18446744073709551616",
        "99999999999999999999",
        "1a",
        "12345678/",
    ] {
        assert!(
            unsigned(wrong.as_bytes()).is_err() && signed(wrong.as_bytes()).is_err(),
            "{wrong}"
        );
    }
    assert_eq!(signed(b"-9223372036854775808"), Ok(i64::MIN));
    assert!(signed(b"-9223372036854775809").is_err() && signed(b"9223372036854775808").is_err());
}

#[test]
fn escapes_mean_what_they_say_and_are_written_one_way() {
    let raw = br#"\"\\\/\b\f\n\r\t\u00e9\u0041\uD83D\ude00\u0000\u001f\u007f\u0022\u005c"#;
    let mut meant = Vec::new();
    unescape(raw, &mut meant).unwrap();
    assert_eq!(meant, "\"\\/\u{8}\u{c}\n\r\t\u{e9}A\u{1f600}\0\u{1f}\u{7f}\"\\".as_bytes());
    let mut normal = Vec::new();
    normalise_escapes(raw, &mut normal).unwrap();
    let expected = "\\\"\\\\/\\b\\f\\n\\r\\t\u{e9}A\u{1f600}\\u0000\\u001f\u{7f}\\\"\\\\";
    assert_eq!(normal, expected.as_bytes());
    for wrong in ["\\ud800", "\\ud800\\u0041", "\\udc00", "\\u00e", "\\u00eg", "\\", "\\x"] {
        assert!(unescape(wrong.as_bytes(), &mut Vec::new()).is_err(), "{wrong}");
    }
}

#[test]
fn ids_and_bytes_are_read_in_the_forms_that_are_taken() {
    assert_eq!(unhex::<4>(b"00fFA9c1"), Some([0, 255, 0xa9, 0xc1]));
    for wrong in ["00fFA9c", "00fFA9c1a", "00fFA9cg", " 0fFA9c1", ""] {
        assert_eq!(unhex::<4>(wrong.as_bytes()), None, "{wrong}");
    }
    let mut text = Vec::new();
    write_hex(&[0, 255, 0xa9], &mut text);
    assert_eq!(text, b"00ffa9");
    let mut bytes = Vec::new();
    unbase64(b"AAEC/+8=", &mut bytes).unwrap();
    assert_eq!(bytes, [0, 1, 2, 255, 239]);
    for wrong in
        ["A", "AA", "AAA", "AAEC/+9=", "AB==", "A===", "====", "AA==AAAA", "AA-_", "AA=A", " AAA"]
    {
        assert!(unbase64(wrong.as_bytes(), &mut Vec::new()).is_err(), "{wrong}");
    }
}
