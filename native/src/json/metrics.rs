//! Metrics: points that are rejected, exemplars, and what is only odd.
//!
//! A metric is read once. Only if points of it must go it is read again, without them.

use crate::checks::{Id, NO_RECORDED_VALUE, flaw_of_point, judge_time};
use crate::json::frame::is;
use crate::json::members::{Facts, Pass};
use crate::json::rejects::Reject;
use crate::messages::{EXEMPLAR, EXPONENTIAL_POINT, HISTOGRAM_POINT, Message, NUMBER_POINT};
use crate::outcome::Take;

impl<const JSON: bool> Pass<'_, JSON> {
    /// A metric. False: nothing of it is kept.
    pub fn metric(&mut self, message: &'static Message) -> Take<bool> {
        let start = self.out.len();
        self.points.flaws.clear();
        self.points.warnings.clear();
        let buckets = self.points.buckets.clone();
        let mut facts = Facts::default();
        self.message(message, &mut facts, |_, _, _| Ok(true))?;
        if facts.kind.is_empty() {
            self.outcome.warn("metric_kind_unknown", 1);
            return Ok(false);
        }
        let mut kept = facts.inside;
        if kept == 0 {
            return Ok(false);
        }
        let mut flaws = std::mem::take(&mut self.points.flaws);
        if facts.name.is_empty() {
            flaws = (0..kept).map(|index| (index, "metric_name_empty")).collect();
        }
        if !flaws.is_empty() {
            self.reject_points(&facts, &flaws)?;
            if flaws.len() == kept {
                return Ok(false);
            }
            let mut chosen = vec![true; kept];
            for &(index, _) in &flaws {
                chosen[index] = false;
            }
            kept -= flaws.len();
            self.out.truncate(start);
            self.points.warnings.clear();
            self.points.buckets = buckets;
            self.read_points_again(message, &facts, chosen)?;
        }
        let has_temporality = matches!(facts.kind, "sum" | "histogram" | "exponentialHistogram");
        if has_temporality && facts.temporality == 0 {
            self.outcome.warn("temporality_unspecified", 1);
        }
        for code in self.points.warnings.drain(..) {
            self.outcome.warn(code, 1);
        }
        self.outcome.items += kept;
        Ok(true)
    }

    fn read_points_again(
        &mut self,
        message: &'static Message,
        facts: &Facts,
        chosen: Vec<bool>,
    ) -> Take<()> {
        let end = std::mem::replace(&mut self.scan.at, facts.at);
        self.points.chosen = Some(chosen);
        self.is_again = true;
        self.message(message, &mut Facts::default(), |_, _, _| Ok(true))?;
        self.is_again = false;
        self.points.chosen = None;
        self.scan.at = end;
        Ok(())
    }

    /// Points that go for one reason are told, and kept, together.
    #[cold]
    fn reject_points(&mut self, facts: &Facts, flaws: &[(usize, &'static str)]) -> Take<()> {
        let mut reasons: Vec<&'static str> = Vec::new();
        for (_, reason) in flaws {
            if !reasons.contains(reason) {
                reasons.push(reason);
            }
        }
        for reason in reasons {
            let of_reason = flaws.iter().filter(|flaw| flaw.1 == reason);
            let numbers: Vec<usize> = of_reason.map(|flaw| flaw.0).collect();
            let points = format!("{}.dataPoints[{}]", facts.kind, numbers[0]);
            let mut chosen = vec![false; facts.inside];
            for &index in &numbers {
                chosen[index] = true;
            }
            self.reject(Reject {
                place: self.place,
                at: facts.at,
                reason,
                member: match reason {
                    "metric_name_empty" => "name".to_owned(),
                    "value_missing" => points,
                    _ => points + ".timeUnixNano",
                },
                chosen: Some(chosen),
                items: numbers.len(),
                ..Reject::default()
            })?;
        }
        Ok(())
    }

    /// A point. False: it is not one of those that are read this time.
    pub fn point(&mut self, message: &'static Message, index: usize) -> Take<bool> {
        let chosen = self.points.chosen.as_ref();
        if chosen.is_some_and(|chosen| chosen.get(index) != Some(&true)) {
            self.scan.ignore()?;
            return Ok(false);
        }
        let mut facts = Facts::default();
        self.message(message, &mut facts, |pass, facts, _| {
            if !pass.is_as_sent {
                pass.check_point(message, facts, index);
            }
            Ok(true)
        })
    }

    fn check_point(&mut self, message: &'static Message, facts: &mut Facts, index: usize) {
        let lacks_value = is(message, &NUMBER_POINT) && !facts.has_one_of;
        // Whether the metric has a name may come later.
        if let Some(reason) = flaw_of_point(true, lacks_value, facts.flags, facts.time) {
            self.points.flaws.push((index, reason));
            return;
        }
        self.points.warnings.extend(judge_time(facts.time, self.given.now_ns));
        let histogram = &mut facts.histogram;
        let buckets = &mut self.points.buckets;
        let fits = if facts.flags & NO_RECORDED_VALUE != 0 {
            true
        } else if is(message, &HISTOGRAM_POINT) {
            buckets.fits(histogram)
        } else if is(message, &EXPONENTIAL_POINT) {
            histogram.sum += u128::from(facts.zero_count);
            buckets.fits_exponentially(histogram)
        } else {
            true
        };
        if !fits {
            self.points.warnings.push("histogram_shape");
        }
    }

    /// An exemplar. False: it has no value, for which others refuse whole requests.
    pub fn exemplar(&mut self) -> Take<bool> {
        self.message(&EXEMPLAR, &mut Facts::default(), |pass, facts, _| {
            if pass.is_as_sent {
                return Ok(true);
            }
            if [facts.trace, facts.span].contains(&Id::Malformed) {
                pass.points.warnings.push("exemplar_ids_malformed");
            }
            if !facts.has_one_of {
                pass.points.warnings.push("exemplar_without_value");
            }
            Ok(facts.has_one_of)
        })
    }
}
