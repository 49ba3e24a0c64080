"""What Prometheus and Grafana are told about promad: rules, alerts and dashboards.

    configs ─► Deployment ─┬─► recording, alerts ─► rules ─► prometheus/*.yaml
                           └─► detail, fleet, health ─► board ─► grafana/dashboards/*.json

`deployment` takes from the configurations what all of it depends on: how the metrics' names begin,
how often there is a sample, and when one is late. `recording` and `alerts` say in PromQL what to
compute and when to wake somebody, `describing` has Prometheus put promad's own explanation together
for the alert, and `rules` writes both down as YAML.

Each of `detail`, `fleet` and `health` is one dashboard in reading order: rows, and the panels in
each. They take their PromQL from `promql`, which knows the dashboards' variables, and their panels
from `looks`, one function for each kind; `board` puts variables and links around them. These need
Grafana's SDK, the extra `mixin`, which nothing else in promad imports.

`writing` turns it all into files.
"""
