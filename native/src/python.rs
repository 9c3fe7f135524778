//! What Python sees: `FORMAT`, `Preparer`, `to_protobuf`, `to_json`, `schema`.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyTuple};

use crate::cut::{self, Part};
use crate::messages::{Holds, Kind, Message, Signal};
use crate::outcome::{
    Addition, Given, Heavy, MalformedIds, Odd, Outcome, Steps, Take, keep_buffer,
};
use crate::protobuf;
use crate::{into_json, json};

/// What `relay/otlp/native.py` must know to use this: raised with every change of what is
/// called or given back.
const FORMAT: u32 = 3;
const JSON: u8 = 1;
const PROTOBUF: u8 = 2;
/// Below so many bytes giving up the interpreter's lock costs more than it gives.
const LOCK_FREE_BYTES: usize = 64 * 1024;

/// Key, former name and encoded attribute of each addition.
type Additions = Vec<(Vec<u8>, Vec<u8>, Vec<u8>)>;

/// Prepares bodies under one configuration.
#[pyclass(frozen)]
struct Preparer {
    malformed_ids: MalformedIds,
    row_bytes: usize,
    /// By signal, encoding, and whether the sender is local.
    additions: [[[Vec<Addition>; 2]; 2]; 3],
}

#[pymethods]
impl Preparer {
    /// `additions` by signal, encoding, and whether the sender is local; whoever is not in it
    /// gets none.
    #[new]
    fn new(
        malformed_ids: &str,
        row_bytes: usize,
        additions: Vec<(u8, u8, bool, Additions)>,
    ) -> PyResult<Self> {
        let malformed_ids = match malformed_ids {
            "reject" => MalformedIds::Reject,
            "derive" => MalformedIds::Derive,
            "auto" => MalformedIds::Auto,
            _ => return Err(PyValueError::new_err("malformed_ids")),
        };
        let mut preparer = Self { malformed_ids, row_bytes, additions: Default::default() };
        for (signal, encoding, is_local, of) in additions {
            let (1..=3, JSON | PROTOBUF) = (signal, encoding) else {
                return Err(PyValueError::new_err("signal or encoding"));
            };
            preparer.additions[signal as usize - 1][encoding as usize - 1][usize::from(is_local)] =
                of.into_iter()
                    .map(|(key, former, encoded)| Addition { key, former, encoded })
                    .collect();
        }
        Ok(preparer)
    }

    /// Parts, items, flags, warnings or None, rejected or None, places; or None. Of a part: body,
    /// items, trace ids, services. False if it `is_bounded` and there is more to the body than an
    /// event loop has time for.
    #[expect(clippy::too_many_arguments)] // Python has names for them
    fn prepare<'py>(
        &self,
        py: Python<'py>,
        body: &Bound<'py, PyAny>,
        encoding: u8,
        signal: u8,
        is_local: bool,
        now_ns: i64,
        is_bounded: bool,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let (Some(kind), JSON | PROTOBUF) = (Signal::of(signal), encoding) else {
            return Ok(None);
        };
        let (Some(body), Ok(now_ns)) = (bytes_of(body), u64::try_from(now_ns)) else {
            return Ok(None);
        };
        let given = Given {
            body,
            signal: kind,
            additions: &self.additions[signal as usize - 1][encoding as usize - 1]
                [usize::from(is_local)],
            malformed_ids: self.malformed_ids,
            now_ns,
            steps: if is_bounded { Steps::ONE_TURN } else { Steps::ALL },
        };
        let prepare = if encoding == JSON { json::prepare } else { protobuf::prepare };
        let made = take(py, body.len(), || {
            let mut outcome = prepare(&given).and_then(Outcome::bounded)?;
            let parts = cut::parts(&mut outcome, encoding == JSON, kind, self.row_bytes)?;
            Ok((outcome, parts))
        });
        match made {
            Ok((outcome, parts)) => Ok(Some(answer(py, outcome, parts)?.into_any())),
            Err(Odd) => Ok(None),
            Err(Heavy) => Ok(Some(PyBool::new(py, false).to_owned().into_any())),
        }
    }
}

/// The bytes of an object that cannot be changed while they are read.
fn bytes_of<'a>(object: &'a Bound<'_, PyAny>) -> Option<&'a [u8]> {
    object.cast::<PyBytes>().ok().map(PyBytesMethods::as_bytes)
}

/// Run it, without the interpreter's lock where that is worth it. A panic is `Odd`.
fn take<T: Send>(py: Python<'_>, bytes: usize, work: impl FnOnce() -> Take<T> + Send) -> Take<T> {
    // Nothing outlives a panic: all that the work writes to is its own.
    let work = AssertUnwindSafe(work);
    let caught = || catch_unwind(work).unwrap_or(Err(Odd));
    if bytes < LOCK_FREE_BYTES { caught() } else { py.detach(caught) }
}

fn answer(py: Python<'_>, outcome: Outcome, parts: Vec<Part>) -> PyResult<Bound<'_, PyTuple>> {
    let warnings = if outcome.warnings.is_empty() {
        None
    } else {
        let warnings = PyDict::new(py);
        for (code, times) in outcome.warnings {
            warnings.set_item(code, times)?;
        }
        Some(warnings)
    };
    let rejected = if outcome.rejected.is_empty() {
        None
    } else {
        let rejected = outcome.rejected.into_iter().map(|each| {
            let [entry, scope, record] = each.place;
            let fragment = PyBytes::new(py, &each.fragment);
            (each.reason, each.member, (entry, scope, record), each.trace_id, fragment, each.items)
        });
        Some(rejected.collect::<Vec<_>>())
    };
    let parts = parts.into_iter().map(|part| {
        let (body, ids) = (PyBytes::new(py, &part.body), PyBytes::new(py, &part.trace_ids));
        keep_buffer(part.body);
        (body, part.items, ids, PyTuple::new(py, part.services)?).into_pyobject(py)
    });
    (
        PyTuple::new(py, parts.collect::<PyResult<Vec<_>>>()?)?,
        outcome.items,
        outcome.flags,
        warnings,
        rejected,
        outcome.places,
    )
        .into_pyobject(py)
}

/// A kept fragment in JSON as one in protobuf, or None.
#[pyfunction]
fn to_protobuf<'py>(
    py: Python<'py>,
    fragment: &Bound<'py, PyAny>,
    signal: u8,
) -> Option<Bound<'py, PyBytes>> {
    transcoded(py, fragment, signal, json::to_protobuf)
}

/// A kept fragment in protobuf as one in JSON, or None.
#[pyfunction]
fn to_json<'py>(
    py: Python<'py>,
    fragment: &Bound<'py, PyAny>,
    signal: u8,
) -> Option<Bound<'py, PyBytes>> {
    transcoded(py, fragment, signal, into_json::to_json)
}

fn transcoded<'py>(
    py: Python<'py>,
    fragment: &Bound<'py, PyAny>,
    signal: u8,
    work: fn(&[u8], Signal) -> Take<Vec<u8>>,
) -> Option<Bound<'py, PyBytes>> {
    let fragment = bytes_of(fragment)?;
    let signal = Signal::of(signal)?;
    let made = take(py, fragment.len(), || work(fragment, signal)).ok()?;
    let bytes = PyBytes::new(py, &made);
    keep_buffer(made);
    Some(bytes)
}

/// Every message as its name and fields: name, number, kind, how often, the message inside.
#[pyfunction]
fn schema(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let known = PyDict::new(py);
    for signal in [Signal::Traces, Signal::Logs, Signal::Metrics] {
        describe(&known, signal.request())?;
    }
    Ok(known)
}

fn describe(known: &Bound<'_, PyDict>, message: &'static Message) -> PyResult<()> {
    if known.contains(message.name)? {
        return Ok(());
    }
    let mut fields = Vec::new();
    let mut inner = Vec::new();
    for field in message.fields {
        let (kind, inside) = match field.kind {
            Kind::Text => ("string", ""),
            Kind::Bytes | Kind::Id => ("bytes", ""),
            Kind::Bool => ("bool", ""),
            Kind::Int32 => ("int32", ""),
            Kind::SInt32 => ("sint32", ""),
            Kind::UInt32 => ("uint32", ""),
            Kind::Fixed32 => ("fixed32", ""),
            Kind::Int64 => ("int64", ""),
            Kind::SFixed64 => ("sfixed64", ""),
            Kind::UInt64 => ("uint64", ""),
            Kind::Fixed64 => ("fixed64", ""),
            Kind::Double => ("double", ""),
            Kind::Message(inside) => {
                inner.push(inside);
                ("message", inside.name)
            }
        };
        let holds = match field.holds {
            Holds::One => "one",
            Holds::Optional => "optional",
            Holds::OneOf => "oneof",
            Holds::Many => "many",
        };
        fields.push((field.name, field.number, kind, holds, inside));
    }
    known.set_item(message.name, fields)?;
    inner.into_iter().try_for_each(|inside| describe(known, inside))
}

#[pymodule]
fn otlp_relay_native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("FORMAT", FORMAT)?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<Preparer>()?;
    module.add_function(wrap_pyfunction!(to_protobuf, module)?)?;
    module.add_function(wrap_pyfunction!(to_json, module)?)?;
    module.add_function(wrap_pyfunction!(schema, module)?)
}
