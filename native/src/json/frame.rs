//! The members of a message that is being written, and their order.

use crate::messages::Message;

/// More than any message has fields.
const MOST_FIELDS: usize = 18;

/// Where each member of one message begins in what is written. Members follow one another without
/// a gap: in JSON each ends with a comma.
pub struct Frame {
    members: [(u32, u32); MOST_FIELDS],
    count: usize,
    seen: u32,
    next: usize,
    is_sorted: bool,
}

impl Frame {
    #[inline]
    pub fn new() -> Self {
        Self { members: [(0, 0); MOST_FIELDS], count: 0, seen: 0, next: 0, is_sorted: true }
    }

    /// The index of the field whose name and quotation mark `text` begins with, if it is one of
    /// those that stand behind the last one: senders keep to an order.
    #[inline]
    pub fn guess(&mut self, message: &'static Message, text: &[u8]) -> Option<usize> {
        let first = *text.first()?;
        let behind = message.fields.get(self.next..)?;
        let ahead = behind.iter().position(|field| {
            let name = field.name.as_bytes();
            name[0] == first && text.starts_with(name) && text.get(name.len()) == Some(&b'"')
        })?;
        self.next += ahead + 1;
        Some(self.next - 1)
    }

    /// The index of the field of that name.
    pub fn find(&mut self, message: &'static Message, name: &[u8]) -> Option<usize> {
        let index = message.fields.iter().position(|field| field.name.as_bytes() == name)?;
        self.next = index + 1;
        Some(index)
    }

    /// Whether the field of this index was met before; it is from now on.
    #[inline]
    pub fn is_again(&mut self, index: usize) -> bool {
        let bit = 1 << index;
        let is_again = self.seen & bit != 0;
        self.seen |= bit;
        is_again
    }

    /// A member begins at `at`, to stand in that order.
    #[inline]
    pub fn begin(&mut self, order: usize, at: usize) {
        // Both fit: fields are few, and bodies shorter than a gigabyte.
        #[allow(clippy::cast_possible_truncation)]
        let member = (order as u32, at as u32);
        if self.count > 0 && self.members[self.count - 1].0 > member.0 {
            self.is_sorted = false;
        }
        self.members[self.count] = member;
        self.count += 1;
    }

    /// The member that began last is left out.
    #[inline]
    pub fn take_back(&mut self) {
        self.count -= 1;
    }

    /// Put the members, which reach to the end of `out`, into their order.
    #[inline]
    pub fn sort(&mut self, out: &mut [u8], scratch: &mut Vec<u8>) {
        if !self.is_sorted && self.count > 1 {
            self.sort_members(out, scratch);
        }
    }

    fn sort_members(&mut self, out: &mut [u8], scratch: &mut Vec<u8>) {
        let members = &self.members[..self.count];
        let start = members[0].1 as usize;
        let mut ranges = [(0, 0, 0); MOST_FIELDS];
        for (index, &(order, from)) in members.iter().enumerate() {
            let to = members.get(index + 1).map_or(out.len(), |next| next.1 as usize);
            ranges[index] = (order, from as usize, to);
        }
        let ranges = &mut ranges[..self.count];
        ranges.sort_unstable();
        scratch.clear();
        for &mut (_, from, to) in ranges {
            scratch.extend_from_slice(&out[from..to]);
        }
        out[start..].copy_from_slice(scratch);
    }
}

/// Whether that is the same message of the table.
#[inline]
pub fn is(one: &'static Message, other: &'static Message) -> bool {
    std::ptr::eq(one, other)
}
