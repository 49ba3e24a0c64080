"""Slow, obvious twins of the clever functions: written from the definition, for comparison only."""

import json
import math


def prometheus_series(body: bytes) -> list[tuple[dict[str, str], list[float], list[float]]]:
    """Labels, times and values of each series of an answer; NaN for what is not finite."""
    data = json.loads(body)["data"]
    if data["resultType"] == "scalar":
        items = [{"metric": {}, "values": [data["result"]]}]
    else:
        items = [{"values": [item.get("value")], **item} for item in data["result"]]
    found = []
    for item in items:
        times, values = [], []
        for time, text in item["values"]:
            value = float(text)
            times.append(float(time))
            values.append(value if math.isfinite(value) else math.nan)
        found.append((item["metric"], times, values))
    return found
