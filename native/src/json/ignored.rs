//! Keys that OTLP does not know: they are left out with all they hold, counted, and told.
//!
//! Python tells the first few of each warning by their places. It meets those of an object before
//! those of objects inside it, which come later in the text but may stand before them.

use crate::messages::Message;
use crate::outcome::{Odd, Take};

/// So many different names are more than a mistake; Python tells three of them.
const MOST_NAMES: usize = 32;
const MOST_NAME_BYTES: usize = 40;
const PLACES_A_WARNING: usize = 3;
const MOST_PATH_BYTES: usize = 400;

/// One name that is not known: where it stood first, and how often.
struct Name<'a> {
    code: &'static str,
    key: &'a [u8],
    /// Where the object begins that holds it, and where itself.
    at: (usize, usize),
    /// Of which entry it is the resource that holds it, if it is one.
    entry: Option<usize>,
    times: usize,
}

/// All that was ignored of a body.
#[derive(Default)]
pub struct Ignored<'a> {
    names: Vec<Name<'a>>,
    /// The resource that is being read, by its entry.
    pub entry: Option<usize>,
    /// Something outside of resources is not what Python's fast way takes.
    pub is_exact: bool,
}

impl<'a> Ignored<'a> {
    /// Something was met that only Python's exact way reads.
    pub fn note_exact(&mut self) {
        self.is_exact |= self.entry.is_none();
    }

    /// Count a key of an object of that kind.
    ///
    /// # Errors
    /// `Odd` where its name has to be looked at more closely.
    pub fn add(
        &mut self,
        message: &'static Message,
        key: &'a [u8],
        at: (usize, usize),
    ) -> Take<()> {
        self.note_exact();
        let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-$@:/".contains(byte);
        if key.is_empty()
            || key.len() > MOST_NAME_BYTES
            || !key.iter().all(is_plain)
            || key.starts_with(b"instrumentationLibrary")
        {
            return Err(Odd);
        }
        let code = if is_snake_case(message, key) { "snake_case" } else { "unknown_key" };
        let entry = self.entry;
        let is_same = |it: &&mut Name| it.code == code && it.key == key && it.entry == entry;
        if let Some(known) = self.names.iter_mut().find(is_same) {
            known.times += 1;
            known.at = known.at.min(at);
            return Ok(());
        }
        if self.names.len() >= MOST_NAMES {
            return Err(Odd);
        }
        self.names.push(Name { code, key, at, entry, times: 1 });
        Ok(())
    }

    /// Whether what is told depends on which way Python went: the fast one names a key of every
    /// resource that has it, the exact one names it once.
    pub fn depends_on_the_way(&self) -> bool {
        let is_again = |(index, name): (usize, &Name)| {
            self.names[..index].iter().any(|it| it.code == name.code && it.key == name.key)
        };
        !self.is_exact && self.names.iter().enumerate().any(is_again)
    }

    /// How often keys were ignored, by code.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, usize)> {
        self.names.iter().map(|name| (name.code, name.times))
    }

    /// The places that are told, by code.
    ///
    /// # Errors
    /// `Odd` where one is too long.
    pub fn places(&mut self, body: &[u8]) -> Take<Vec<(&'static str, String)>> {
        // The fast way reads each resource by itself; the exact way names each name once.
        self.names.sort_by_key(|name| name.at);
        let mut told: Vec<&Name> = Vec::new();
        for name in &self.names {
            let of_code = || told.iter().filter(|it| it.code == name.code);
            let is_known = self.is_exact && of_code().any(|it| it.key == name.key);
            if !is_known && of_code().count() < PLACES_A_WARNING {
                told.push(name);
            }
        }
        told.iter()
            .map(|name| {
                let path = path_of(body, name.at.0, name.key);
                if path.len() > MOST_PATH_BYTES { Err(Odd) } else { Ok((name.code, path)) }
            })
            .collect()
    }
}

/// Whether a key is a field's name as proto files spell it.
fn is_snake_case(message: &'static Message, key: &[u8]) -> bool {
    let spelled_so = |name: &str| {
        let mut rest = key.iter();
        let is_equal = name.bytes().all(|byte| {
            if byte.is_ascii_uppercase() {
                rest.next() == Some(&b'_') && rest.next() == Some(&byte.to_ascii_lowercase())
            } else {
                rest.next() == Some(&byte)
            }
        });
        is_equal && rest.next().is_none()
    };
    key.contains(&b'_') && message.fields.iter().any(|field| spelled_so(field.name))
}

/// What stands around a place in the body.
enum Around<'a> {
    Object(&'a [u8]),
    List(usize),
}

/// The path of a key of the object that begins at `object`, in a body that is valid JSON up to it.
fn path_of(body: &[u8], object: usize, key: &[u8]) -> String {
    let mut around: Vec<Around> = Vec::new();
    let mut text: &[u8] = b"";
    let mut at = 0;
    while at < object {
        match body[at] {
            b'"' => {
                let start = at + 1;
                at = start;
                while body[at] != b'"' {
                    at += if body[at] == b'\\' { 2 } else { 1 };
                }
                text = &body[start..at];
            }
            b':' => {
                if let Some(Around::Object(name)) = around.last_mut() {
                    *name = text;
                }
            }
            b',' => {
                if let Some(Around::List(index)) = around.last_mut() {
                    *index += 1;
                }
            }
            b'{' => around.push(Around::Object(b"")),
            b'[' => around.push(Around::List(0)),
            b'}' | b']' => {
                around.pop();
            }
            _ => {}
        }
        at += 1;
    }
    let mut path = String::new();
    for each in &around {
        match each {
            Around::Object(name) => join(&mut path, name),
            Around::List(index) => path.extend(["[", &index.to_string(), "]"]),
        }
    }
    join(&mut path, key);
    path
}

fn join(path: &mut String, name: &[u8]) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(&String::from_utf8_lossy(name));
}
