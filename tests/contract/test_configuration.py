"""The configuration reference is generated, and describes every key."""

from docs import configuration as reference
from promad.config.settings import key_paths

PEERS = ("web", "peers_http_config")


def test_the_reference_is_the_generated_one():
    """If not: python -m docs.configuration."""
    assert reference.FILE.read_text(encoding="utf-8") == reference.render_reference()


def test_every_key_is_in_the_reference():
    text = reference.FILE.read_text(encoding="utf-8")
    for path in key_paths():
        if path[:2] == PEERS and len(path) > 2:
            continue  # the keys of prometheus
        section = any(other[: len(path)] == path and other != path for other in key_paths())
        name = ".".join(each for each in path if each != "*")
        heading = f"# {name}\n" in text or f"Entries of {name}\n" in text
        assert heading if section else f"`{path[-1]}`" in text, name


def test_every_key_is_described_by_itself_or_with_its_whole_section():
    descriptions = reference.read_descriptions()
    for path in key_paths():
        if path[:2] == PEERS:
            continue  # the reference itself explains it
        siblings = [other for other in key_paths() if other[:-1] == path[:-1]]
        keys = [other for other in key_paths() if other[:-1] == path]
        together = not any(map(descriptions.get, siblings)) and (
            descriptions.get(path[:-1]) or descriptions.get(path[:-2])
        )
        explained = descriptions.get(path) or together
        assert explained or (keys and all(map(descriptions.get, keys))), ".".join(path)


def test_a_comment_explains_the_keys_that_follow_it():
    descriptions = reference.read_descriptions()
    lines = [
        "# A head comment.",
        "",
        "# What one and two are.",
        "name: promad",
        "prometheus_url: http://localhost",
        "# A section.",
        "web:",
        "  # The first.",
        "  #external_url: http://localhost",
    ]
    assert dict(reference._read_comments(lines)) == {
        ("name",): "What one and two are.",
        ("prometheus_url",): "What one and two are.",
        ("web",): "A section.",
        ("web", "external_url"): "The first.",
    }
    assert descriptions["data_settings", "start_time_iso"] == "Instead: a single period."
    assert descriptions["queries", "*"].startswith("The long form of a query.")
    assert ("data_settings", "collection_periods_iso", "*", "start") in descriptions
