"""What Prometheus has of many groups: series sorted into the groups that their labels name."""
