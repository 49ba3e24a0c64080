"""The HTTP application: /metrics, health, the REST API and the page."""
