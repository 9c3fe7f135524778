//! Items that are rejected: each as a fragment of its own, as it was sent.

use crate::checks::is_derived;
use crate::json::members::{Facts, Pass};
use crate::json::scan::Text;
use crate::messages::{Kind, Message, RESOURCE, Role, SCOPE};
use crate::outcome::{MOST_REJECTED, Odd, Rejected, Take};

/// An item, or points of a metric, of which what stands around it is yet to be read.
#[derive(Default)]
pub struct Reject {
    pub place: [usize; 3],
    /// Where the record begins in the text.
    pub at: usize,
    pub reason: &'static str,
    pub member: String,
    pub trace: Text,
    /// The points, by number, of a metric.
    pub chosen: Option<Vec<bool>>,
    pub items: usize,
    /// Where its scope begins, that one's name, and the schema of what is in it.
    pub scope: Option<usize>,
    pub scope_name: Text,
    pub scope_url: Text,
}

impl<const JSON: bool> Pass<'_, JSON> {
    /// Remember what is rejected until the entry is read.
    pub fn reject(&mut self, reject: Reject) -> Take<()> {
        if self.entry.rejects.len() >= MOST_REJECTED {
            return Err(Odd);
        }
        self.entry.rejects.push(reject);
        Ok(())
    }

    /// The scope is read: those that are rejected under it are told.
    pub fn know_scope_of_rejects(&mut self, facts: &Facts) {
        let place = self.place[1];
        for reject in self.entry.rejects.iter_mut().filter(|it| it.place[1] == place) {
            reject.scope = facts.around;
            reject.scope_name = facts.around_name;
            reject.scope_url = facts.url;
        }
    }

    /// The entry is read: write what is rejected under it.
    pub fn write_rejects(&mut self, facts: &Facts) -> Take<()> {
        let rejects = std::mem::take(&mut self.entry.rejects);
        if rejects.is_empty() {
            return Ok(());
        }
        let end = self.scan.at;
        let kept = std::mem::take(&mut self.out);
        self.is_as_sent = true;
        for mut reject in rejects {
            let scope = self.scan.raw(reject.scope_name);
            let is_malformed = reject.reason.ends_with("_malformed");
            let mode = self.given.malformed_ids;
            let derives = is_derived(mode, self.entry.service.as_bytes(), scope);
            if is_malformed && (derives || reject.scope_name.is_escaped) {
                return Err(Odd);
            }
            self.points.chosen = reject.chosen.take();
            self.write_reject(&reject, facts)?;
            self.outcome.reject(Rejected {
                reason: reject.reason,
                member: reject.member,
                place: reject.place,
                trace_id: String::from_utf8_lossy(self.scan.raw(reject.trace)).into_owned(),
                fragment: std::mem::take(&mut self.out),
                items: reject.items,
            })?;
        }
        self.points.chosen = None;
        self.is_as_sent = false;
        self.out = kept;
        self.scan.at = end;
        Ok(())
    }

    fn write_reject(&mut self, reject: &Reject, entry: &Facts) -> Take<()> {
        let (_, entry_message) = inside(self.given.signal.request())?;
        let (scopes, scope_message) = inside(entry_message)?;
        let (records, record_message) = inside(scope_message)?;
        self.out.push(b'{');
        self.write_again("resource", entry.around, &RESOURCE)?;
        self.out.extend_from_slice(format!("\"{scopes}\":[{{").as_bytes());
        self.write_again("scope", reject.scope, &SCOPE)?;
        self.out.extend_from_slice(format!("\"{records}\":[").as_bytes());
        let level = std::mem::replace(&mut self.level, 2);
        self.read_again(reject.at, record_message)?;
        self.level = level;
        self.close_list(reject.scope_url)?;
        self.close_list(entry.url)
    }

    fn close_list(&mut self, url: Text) -> Take<()> {
        self.out.push(b']');
        if !url.is_empty() {
            self.out.extend_from_slice(b",\"schemaUrl\":\"");
            self.rest_of_text(url)?;
        }
        self.out.push(b'}');
        Ok(())
    }

    /// A member that is a message, from where it begins in the text, if it is there.
    fn write_again(
        &mut self,
        name: &str,
        at: Option<usize>,
        message: &'static Message,
    ) -> Take<()> {
        let Some(at) = at else { return Ok(()) };
        self.out.extend_from_slice(format!("\"{name}\":").as_bytes());
        self.read_again(at, message)?;
        self.out.push(b',');
        Ok(())
    }

    fn read_again(&mut self, at: usize, message: &'static Message) -> Take<()> {
        self.scan.at = at;
        self.message(message, &mut Facts::default(), |_, _, _| Ok(true)).map(drop)
    }
}

impl<const JSON: bool> Pass<'_, JSON> {
    /// Whether a list of items may stand twice in one object, under a key that is ignored: the
    /// fast way of Python does not vouch for that.
    pub fn may_have_lost_a_list(&self) -> Take<bool> {
        let (_, entry) = inside(self.given.signal.request())?;
        let (_, scope) = inside(entry)?;
        let (records, _) = inside(scope)?;
        let [_, scopes, metrics] = self.messages;
        let count = |name: &str| {
            memchr::memmem::find_iter(self.given.body, format!("\"{name}\"").as_bytes()).count()
        };
        Ok(count(records) > scopes || count("dataPoints") > metrics)
    }
}

/// The list of items in a message, or of what holds such: its name, and of what it is.
fn inside(message: &'static Message) -> Take<(&'static str, &'static Message)> {
    let list = message.fields.iter().find(|field| field.role == Role::Inside).ok_or(Odd)?;
    let Kind::Message(inner) = list.kind else { return Err(Odd) };
    Ok((list.name, inner))
}
