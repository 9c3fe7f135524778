//! The pass itself: any message of the table, member by member.

use crate::checks::{Buckets, Histogram, Id, TraceIds};
use crate::json::frame::{Frame, is};
use crate::json::ignored::Ignored;
use crate::json::rejects::Reject;
use crate::json::scan::{Scanner, Text};
use crate::messages::{
    ANY_VALUE, BUCKETS, EXEMPLAR, Field, Holds, KEY_VALUE, Kind, Message, RESOURCE, Role, SCOPE,
};
use crate::outcome::{Given, Odd, Outcome, Steps, Take, buffer};
use crate::wire::{self, SHORT, open};

/// One body on its way. `JSON`: a request, checked and written in JSON; otherwise a kept fragment,
/// written in protobuf.
pub struct Pass<'a, const JSON: bool> {
    pub scan: Scanner<'a>,
    pub out: Vec<u8>,
    pub given: &'a Given<'a>,
    pub outcome: Outcome,
    pub trace_ids: TraceIds,
    pub ignored: Ignored<'a>,
    /// Rejected items are written as they were sent: nothing is checked, nothing counted.
    pub is_as_sent: bool,
    /// A metric is read once more: what is counted by text was counted.
    pub is_again: bool,
    /// In how many lists of entries, scopes, records and points this is.
    pub level: usize,
    /// Entries, scopes and records so far.
    pub messages: [usize; 3],
    pub most_messages: usize,
    /// Indices of the entry, the scope and the record that are being read.
    pub place: [usize; 3],
    pub entry: Entry<'a>,
    pub points: Points,
    /// Keys of the attributes of one message.
    pub keys: Vec<&'a [u8]>,
    pub scratch: Vec<u8>,
}

/// What is known of the entry that is being read.
#[derive(Default)]
pub struct Entry<'a> {
    /// The `service.name` of its resource.
    pub service: String,
    /// Keys of its resource's attributes.
    pub keys: Vec<&'a [u8]>,
    pub rejects: Vec<Reject>,
}

/// What is known of the points of the metric that is being read.
#[derive(Default)]
pub struct Points {
    /// Points that must go, each with the reason.
    pub flaws: Vec<(usize, &'static str)>,
    /// Warnings, which count once it is clear which points stay.
    pub warnings: Vec<&'static str>,
    /// Those that are read this time, where not all are.
    pub chosen: Option<Vec<bool>>,
    pub buckets: Buckets,
}

/// What the checks must know of a message that was read.
#[derive(Default)]
pub struct Facts {
    /// Where it begins in the text.
    pub at: usize,
    pub trace: Id,
    pub span: Id,
    pub parent: Id,
    pub trace_id: [u8; 16],
    pub trace_text: Text,
    pub name: Text,
    pub url: Text,
    pub start: u64,
    pub end: u64,
    pub time: u64,
    pub observed: u64,
    pub flags: u32,
    pub temporality: i32,
    pub has_one_of: bool,
    pub zero_count: u64,
    pub histogram: Histogram,
    /// Items, or what holds such, that it holds.
    pub inside: usize,
    /// Where its resource or scope begins in the text, and the name of that.
    pub around: Option<usize>,
    pub around_name: Text,
    /// The kind of a metric.
    pub kind: &'static str,
}

/// A member of which the name was read.
#[derive(Clone, Copy)]
pub struct Member {
    pub field: &'static Field,
    /// What is copied in front of its value: the name as it stands in the text, if it stands
    /// there as the relay writes it; else this is where the value begins, and the name is written.
    pub from: usize,
}

impl<'a, const JSON: bool> Pass<'a, JSON> {
    pub fn new(given: &'a Given<'a>, most_messages: usize) -> Self {
        Self {
            scan: Scanner::new(given.body, given.steps),
            out: buffer(given.body.len() + 1024),
            given,
            outcome: Outcome::default(),
            trace_ids: TraceIds::default(),
            ignored: Ignored::default(),
            is_as_sent: false,
            is_again: false,
            level: 0,
            messages: [0; 3],
            place: [0; 3],
            most_messages,
            entry: Entry::default(),
            points: Points::default(),
            keys: Vec::with_capacity(64),
            scratch: Vec::new(),
        }
    }

    /// Whether things are checked and counted.
    #[inline]
    pub fn checks(&self) -> bool {
        JSON && !self.is_as_sent
    }

    /// A whole request: the object around the one list of entries.
    pub fn request(&mut self) -> Take<()> {
        let request = self.given.signal.request();
        let mut frame = Frame::new();
        self.scan.skip_blanks();
        let object = self.scan.at;
        self.scan.expect(b'{')?;
        if self.scan.take(b'}') {
            return Err(Odd);
        }
        loop {
            let key = self.scan.key()?;
            match frame.find(request, self.scan.raw(key)) {
                Some(index) if frame.is_again(index) => return Err(Odd),
                Some(_) => {
                    self.scan.expect(b'[')?;
                    self.entries_until(b']')?;
                }
                // It may be another signal's.
                None if self.scan.raw(key).starts_with(b"resource") => return Err(Odd),
                None => self.ignore(request, key, object)?,
            }
            if !self.scan.has_more(b'}')? {
                break;
            }
        }
        if self.out.pop() == Some(b',') { Ok(()) } else { Err(Odd) }
    }

    /// The entries of a fragment: no brackets around them.
    pub fn entries(&mut self) -> Take<()> {
        self.entries_until(0)?;
        // Behind the end there is what stands for it.
        if self.scan.at > self.scan.text.len() { Ok(()) } else { Err(Odd) }
    }

    fn entries_until(&mut self, close: u8) -> Take<()> {
        let list = &self.given.signal.request().fields[0];
        self.items(list, close).map(drop)
    }

    /// A message: an object with members. `check` looks at it once it is read and says whether it
    /// is kept; if not, the caller takes it back.
    #[inline]
    pub fn message(
        &mut self,
        message: &'static Message,
        facts: &mut Facts,
        check: impl FnOnce(&mut Self, &mut Facts, &mut Frame) -> Take<bool>,
    ) -> Take<bool> {
        let mut frame = Frame::new();
        self.scan.skip_blanks();
        facts.at = self.scan.at;
        self.members(message, facts, &mut frame)?;
        if !check(self, facts, &mut frame)? {
            return Ok(false);
        }
        frame.sort(&mut self.out, &mut self.scratch);
        if JSON {
            self.end_object();
        }
        Ok(true)
    }

    /// The comma behind the last item becomes the bracket that closes the list.
    #[inline]
    pub fn end_list(&mut self) {
        if let Some(last) = self.out.last_mut() {
            *last = b']';
        }
    }

    /// The comma behind the last member becomes the bracket that closes an object.
    #[inline]
    pub fn end_object(&mut self) {
        match self.out.last_mut() {
            Some(last) if *last == b',' => *last = b'}',
            _ => self.out.push(b'}'),
        }
    }

    fn members(
        &mut self,
        message: &'static Message,
        facts: &mut Facts,
        frame: &mut Frame,
    ) -> Take<()> {
        self.scan.expect(b'{')?;
        if JSON {
            self.out.push(b'{');
        }
        if self.scan.take(b'}') {
            return Ok(());
        }
        loop {
            self.scan.expect(b'"')?;
            let guessed = frame.guess(message, self.scan.rest());
            let key = match guessed {
                Some(index) => self.scan.known_key(message.fields[index].name.len())?,
                None => self.scan.rest_of_key()?,
            };
            match guessed.or_else(|| frame.find(message, self.scan.raw(key))) {
                None => self.ignore(message, key, facts.at)?,
                Some(index) if frame.is_again(index) => return Err(Odd),
                Some(_) if self.scan.take_null() => self.note_exact()?,
                Some(index) => {
                    let field = &message.fields[index];
                    let start = self.out.len();
                    frame.begin(if JSON { index } else { field.number as usize }, start);
                    let from = self.name(field, key);
                    if !self.member(Member { field, from }, message, facts)? {
                        self.out.truncate(start);
                        frame.take_back();
                    } else if JSON {
                        self.out.push(b',');
                    }
                }
            }
            if !self.scan.has_more(b'}')? {
                return Ok(());
            }
        }
    }

    /// Begin a member: see `Member::from`.
    #[inline]
    fn name(&mut self, field: &Field, key: Text) -> usize {
        self.scan.skip_blanks();
        if !JSON {
            return self.scan.at;
        }
        if self.scan.at == key.end + 2 {
            return key.start - 1;
        }
        self.out.push(b'"');
        self.out.extend_from_slice(field.name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.scan.at
    }

    pub fn note_exact(&mut self) -> Take<()> {
        if JSON {
            self.ignored.note_exact();
            Ok(())
        } else {
            Err(Odd)
        }
    }

    /// A key that is not known, and all that it holds.
    pub fn ignore(&mut self, message: &'static Message, key: Text, object: usize) -> Take<()> {
        if !JSON {
            return Err(Odd);
        }
        self.scan.steps.spend(2)?; // it is looked for among others
        if !self.is_as_sent && !self.is_again {
            self.ignored.add(message, self.scan.raw(key), (object, key.start))?;
        }
        self.scan.ignore()
    }

    /// The value of a member. False: it is left out, whatever was written.
    #[inline]
    fn member(
        &mut self,
        member: Member,
        message: &'static Message,
        facts: &mut Facts,
    ) -> Take<bool> {
        let field = member.field;
        if field.holds == Holds::OneOf {
            if facts.has_one_of {
                return Err(Odd);
            }
            facts.has_one_of = true;
        }
        match (field.kind, field.holds == Holds::Many) {
            (Kind::Text, false) => self.text(member, facts),
            (Kind::Id, _) => self.id(member, message, facts),
            (Kind::Fixed64 | Kind::UInt64, false) => self.unsigned(member, facts),
            (Kind::Message(inner), true) if is(inner, &KEY_VALUE) => {
                self.attributes(member, is(message, &RESOURCE))
            }
            (Kind::Message(_), true) => self.list(member, facts),
            (Kind::Message(inner), false) => self.inner_message(member, inner, facts),
            (Kind::Int32 | Kind::SInt32 | Kind::UInt32 | Kind::Fixed32, _) => {
                self.small(member, facts)
            }
            (Kind::Double, false) => self.double(member),
            (Kind::SFixed64, _) => self.signed(member),
            (Kind::Bool, _) => self.boolean(member),
            (Kind::Text | Kind::Fixed64 | Kind::UInt64 | Kind::Double, true) => {
                self.values(member, facts)
            }
            (Kind::Bytes | Kind::Int64, _) => Err(Odd), // of attributes' values only
        }
    }

    /// A message of which there is one.
    fn inner_message(
        &mut self,
        member: Member,
        inner: &'static Message,
        facts: &mut Facts,
    ) -> Take<bool> {
        let mut of_inner = Facts::default();
        let mut opened = None;
        if JSON {
            self.copy(member, self.scan.at);
        } else {
            self.tag(member.field, 2);
            opened = Some(open(&mut self.out, b"", SHORT));
        }
        if is(inner, &ANY_VALUE) {
            self.value(0)?;
        } else if is(inner, &RESOURCE) {
            self.resource(&mut of_inner)?;
        } else {
            self.message(inner, &mut of_inner, |_, _, _| Ok(true))?;
        }
        if is(inner, &BUCKETS) {
            facts.histogram.buckets += of_inner.histogram.buckets;
            facts.histogram.sum += of_inner.histogram.sum;
        } else if is(inner, &RESOURCE) || is(inner, &SCOPE) {
            facts.around = Some(of_inner.at);
            facts.around_name = of_inner.name;
        } else if member.field.role == Role::Inside {
            facts.inside = of_inner.inside;
            facts.temporality = of_inner.temporality;
            facts.kind = member.field.name;
        }
        if let Some(opened) = opened {
            wire::close(&mut self.out, &opened);
        }
        Ok(true)
    }

    /// A list of messages.
    fn list(&mut self, member: Member, facts: &mut Facts) -> Take<bool> {
        self.scan.expect(b'[')?;
        if JSON {
            self.copy(member, self.scan.at);
        }
        let is_inside = member.field.role == Role::Inside;
        self.level += usize::from(is_inside);
        let kept = self.items(member.field, b']')?;
        self.level -= usize::from(is_inside);
        if is_inside {
            facts.inside = kept;
        }
        if JSON && kept > 0 {
            self.end_list();
        }
        Ok(kept > 0)
    }

    /// The items of a list, up to what closes it; in JSON each with a comma behind it. How many
    /// were kept.
    pub fn items(&mut self, field: &'static Field, close: u8) -> Take<usize> {
        let Kind::Message(inner) = field.kind else { return Err(Odd) };
        let mut kept = 0;
        if self.scan.take(close) {
            return Ok(0);
        }
        let likely_bytes = match (field.role, self.level) {
            // Nearly always there is one entry, and one scope, with all that is yet to be read.
            (Role::Inside, 0 | 1) => (self.scan.text.len() - self.scan.at) / 2,
            (Role::Inside, 2) => 2 * SHORT,
            _ => SHORT,
        };
        let steps = if field.role == Role::Inside { Steps::AN_ITEM } else { 1 };
        for index in 0.. {
            self.scan.steps.spend(steps)?;
            if JSON {
                let start = self.out.len();
                let is_kept = match field.role {
                    Role::Inside => self.item(inner, index)?,
                    _ if is(inner, &EXEMPLAR) => self.exemplar()?,
                    _ => self.message(inner, &mut Facts::default(), |_, _, _| Ok(true))?,
                };
                if is_kept {
                    self.out.push(b',');
                    kept += 1;
                } else {
                    self.out.truncate(start);
                }
            } else {
                self.tag(field, 2);
                let opened = open(&mut self.out, b"", likely_bytes);
                self.message(inner, &mut Facts::default(), |_, _, _| Ok(true))?;
                wire::close(&mut self.out, &opened);
                kept += 1;
            }
            if !self.scan.has_more(close)? {
                break;
            }
        }
        Ok(kept)
    }
}
