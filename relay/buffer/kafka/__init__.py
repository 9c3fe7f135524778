"""The log on a Kafka cluster: several relays keep requests there, and each delivers a share.

"200 means kept": every piece of the request was acknowledged by each broker that is in sync, at
least two of three, and with `sync = "full"` each has it on its disk. Nothing here is loaded where
the configuration has no `[fleet]`.

Where to look: `settings` names topics and groups, `places` what number a record has as a row,
`records` what a record holds. Of the way in, `bridge` hands records to the client's threads and
brings back its reports.
"""
