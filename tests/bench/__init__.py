"""`make bench`: spans a second and CPU microseconds a span, beside a null server in one run."""
