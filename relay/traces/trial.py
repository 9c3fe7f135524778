"""What a request would become for one destination, without any daemon: checked, enriched and cut as
on the way in, through `[process]`, then through the destination's steps.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from relay.config import Config, DestinationConfig
from relay.model.records import Encoding, Sender, Signal
from relay.process.prepare import Prepare
from relay.process.settings import before_kept, prepare_settings
from relay.process.steps.run import steps_of


@dataclass(slots=True)
class Trial:
    """`fragments` are what is left, of `encoding`; counts are items, by step where they are many.

    `conditions` says why a condition could not be told, by step.
    """

    encoding: Encoding
    items: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    processed: Counter[str] = field(default_factory=Counter)
    filtered: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)
    failed: int = 0
    sent: int = 0
    fragments: list[bytes] = field(default_factory=list)
    conditions: dict[str, str] = field(default_factory=dict)


async def try_steps(
    body: bytes,
    encoding: Encoding,
    signal: Signal,
    *,
    config: Config,
    destination: DestinationConfig,
    environ: Mapping[str, str],
) -> Trial:
    """Raises Refusal when the body cannot be read or nothing in it is valid, ConfigError where the
    key of hashes cannot be read or made.
    """
    prepare = Prepare(prepare_settings(config, environ))
    sender = Sender("127.0.0.1", is_local=True)
    prepared = prepare(body, encoding, sender, signal=signal)
    trial = Trial(encoding, prepared.items, dict(prepared.rejected_by_reason))
    process = before_kept(config.process)
    if process is not None:
        prepared, trial.processed = await process.prepared(prepared)
        trial.rejected = dict(prepared.rejected_by_reason)
    steps = steps_of(destination)
    for piece in prepared.pieces:
        if steps is None:
            trial.sent += piece.items
            trial.fragments.append(piece.body)
            continue
        stepped = steps.run(piece.body, encoding, signal)
        trial.filtered += stepped.filtered
        trial.changed += stepped.changed
        trial.failed += stepped.failed
        trial.sent += stepped.items
        if stepped.items:
            trial.fragments.append(stepped.body)
    for name, condition in (steps.conditions if steps else {}).items():
        if condition.failures:
            trial.conditions[name] = condition.failure
    return trial
