"""The log on a Kafka cluster: several relays keep requests there, and each delivers a share.

"200 means kept": every piece of the request was acknowledged by each broker that is in sync, at
least two of three, and with `sync = "full"` each has it on its disk. Nothing here is loaded where
the configuration has no `[fleet]`.

Where to look: `settings` names topics and groups, `places` what number a record has as a row,
`records` what a record holds, `topics` what the brokers are to promise and do. `log` is the whole.
`access` tells why the brokers do not let this relay in, `own_certificate` what is wrong with its
own certificate, `rights` what its account may not do.

Of the way in, `writer` makes records of requests, `bridge` hands them to the client's threads and
brings back its reports, `watch` tells whether the brokers take anything, `retention` how near they
are to deleting what is owed, and `spool` keeps on this disk what they do not take, if asked to.
`trim` deletes what every destination has had, if asked to.

Of the way out, `readers` is the whole: a `backlog` for each destination and signal, with a `lane`
for each partition that is this relay's, and a `member` that shares the partitions with the other
relays and commits. `delivery` brings the two together, `owed_text` is what a commit says beside its
offset, `gather` fills a batch from several partitions, `processed` counts what `[process]` took
from records of others. `fetch` reads: `Tail` all that comes, for all backlogs at once, `Seeker`
what is asked for; `streams` keeps what was read. `letters` are the dead letters of the fleet,
`control` its orders (`orders`, `replays`). `overview` asks the brokers how the fleet is,
`coordinator` what only a group's coordinator knows or does, and how that is asked without harm;
`move_in` moves a single relay's buffer into the fleet.

Of looking, `history` is the whole: `history_reader` reads every record of the fleet once more, in
the order that `history_merge` makes of the partitions, into `history_file`, an index by time and
trace. `history_text` is what relays tell each other of deliveries; `history_views` answers.

What holds on the way out:

- What a commit says is settled was delivered, or its dead letter is acknowledged. What is not known
  to be settled is owed: a commit that cannot be read, or does not hold all, owes more.
- A record that a broker cannot read is never settled. It waits for another leader.
- A partition that goes to another relay is let go only after what is in flight has landed, or four
  seconds. What lands later comes twice.
"""
