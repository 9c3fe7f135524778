"""A command that exports OTLP/HTTP in; a card that says how it keeps to the specification out.

The command is run once for each *setup*: an environment, and a collector for each signal with a
script (`setups`). What came there is the *wire* of a signal (`wire`), and a *scenario* judges it:
a title, the clause of the specification, and a function from evidence to a finding (`scenarios_…`,
`judges`). `runner` runs them, `card` holds the results, `render_…` show them.
"""
