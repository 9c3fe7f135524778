"""The name of a vendor in; the rules by which its endpoint takes and refuses requests out.

Each function below is one vendor: what it insists on and how it says no, as its documentation, its
source or a run of it shows. What nobody could confirm is modelled all the same, as the likeliest,
and said in `unconfirmed`. Limits that cut or drop silently, or refuse only later, are not modelled;
neither are rate limits: a script does those (`429:retry-after=5`).

A token is what the vendor calls its key; for Basic authentication it is USER:PASSWORD, or the
base64 of that. Where the vendor can do without one, the empty token asks for none.
"""

import difflib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from mockcollector.profiles.collectors import grafana_cloud, jaeger, otel_collector, signoz, tempo
from mockcollector.profiles.hosted import (
    axiom,
    dash0,
    datadog,
    honeycomb,
    lightstep,
    newrelic,
    openobserve,
    uptrace,
)
from mockcollector.profiles.llm import langfuse, mlflow, phoenix
from mockcollector.profiles.loki import loki
from mockcollector.profiles.parts import Profile
from mockcollector.profiles.prometheus import mimir, prometheus
from mockcollector.profiles.victoria import victoria_logs, victoria_metrics

__all__ = [
    "PROFILES",
    "Profile",
    "ProfileError",
    "axiom",
    "build",
    "dash0",
    "datadog",
    "grafana_cloud",
    "honeycomb",
    "jaeger",
    "langfuse",
    "lightstep",
    "loki",
    "mimir",
    "mlflow",
    "newrelic",
    "openobserve",
    "options_of",
    "otel_collector",
    "phoenix",
    "prometheus",
    "signoz",
    "tempo",
    "uptrace",
    "victoria_logs",
    "victoria_metrics",
]


class ProfileError(ValueError):
    """There is no such profile or option; the message names those that there are."""


PROFILES: Mapping[str, Callable[..., Profile]] = {
    make.__name__.replace("_", "-"): make
    for make in (
        axiom,
        dash0,
        datadog,
        grafana_cloud,
        honeycomb,
        jaeger,
        langfuse,
        lightstep,
        loki,
        mimir,
        mlflow,
        newrelic,
        openobserve,
        otel_collector,
        phoenix,
        prometheus,
        signoz,
        tempo,
        uptrace,
        victoria_logs,
        victoria_metrics,
    )
}


def build(name: str, token: str | None = None, **options: Any) -> Profile:
    """The profile of this name, with its default token unless one is given.

    Raises ProfileError for a name or an option that does not exist.
    """
    if name not in PROFILES:
        near = difflib.get_close_matches(name, PROFILES, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ProfileError(f"{hint}there is no profile {name!r}; there are {', '.join(PROFILES)}")
    make = PROFILES[name]
    chosen = options if token is None else {"token": token, **options}
    known = options_of(name)
    for key, value in chosen.items():
        if key not in known:
            raise ProfileError(f"{name} has no {key}; it has {', '.join(known) or 'no options'}")
        if type(value) is not type(known[key]):
            kind = "true or false" if isinstance(known[key], bool) else "a text"
            raise ProfileError(f"{key} of {name} is {kind}")
    summary = " ".join((inspect.getdoc(make) or "").split())
    try:
        return replace(make(**chosen), name=name, summary=summary)
    except ValueError as error:
        raise ProfileError(f"{name}: {error}") from None


def options_of(name: str) -> dict[str, str | bool]:
    """What can be set of a profile, with the defaults; `token` is one of them where it has one."""
    return {key: p.default for key, p in inspect.signature(PROFILES[name]).parameters.items()}
