//! Enums that came as names, where OTLP/JSON wants their integers.

/// The number of an enum's name, in a field of that name.
pub fn number_of(field: &str, name: &[u8]) -> Option<i64> {
    let (prefix, names): (&[u8], &[&[u8]]) = match field {
        "kind" => (
            b"SPAN_KIND_",
            &[b"UNSPECIFIED", b"INTERNAL", b"SERVER", b"CLIENT", b"PRODUCER", b"CONSUMER"],
        ),
        "code" => (b"STATUS_CODE_", &[b"UNSET", b"OK", b"ERROR"]),
        "aggregationTemporality" => {
            (b"AGGREGATION_TEMPORALITY_", &[b"UNSPECIFIED", b"DELTA", b"CUMULATIVE"])
        }
        "severityNumber" => return severity(name.strip_prefix(b"SEVERITY_NUMBER_")?),
        _ => return None,
    };
    let name = name.strip_prefix(prefix)?;
    (0..).zip(names).find(|(_, known)| **known == name).map(|(number, _)| number)
}

/// `UNSPECIFIED`, or four steps each of six severities: `WARN`, `WARN2`, `WARN3`, `WARN4`.
fn severity(name: &[u8]) -> Option<i64> {
    if name == b"UNSPECIFIED" {
        return Some(0);
    }
    let (name, finer) = match name.split_last()? {
        (step @ b'2'..=b'4', name) => (name, i64::from(step - b'1')),
        _ => (name, 0),
    };
    let names: [&[u8]; 6] = [b"TRACE", b"DEBUG", b"INFO", b"WARN", b"ERROR", b"FATAL"];
    let step = (0..).zip(names).find(|(_, known)| *known == name)?.0;
    Some(1 + 4 * step + finer)
}
