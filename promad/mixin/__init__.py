"""The mixin: recording rules, alerts and dashboards that fit the configuration.

    configs ─► Deployment ─┬─► recording, alerts ─► rules ─► prometheus/*.yaml
                           └─► three dashboards ─► board ─► grafana/dashboards/*.json

deployment        what all of it depends on: metrics prefix, job, poll interval, sample step
features          what Prometheus records and sends to promad, where that does not poll
recording, alerts the rules; `alert_templates` has the alerts' texts, `rules` writes YAML
*_dashboard       one dashboard each, in reading order: rows, and the panels of each row
panels, tables    one function for each kind of panel
promql            selectors that follow the dashboards' variables
board             variables, links and annotations around the panels; JSON
writing           the files of a mixin

Metric names are those of `promad.exposition.names`. The dashboards need Grafana's SDK, the extra
`mixin`, which nothing else in promad imports.
"""
