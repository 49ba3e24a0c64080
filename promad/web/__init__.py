"""The HTTP server: /metrics, health, and the landing page."""
