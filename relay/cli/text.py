"""Numbers for people, as commands print them."""

from relay.model.units import about_bytes, about_duration

__all__ = ["about_bytes", "about_duration"]
