"""HTML pages that work offline: Jinja2 templates, and charts by plotly."""
