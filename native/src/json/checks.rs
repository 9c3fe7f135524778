//! What becomes of items and of what they stand in, once they are read.

use crate::checks::{Id, SPAN_ID_BYTES, TRACE_ID_BYTES, flaw_of_span};
use crate::json::frame::{Frame, is};
use crate::json::members::{Entry, Facts, Member, Pass};
use crate::json::rejects::Reject;
use crate::json::scan::Text;
use crate::json::text::{unescape, unhex, write_hex};
use crate::messages::{EXEMPLAR, LINK, LOG_RECORD, Message, RESOURCE, Role, SPAN, Signal};
use crate::outcome::{MalformedIds, Odd, Take};
use crate::wire::put_delimited;

impl<const JSON: bool> Pass<'_, JSON> {
    /// An entry, a scope, a record or a point. False: it is not kept.
    pub fn item(&mut self, message: &'static Message, index: usize) -> Take<bool> {
        if self.level == 3 {
            return self.point(message, index);
        }
        self.place[self.level] = index;
        self.messages[self.level] += 1;
        if self.messages[self.level] > self.most_messages {
            return Err(Odd);
        }
        let mut facts = Facts::default();
        match (self.level, self.given.signal) {
            (0, _) => {
                self.entry = Entry::default();
                self.message(message, &mut facts, Self::check_entry)
            }
            (1, _) => self.message(message, &mut facts, |pass, facts, _| {
                pass.know_scope_of_rejects(facts);
                Ok(facts.inside > 0)
            }),
            (_, Signal::Traces) => self.message(message, &mut facts, Self::check_span),
            (_, Signal::Logs) => self.message(message, &mut facts, Self::check_log),
            (_, Signal::Metrics) => self.metric(message),
        }
    }

    fn check_entry(&mut self, facts: &mut Facts, frame: &mut Frame) -> Take<bool> {
        self.write_rejects(facts)?;
        if facts.inside == 0 {
            return Ok(false);
        }
        if facts.around.is_none() && !self.given.additions.is_empty() {
            frame.begin(0, self.out.len());
            self.out.extend_from_slice(b"\"resource\":");
            let start = self.out.len();
            self.out.extend_from_slice(b"{}");
            self.enrich(start);
            self.out.push(b',');
        }
        self.outcome.service(&self.entry.service);
        Ok(true)
    }

    /// The resource of an entry, with what is added to it.
    pub fn resource(&mut self, facts: &mut Facts) -> Take<()> {
        let start = self.out.len();
        self.ignored.entry = Some(self.place[0]);
        self.message(&RESOURCE, facts, |_, _, _| Ok(true))?;
        self.ignored.entry = None;
        if self.checks() {
            self.enrich(start);
        }
        Ok(())
    }

    /// Put what the resource that begins at `start` lacks at the head of its attributes.
    fn enrich(&mut self, start: usize) {
        let head: &[u8] = b"{\"attributes\":[";
        let known = &self.entry.keys;
        let has = |key: &[u8]| !key.is_empty() && known.contains(&key);
        let normal_end = self.out.len();
        for each in self.given.additions {
            if !known.contains(&&*each.key) && !has(&each.former) {
                self.out.extend_from_slice(&each.encoded);
                self.out.push(b',');
            }
        }
        if self.out.len() == normal_end {
            return;
        }
        // What was added behind the resource goes in front of what is in it.
        self.scratch.clear();
        self.scratch.extend_from_slice(&self.out[normal_end..]);
        self.out.truncate(normal_end);
        let mut at = start + head.len();
        if !self.out[start..].starts_with(head) {
            let end: &[u8] = if self.out[start..] == *b"{}" { b"]" } else { b"]," };
            self.scratch.pop();
            self.scratch.splice(..0, head[1..].iter().copied());
            self.scratch.extend_from_slice(end);
            at = start + 1;
        }
        self.out.extend_from_slice(&self.scratch);
        self.out[at..].rotate_right(self.scratch.len());
    }

    /// The `service.name` of a resource, which may have none or one that is no text.
    pub fn name_service(&mut self, text: Option<Text>) -> Take<()> {
        let mut name = Vec::new();
        if let Some(text) = text {
            unescape(self.scan.raw(text), &mut name)?;
        }
        self.entry.service = String::from_utf8(name).or(Err(Odd))?;
        Ok(())
    }

    /// An id. One that is malformed or means none is not written.
    pub fn id(
        &mut self,
        member: Member,
        message: &'static Message,
        facts: &mut Facts,
    ) -> Take<bool> {
        let text = self.scan.string()?;
        let raw = self.scan.raw(text);
        let role = member.field.role;
        if text.is_escaped {
            return Err(Odd);
        }
        if role == Role::Trace {
            facts.trace_text = text;
        }
        if raw.is_empty() {
            return Ok(false);
        }
        if self.is_as_sent {
            self.copy(member, self.scan.at);
            return Ok(true);
        }
        let mut bytes = [0; TRACE_ID_BYTES];
        let found = if role == Role::Trace {
            unhex(raw).map(|id| bytes = id)
        } else {
            unhex::<SPAN_ID_BYTES>(raw).map(|id| bytes[..SPAN_ID_BYTES].copy_from_slice(&id))
        };
        let id = match found {
            None => Id::Malformed,
            Some(()) if bytes == [0; TRACE_ID_BYTES] => Id::Zero,
            Some(()) => Id::Good,
        };
        let may_be_malformed = JSON && (is(message, &SPAN) || is(message, &EXEMPLAR));
        if id == Id::Malformed && !may_be_malformed {
            return Err(Odd); // it becomes another, or none with an attribute
        }
        match role {
            Role::Trace => (facts.trace, facts.trace_id) = (id, bytes),
            Role::Span => facts.span = id,
            _ => facts.parent = id,
        }
        let is_kept = id == Id::Good || (id == Id::Zero && (is(message, &LINK) || !JSON));
        if is_kept {
            let size = if role == Role::Trace { TRACE_ID_BYTES } else { SPAN_ID_BYTES };
            self.put_id(member, text, &bytes[..size]);
        }
        Ok(is_kept)
    }

    fn put_id(&mut self, member: Member, text: Text, id: &[u8]) {
        if !JSON {
            self.tag(member.field, 2);
            put_delimited(&mut self.out, b"", id);
            return;
        }
        // Of all hexadecimal digits only capital letters lack this bit.
        if self.scan.raw(text).iter().fold(0xff, |all, byte| all & byte) & 0x20 != 0 {
            self.copy(member, self.scan.at);
        } else {
            self.copy(member, text.start);
            write_hex(id, &mut self.out);
            self.out.push(b'"');
        }
    }

    fn check_span(&mut self, facts: &mut Facts, _: &mut Frame) -> Take<bool> {
        let derives = self.given.malformed_ids == MalformedIds::Derive;
        let flaw = flaw_of_span(facts.trace, facts.span, facts.parent, derives)?;
        let Some((reason, member)) = flaw else {
            self.trace_ids.add(facts.trace_id);
            let is_named = !facts.name.is_empty();
            self.outcome.count_span(facts.start, facts.end, is_named, self.given.now_ns);
            return Ok(true);
        };
        self.reject(Reject {
            place: self.place,
            at: facts.at,
            reason,
            member: member.to_owned(),
            trace: facts.trace_text,
            items: 1,
            ..Reject::default()
        })?;
        Ok(false)
    }

    fn check_log(&mut self, facts: &mut Facts, frame: &mut Frame) -> Take<bool> {
        let mut time = if facts.time == 0 { facts.observed } else { facts.time };
        if time == 0 {
            time = self.given.now_ns;
            self.write_observed(time, frame)?;
        }
        self.outcome.count_time(time, self.given.now_ns);
        self.outcome.items += 1;
        if facts.trace == Id::Good {
            self.trace_ids.add(facts.trace_id);
        }
        Ok(true)
    }

    /// A record without any time was seen now.
    #[cold]
    fn write_observed(&mut self, time: u64, frame: &mut Frame) -> Take<()> {
        let fields = LOG_RECORD.fields;
        let index = fields.iter().position(|field| field.role == Role::Observed).ok_or(Odd)?;
        frame.begin(index, self.out.len());
        let member = format!("\"{}\":\"{time}\",", fields[index].name);
        self.out.extend_from_slice(member.as_bytes());
        Ok(())
    }
}
