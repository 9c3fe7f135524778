"""What is done to items between the buffer and one destination, or before they are kept.

The shape. A destination that asks for anything has one `Steps` (`run.steps_of`), compiled once for
each configuration from the structs of `relay.config.steps`; it is None for one that asks for
nothing, whose batches stay a join of bytes. `Steps` holds, in this order:

- `filters` say of each item, as it was kept, whether it is for the destination: `Filter`. An item
  that one of them speaks against is *filtered*: settled without being sent, counted under the
  filter's `name`, and looked at by no later one.
- `edits` change what is left, in place: `Edit`. An edit that raises takes the item out: it becomes
  a dead letter and is never sent as it was.

So every condition sees the original, whatever is redacted or renamed later. Both look at a `Group`
(`relay.otlp.opened`): items of either encoding with what is around them, as structs in JSON and as
the official messages in protobuf. What a condition sees of them is read by `view`.

`Steps.run` takes a fragment as a row has it, in the row's own encoding, and gives a `Stepped`: the
fragment to send, and for each item of the original what became of it. Nothing is written anywhere:
the ranges that a destination is owed are those of the original items, a row that is sent again is
stepped again, and only what settles a batch counts (`relay.deliver.stepping`).

To add a step: write a `Filter` or an `Edit` in a file of its own, its config words in
`relay.config.steps`, and add it to `run.steps_of`.
"""
