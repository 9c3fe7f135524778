"""Keeps accepted requests on disk until every destination has had them.

"200 means kept": `Log.append` returns after the commit that holds the request was synced.

`api` is the face: what the rest of the relay may ask of an engine, in the `values` beside it.
`sqlite` is the engine, of which everything from here on speaks.

Files, all 0600 in a directory of 0700::

    relay.db, relay.db-wal, relay.db-shm   SQLite, WAL, 4 KiB pages, incremental vacuum
    lock                                   flock of the one daemon that may be here, with its pid
    reserve                                room that is given back when the disk is full
    last-row                               where the file stood last, and whom it owed what then
    relay.db.corrupt-TIME[-wal]            quarantined whole: SQLite could not use it
    relay.db.schema-N-TIME[-wal]           quarantined untouched: written by a newer version
    relay.db.…-TIME.report.json            what was read back of it; then it may be removed

Tables (drawn in `schema`): `rows`, whole requests of one encoding up to 512 KiB in one zstd frame,
with a checksum over all columns; `traces`, the packed trace ids of each row; `signal_runs`, from
which row on they are of which signal; `destinations`, what each is owed of each signal, as ranges;
`deliveries`, when what was settled with which status (-1: evicted); `dead_letters`; `totals`, sums
over rows that have gone; `tallies`, counts that outlive a restart.

The body of a row is a fragment that concatenates: comma-joined `resourceSpans` entries in JSON,
encoded `resource_spans` fields in protobuf, or what its signal has for them. A batch for an
upstream is a join of bodies.

Where to look: `buffer` is the log, `backlog` the consumer of one destination and signal,
`backlog_name` its name, `owed_ranges` the arithmetic of ranges, `signal_runs` what lets a backlog
pass over other signals. Both stand on `ledger`, what the event loop knows without asking the disk;
`backlogs` hears the news of `writer`, which commits. `lifecycle` keeps the open file (`open`,
`logfile`, `schema`, `directory`), `reader` is asked what memory does not know. Named abilities on
top: `dead_letter_*`, `trace_lookup`, `replay_query`. `space`, a folder beside them, is what gives
way when there is too little of it. Outside: `salvage` reads quarantined files back, `offline` is
what commands do in a process of their own.

Threads: `buffer`, `ledger`, `backlogs` and `backlog` live in the event loop, `writer` owns the one
connection that ever writes or checkpoints, `reader` a read-only one. A group of requests costs one
wake-up each way.

A quarantined file is not looked into: whom it owed what, who was paused and what was counted comes
from the copy in `last-row` (`high_water`). The copy owes at least what the table does: it is synced
before the table owes more, and follows after some seconds when it owes less. The new file notes in
table `salvages` what is to be read back, and `relay.salvage` does that behind the running relay.
Without a good copy everything is owed to everybody.

What holds, at every moment:

- A row's id is never used twice, not even after the table was emptied or the file replaced.
- Rows are owed to every backlog of their signal with an open range without anything being written
  for it. Where no destination asks for a signal they are owed to a backlog of nobody, and the first
  destination that does begins at the beginning. What a range covers of other signals means nothing.
- In memory the ranges are the truth; on disk they owe the same or more. They move with the next
  ingest commit, or by themselves after 200 ms, in one transaction with the dead letters of what
  was settled. So a crash may send again, never skip.
- In flight is known in memory only: after a crash it is owed again.
- A row is deleted only when no range of a backlog of its signal on disk owes any of it, or in one
  transaction with the ranges that did.
- A body leaves the disk only after its checksum was compared. A row that fails becomes a dead
  letter `damaged_on_disk` of the destination that met it, and the file stays in use.

Dead letters have a budget of their own (64 MiB, at most a tenth of `max_size`, and seven days),
which they share fairly: over it, the oldest goes of the destination that holds most, and is
counted in `tallies`. Sent again (`dead_letter_transactions`), a dead letter and the row it becomes
change places in one transaction. Bytes deleted inside pages are overwritten (`secure_delete =
fast`), and to erase dead letters free pages and the WAL are given back, so that nothing of them is
left in any file.

What survives what::

    kill -9            every acknowledged request, with sync = "full" or "normal"
    power loss         every acknowledged request with "full"; with "normal" not the last moments
    full disk          what was kept; it is delivered, new requests are refused until there is room
    I/O error          the same; the file is opened again every second until it works, and its WAL
                       is written back before anything else is taken: after an fsync that failed
                       the system takes for written what never was. A commit whose fsync failed
                       may turn out to be there: it was refused, and comes twice
    fsync that hangs   the same: refused after 7.5 s of waiting, at once after 5 s of hanging. What
                       the hanging commit holds was refused, and comes twice if it succeeds
    damaged row        all others
    damaged pages      the file is quarantined when SQLite says so, or an owed row is not found;
                       a new one is begun with higher ids, and `salvage` reads the old one back
    damaged WAL        SQLite takes it up to the first wrong frame and would write over the rest: a
                       copy is made first, and what stands behind is read back
    WAL lost           `last-row` tells how many rows were in it; their ids never come again
    file removed       noticed within 250 ms of use; refused until it is back or the daemon restarts

`max_size` counts pages in use, WAL and reserve. Space gives way in this order (`housekeeping`):
delivered rows past `keep_delivered` (`retention`), then history down to an eighth of its budget
(`history`), then any delivered row; rows owed only to destinations that have failed for longer than
their `hold`, while another is healthy (`hold_timers`, `eviction`); with `when_full = "drop-oldest"`
rows that every healthy destination has had; then requests are refused. Rows that a healthy
destination has not had, or that are held for ever, never go undelivered.

`reserve` is room for a full file system: given back on ENOSPC, so that ranges can move and rows go
(`reserve`, `disk_errors`); while it is not there its room counts as used (`space`). Table `tallies`
holds what must outlive the process (`counters_table`): spans evicted, seconds of failing, which
rows are of this uptime of the host. Ages are told by that uptime, so that a wall clock that jumps
deletes nothing (`row_age`). `time_to_full` says what is owed and when the buffer will be full.
"""
