"""Which traces a destination gets when it is not to get all: a share of them by chance, and those
that hold something worth keeping.

`probability` is the share: OpenTelemetry's consistent sampling, a function of the trace id alone.
`kept_traces` remembers those that are kept whole.
"""
