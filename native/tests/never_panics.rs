//! Whatever comes, the readers give a result or leave it to the Python path: they never panic.
//!
//! How much they are fed is set by `NATIVE_FUZZ_BYTES`.

use std::env;
use std::fs;
use std::path::Path;

use otlp_relay_native::messages::{Field, Holds, Kind, Message, Signal};
use otlp_relay_native::outcome::{Addition, Given, MalformedIds, Steps};
use otlp_relay_native::wire::{close, open, put_delimited, put_varint};
use otlp_relay_native::{cut, into_json, json, protobuf};

const SIGNALS: [Signal; 3] = [Signal::Traces, Signal::Logs, Signal::Metrics];
const NOW_NS: u64 = 1_764_470_000_000_000_000;

/// Xorshift: the same bytes every time.
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

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.byte()).collect()
    }
}

fn bytes_to_feed() -> usize {
    env::var("NATIVE_FUZZ_BYTES").map_or(3_000_000, |text| text.parse().unwrap())
}

/// A message with something in nearly every field.
fn fill(message: &'static Message, depth: u32, random: &mut Random, out: &mut Vec<u8>) {
    let mut fields: Vec<&Field> = message.fields.iter().collect();
    fields.sort_by_key(|field| field.number);
    let chosen = random.below(fields.len());
    let has_one = fields.iter().any(|field| field.holds == Holds::OneOf);
    for (index, field) in fields.iter().enumerate() {
        let is_out = has_one && field.holds == Holds::OneOf && index != chosen;
        if is_out || random.below(8) == 0 {
            continue;
        }
        let tag = |wire_type| {
            let mut tag = Vec::new();
            put_varint(&mut tag, u64::from(field.number) << 3 | wire_type);
            tag
        };
        match field.kind {
            Kind::Message(_) if depth > 9 => {}
            Kind::Message(inside) => {
                for _ in 0..if field.holds == Holds::Many { 1 + random.below(2) } else { 1 } {
                    let begun = open(out, &tag(2), 0);
                    fill(inside, depth + 1, random, out);
                    close(out, &begun);
                }
            }
            Kind::Id => {
                let size = if field.name == "traceId" { 16 } else { 8 };
                put_delimited(out, &tag(2), &random.bytes(size));
            }
            Kind::Text => put_delimited(out, &tag(2), &b"service.name"[..random.below(13)]),

            Kind::Bytes => put_delimited(out, &tag(2), &random.bytes(5)),
            Kind::UInt64 if field.holds == Holds::Many => put_delimited(out, &tag(2), &[1, 2, 3]),
            Kind::Fixed64 | Kind::Double if field.holds == Holds::Many => {
                put_delimited(out, &tag(2), &random.bytes(24));
            }
            Kind::Fixed64 | Kind::SFixed64 | Kind::Double => {
                out.extend_from_slice(&tag(1));
                out.extend_from_slice(&(NOW_NS + random.next() % 1000).to_le_bytes());
            }
            Kind::Fixed32 => {
                out.extend_from_slice(&tag(5));
                out.extend_from_slice(&random.bytes(4));
            }
            _ => {
                out.extend_from_slice(&tag(0));
                out.push(random.byte() & 1);
            }
        }
    }
}

/// Bytes changed, put in, taken out, or the end cut off.
fn damage(data: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..random.below(4) {
        let at = random.below(data.len() + 1);
        match random.below(4) {
            0 if at < data.len() => data[at] = random.byte(),
            1 => {
                let more = random.bytes(1);
                data.splice(at..at, more);
            }
            2 => {
                let end = (at + 1 + random.below(8)).min(data.len());
                data.drain(at..end);
            }
            _ => data.truncate(at.max(1)),
        }
    }
}

fn given<'a>(
    body: &'a [u8],
    signal: Signal,
    additions: &'a [Addition],
    number: usize,
) -> Given<'a> {
    let modes = [MalformedIds::Reject, MalformedIds::Derive, MalformedIds::Auto];
    let malformed_ids = modes[number % 3];
    Given { body, signal, additions, malformed_ids, now_ns: NOW_NS, steps: Steps::ALL }
}

#[test]
fn protobuf_of_any_kind_never_panics() {
    let mut random = Random(0x0a11_ce5e_ed5e_ed01);
    let encoded = b"\x0a\x07\x0a\x01k\x12\x02\x10\x01".to_vec();
    let additions = [Addition { key: b"k".to_vec(), former: b"f".to_vec(), encoded }];
    let (mut fed, mut taken, mut number, mut in_json) = (0, 0, 0, 0);
    while fed < bytes_to_feed() {
        let signal = SIGNALS[number % 3];
        let mut body = Vec::new();
        if number % 16 == 15 {
            let length = random.below(200);
            body = random.bytes(length);
        } else {
            fill(signal.request(), 0, &mut random, &mut body);
            damage(&mut body, &mut random);
        }
        if let Ok(mut outcome) = protobuf::prepare(&given(&body, signal, &additions, number)) {
            cut::parts(&mut outcome, false, signal, 200 + random.below(2000)).unwrap();
            taken += 1;
        }
        in_json += usize::from(into_json::to_json(&body, signal).is_ok());
        fed += body.len();
        number += 1;
    }
    assert!(taken.min(in_json) > number / 100, "{taken}, {in_json} of {number} were taken");
}

#[test]
fn json_of_any_kind_never_panics() {
    let mut random = Random(0x0a11_ce5e_ed5e_ed02);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures");
    let Ok(files) = fs::read_dir(folder) else {
        return; // the sources of this crate alone
    };
    let mut seeds: Vec<Vec<u8>> = files
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .map(|path| fs::read(path).unwrap())
        .filter(|seed| seed.len() < 20_000)
        .collect();
    seeds.sort();
    let (mut fed, mut number) = (0, 0);
    while fed < bytes_to_feed() {
        let mut body = seeds[random.below(seeds.len())].clone();
        damage(&mut body, &mut random);
        for signal in SIGNALS {
            if let Ok(mut outcome) = json::prepare(&given(&body, signal, &[], number)) {
                cut::parts(&mut outcome, true, signal, 200 + random.below(2000)).unwrap();
            }
            let _ = json::to_protobuf(&body, signal);
        }
        fed += body.len();
        number += 1;
    }
}
