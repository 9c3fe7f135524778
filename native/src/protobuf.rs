//! Protobuf in, protobuf out.
//!
//! Every item is looked through once. A scope in which all is in normal form, as every serialiser
//! of the official classes writes it, is copied as it stands; another is put together anew.

mod items;

use self::items::Keys;
use crate::checks::{Buckets, Flaw, TraceIds, is_sane, most_messages};
use crate::messages::{LOG_RECORD, METRIC, Message, RESOURCE, SCOPE, SPAN, Signal};
use crate::outcome::{Given, Odd, Outcome, Rejected, SPECIAL_DOUBLES, Steps, Take};
use crate::scan::{Edits, Findings, Seen, attribute_of, number_of, rewrite, scan, skip};
use crate::wire::{Reader, check_text, close, open, put_delimited, put_varint};

// Tags of the envelopes, which have the same numbers in every signal: of a request its entries; of
// an entry the resource; of a scope the scope itself; of both what they hold, and the schema's URL.
const ENTRY: u64 = 0x0a;
const AROUND: u64 = 0x0a;
const INSIDE: u64 = 0x12;
const URL: u64 = 0x1a;

/// A request in protobuf as a fragment in protobuf.
///
/// # Errors
/// `Odd` where the Python path decides.
pub fn prepare(given: &Given) -> Take<Outcome> {
    if !is_sane(given.now_ns) {
        return Err(Odd);
    }
    let mut pass = Pass::of(given);
    let mut reader = Reader::new(given.body);
    let mut unknown_from = None;
    let mut entries = 0;
    while reader.is_more() {
        let start = reader.at();
        let tag = reader.varint()?;
        if tag == ENTRY && unknown_from.is_none() {
            pass.steps.spend(Steps::AN_ITEM)?;
            pass.entry(reader.delimited()?, entries)?;
            entries += 1;
        } else if number_of(tag)? != 1 {
            skip(&mut reader, tag)?;
            pass.findings.has_unknown = true;
            unknown_from.get_or_insert(start);
        } else {
            return Err(Odd);
        }
    }
    if let Some(start) = unknown_from {
        pass.out.body.extend_from_slice(&given.body[start..]);
    }
    pass.finish(entries)
}

/// What becomes of a record.
enum Fate {
    /// It is kept, written anew.
    Rewrite(Edits),
    /// It is rejected, for this reason and member.
    Reject(Flaw, Vec<u8>),
    /// A metric of this kind, of whose points some are rejected: by number, with the reason.
    Points { kind: &'static str, total: usize, flaws: Vec<(usize, &'static str)> },
}

/// What is around records in a fragment of a rejected one.
#[derive(Default)]
struct Around<'a> {
    resource: Option<&'a [u8]>,
    url: &'a [u8],
}

/// One walk over a request.
struct Pass<'a> {
    given: &'a Given<'a>,
    out: Outcome,
    ids: TraceIds,
    findings: Findings<'a>,
    buckets: Buckets,
    scopes: usize,
    records: usize,
    spans_with_keys: usize,
    has_emptied: bool,
    steps: Steps,
}

impl<'a> Pass<'a> {
    fn of(given: &'a Given<'a>) -> Self {
        let mut out = Outcome::default();
        let more: usize = given.additions.iter().map(|each| each.encoded.len()).sum();
        out.body.reserve(given.body.len() + more + 16);
        Self {
            given,
            out,
            ids: TraceIds::default(),
            findings: Findings::default(),
            buckets: Buckets::default(),
            scopes: 0,
            records: 0,
            spans_with_keys: 0,
            has_emptied: false,
            steps: given.steps,
        }
    }

    fn finish(self, entries: usize) -> Take<Outcome> {
        let mut out = self.out;
        let most = most_messages(self.given.body.len());
        let is_crowded = entries > most || self.scopes > most || self.records > most;
        // Unknown fields of what is left out are told.
        let is_told = self.has_emptied && self.findings.has_unknown;
        if out.items == 0 || is_crowded || is_told {
            return Err(Odd);
        }
        if self.findings.has_special_doubles {
            out.flags |= SPECIAL_DOUBLES;
        }
        out.trace_ids = self.ids.into_packed();
        Ok(out)
    }

    /// An entry: its resource enriched, then its scopes.
    fn entry(&mut self, content: &'a [u8], index: usize) -> Take<()> {
        let before = self.out.body.len();
        let items = self.out.items;
        let begun = open(&mut self.out.body, &[0x0a], content.len());
        let mut reader = Reader::new(content);
        let mut around = Around { resource: None, url: url_of(content)? };
        if content.first() == Some(&0x0a) {
            reader.varint()?;
            around.resource = Some(reader.delimited()?);
        }
        let service = self.resource(around.resource)?;
        let mut last = 1;
        let mut scopes = 0;
        while reader.is_more() {
            let start = reader.at();
            let tag = reader.varint()?;
            let number = number_of(tag)?;
            if number < last || number == last && number != 2 && number < 4 {
                return Err(Odd);
            }
            last = number;
            match tag {
                INSIDE => {
                    self.steps.spend(Steps::AN_ITEM)?;
                    self.scope(reader.delimited()?, [index, scopes], &around, service)?;
                    scopes += 1;
                }
                URL => self.url(reader.delimited()?)?,
                _ if number < 4 => return Err(Odd),
                _ => {
                    skip(&mut reader, tag)?;
                    self.findings.has_unknown = true;
                    self.out.body.extend_from_slice(&content[start..reader.at()]);
                    last = 4;
                }
            }
        }
        if scopes == 0 {
            return Err(Odd);
        }
        self.scopes += scopes;
        if self.out.items == items {
            self.has_emptied = true;
            self.out.body.truncate(before);
            return Ok(());
        }
        close(&mut self.out.body, &begun);
        self.out.service(std::str::from_utf8(service).map_err(|_| Odd)?);
        Ok(())
    }

    fn url(&mut self, text: &[u8]) -> Take<()> {
        check_text(text)?;
        if !text.is_empty() {
            put_delimited(&mut self.out.body, &[0x1a], text);
        }
        Ok(())
    }

    /// The resource with what it lacks, behind its own attributes; the name of its service.
    fn resource(&mut self, content: Option<&'a [u8]>) -> Take<&'a [u8]> {
        let resource = content.unwrap_or_default();
        let is_normal = scan(&RESOURCE, resource, 2, &mut Seen::default(), &mut self.findings)?;
        let mut keys = Keys::default();
        let mut service: &[u8] = b"";
        let mut reader = Reader::new(resource);
        let mut attributes_end = 0;
        while reader.is_more() {
            let tag = reader.varint()?;
            if tag != AROUND {
                skip(&mut reader, tag)?;
                continue;
            }
            let attribute = attribute_of(reader.delimited()?)?;
            if attribute.key == b"service.name" {
                service = attribute.text;
            }
            keys.add(attribute.key);
            attributes_end = reader.at();
        }
        self.out.warn("attribute_key_duplicate", usize::from(keys.has_twice));
        self.out.warn("attribute_key_empty", usize::from(keys.has_empty));
        let missing = self.given.additions.iter().filter(|each| {
            !keys.has(&each.key) && (each.former.is_empty() || !keys.has(&each.former))
        });
        let added: usize = missing.clone().map(|each| each.encoded.len()).sum();
        if content.is_none() && added == 0 {
            return Ok(service);
        }
        let body = &mut self.out.body;
        if is_normal {
            body.push(0x0a);
            put_varint(body, (resource.len() + added) as u64);
            body.extend_from_slice(&resource[..attributes_end]);
            missing.for_each(|each| body.extend_from_slice(&each.encoded));
            body.extend_from_slice(&resource[attributes_end..]);
        } else {
            let mut all = resource.to_vec();
            missing.for_each(|each| all.extend_from_slice(&each.encoded));
            let begun = open(body, &[0x0a], all.len());
            rewrite(&RESOURCE, &all, &Edits::default(), body)?;
            close(body, &begun);
        }
        Ok(service)
    }

    /// A scope and its records: copied if nothing about it is to be changed.
    fn scope(
        &mut self,
        content: &'a [u8],
        place: [usize; 2],
        around: &Around<'a>,
        service: &[u8],
    ) -> Take<()> {
        let mut reader = Reader::new(content);
        let mut is_normal = true;
        let mut scope = Scope { text: None, name: b"", url: b"", service };
        let mut fates = Vec::new();
        let mut records = 0;
        let before = self.out.items;
        let mut last = 0;
        while reader.is_more() {
            let tag = reader.varint()?;
            let number = number_of(tag)?;
            if number < last || number == last && number != 2 && number < 4 {
                return Err(Odd);
            }
            last = number.min(4);
            match tag {
                AROUND => {
                    let text = reader.delimited()?;
                    let mut seen = Seen::default();
                    is_normal &= scan(&SCOPE, text, 3, &mut seen, &mut self.findings)?;
                    (scope.text, scope.name) = (Some(text), seen.name);
                }
                INSIDE => {
                    let record = reader.delimited()?;
                    self.steps.spend(Steps::AN_ITEM)?;
                    let fate = match self.given.signal {
                        Signal::Traces => self.span(record, &scope)?,
                        Signal::Logs => self.log_record(record)?,
                        Signal::Metrics => self.metric(record)?,
                    };
                    if let Some(fate) = fate {
                        fates.push((records, fate));
                    }
                    records += 1;
                }
                URL => {
                    scope.url = reader.delimited()?;
                    check_text(scope.url)?;
                    is_normal &= !scope.url.is_empty();
                }
                _ if number < 4 => return Err(Odd),
                _ => {
                    skip(&mut reader, tag)?;
                    self.findings.has_unknown = true;
                }
            }
        }
        if records == 0 {
            return Err(Odd);
        }
        self.records += records;
        if is_normal && fates.is_empty() {
            put_delimited(&mut self.out.body, &[0x12], content);
            return Ok(());
        }
        self.anew(content, place, around, &scope, fates, before)
    }

    /// A scope put together anew, without what is rejected.
    fn anew(
        &mut self,
        content: &[u8],
        [entry, place]: [usize; 2],
        around: &Around,
        scope: &Scope,
        fates: Vec<(usize, Fate)>,
        items_before: usize,
    ) -> Take<()> {
        let record_of = record_of(self.given.signal);
        let start = self.out.body.len();
        let begun = open(&mut self.out.body, &[0x12], content.len());
        let mut fates = fates.into_iter().peekable();
        let mut reader = Reader::new(content);
        let mut records = 0;
        while reader.is_more() {
            let at = reader.at();
            let tag = reader.varint()?;
            match tag {
                AROUND => {
                    let text = reader.delimited()?;
                    let inner = open(&mut self.out.body, &[0x0a], text.len());
                    rewrite(&SCOPE, text, &Edits::default(), &mut self.out.body)?;
                    close(&mut self.out.body, &inner);
                }
                INSIDE => {
                    let record = reader.delimited()?;
                    let whole = &content[at..reader.at()];
                    let found = [entry, place, records];
                    match fates.next_if(|(number, _)| *number == records).map(|(_, fate)| fate) {
                        None => self.out.body.extend_from_slice(whole),
                        Some(Fate::Rewrite(edits)) => {
                            write_record(record_of, record, &edits, &mut self.out.body)?;
                        }
                        Some(Fate::Reject((reason, member), trace_id)) => {
                            let fragment =
                                self.fragment(around, scope, record, &Edits::default())?;
                            self.out.reject(Rejected {
                                reason,
                                member: member.to_owned(),
                                place: found,
                                trace_id: hex(&trace_id),
                                fragment,
                                items: 1,
                            })?;
                        }
                        Some(Fate::Points { kind, total, flaws }) => {
                            self.reject_points(
                                &flaws,
                                (kind, total),
                                found,
                                around,
                                scope,
                                record,
                            )?;
                            if flaws.len() < total {
                                let edits = Edits {
                                    points: Some(chosen(total, &flaws, None)),
                                    ..Edits::default()
                                };
                                write_record(record_of, record, &edits, &mut self.out.body)?;
                            }
                        }
                    }
                    records += 1;
                }
                URL => {
                    let text = reader.delimited()?;
                    self.url(text)?;
                }
                _ => {
                    skip(&mut reader, tag)?;
                    self.out.body.extend_from_slice(&content[at..reader.at()]);
                }
            }
        }
        if self.out.items == items_before {
            self.has_emptied = true;
            self.out.body.truncate(start);
        } else {
            close(&mut self.out.body, &begun);
        }
        Ok(())
    }

    /// The points of each reason together, in the order of the first of each.
    fn reject_points(
        &mut self,
        flaws: &[(usize, &'static str)],
        (kind, total): (&str, usize),
        place: [usize; 3],
        around: &Around,
        scope: &Scope,
        metric: &[u8],
    ) -> Take<()> {
        let mut reasons: Vec<&'static str> = Vec::new();
        for (_, reason) in flaws {
            if !reasons.contains(reason) {
                reasons.push(reason);
            }
        }
        for reason in reasons {
            let chosen = chosen(total, flaws, Some(reason));
            let first = chosen.iter().position(|&is| is).ok_or(Odd)?;
            let items = chosen.iter().filter(|&&is| is).count();
            let edits = Edits { points: Some(chosen), ..Edits::default() };
            let fragment = self.fragment(around, scope, metric, &edits)?;
            let member = match reason {
                "metric_name_empty" => "name".to_owned(),
                "value_missing" => format!("{kind}.dataPoints[{first}]"),
                _ => format!("{kind}.dataPoints[{first}].timeUnixNano"),
            };
            let trace_id = String::new();
            self.out.reject(Rejected { reason, member, place, trace_id, fragment, items })?;
        }
        Ok(())
    }

    /// A record alone, with its resource as it was sent and its scope around it.
    fn fragment(
        &self,
        around: &Around,
        scope: &Scope,
        record: &[u8],
        edits: &Edits,
    ) -> Take<Vec<u8>> {
        let none = Edits::default();
        let mut out = Vec::new();
        let entry = open(&mut out, &[0x0a], record.len());
        if let Some(resource) = around.resource {
            let begun = open(&mut out, &[0x0a], resource.len());
            rewrite(&RESOURCE, resource, &none, &mut out)?;
            close(&mut out, &begun);
        }
        let inside = open(&mut out, &[0x12], record.len());
        if let Some(text) = scope.text {
            let begun = open(&mut out, &[0x0a], text.len());
            rewrite(&SCOPE, text, &none, &mut out)?;
            close(&mut out, &begun);
        }
        write_record(record_of(self.given.signal), record, edits, &mut out)?;
        let url = |text: &[u8], out: &mut Vec<u8>| {
            if !text.is_empty() {
                put_delimited(out, &[0x1a], text);
            }
        };
        url(scope.url, &mut out);
        close(&mut out, &inside);
        url(around.url, &mut out);
        close(&mut out, &entry);
        Ok(out)
    }
}

/// What a scope is, for its records.
struct Scope<'a> {
    text: Option<&'a [u8]>,
    name: &'a [u8],
    url: &'a [u8],
    service: &'a [u8],
}

/// Of so many points those with this flaw, or with none.
fn chosen(total: usize, flaws: &[(usize, &'static str)], reason: Option<&str>) -> Vec<bool> {
    let mut chosen = vec![reason.is_none(); total];
    for (number, flaw) in flaws {
        chosen[*number] = reason == Some(*flaw);
    }
    chosen
}

fn record_of(signal: Signal) -> &'static Message {
    match signal {
        Signal::Traces => &SPAN,
        Signal::Logs => &LOG_RECORD,
        Signal::Metrics => &METRIC,
    }
}

fn write_record(
    message: &'static Message,
    content: &[u8],
    edits: &Edits,
    out: &mut Vec<u8>,
) -> Take<()> {
    let begun = open(out, &[0x12], content.len());
    rewrite(message, content, edits, out)?;
    close(out, &begun);
    Ok(())
}

/// The schema's URL of an entry, which stands behind its scopes.
fn url_of(entry: &[u8]) -> Take<&[u8]> {
    let mut reader = Reader::new(entry);
    let mut url: &[u8] = b"";
    while reader.is_more() {
        match reader.varint()? {
            URL => url = reader.delimited()?,
            tag => skip(&mut reader, tag)?,
        }
    }
    Ok(url)
}

fn hex(bytes: &[u8]) -> String {
    let digits = b"0123456789abcdef";
    let digit = |half: u8| char::from(digits[usize::from(half)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}
