"""What models and agents did, read out of spans, log records and metrics.

Pure: rows and structs in, values and documents out.
"""
