"""Known incidents, which a backtest is held against: a small file of its own."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from promad.config.document import NotYamlError, parse_document
from promad.config.settings import Period
from promad.config.values import Text
from promad.errors import ConfigError


class Incident(Period):
    """When something was wrong, and what: unix seconds, both ends included."""

    name: Text = "incident"


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    incidents: tuple[Incident, ...] = Field(min_length=1)


def load_incidents(path: Path) -> tuple[Incident, ...]:
    """The incidents in a file, in order of time.

    The file is YAML: `incidents:` and below it a list of `start`, `end` and, if wanted, `name`.

    Raises:
        ConfigError: with one line for every mistake in the file.
    """
    try:
        document = parse_document(path.read_text(encoding="utf-8"))
        found = _File.model_validate(document.values)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ConfigError([f"{path}: cannot be read ({reason})"]) from None
    except NotYamlError as error:
        raise ConfigError([f"{path}:{error.line}: {error}"]) from None
    except ValidationError as error:
        raise ConfigError(
            [
                f"{path}:{document.find_line(each['loc'])}: {'.'.join(map(str, each['loc']))}: "
                f"{each.get('ctx', {}).get('error', each['msg'])}"
                for each in error.errors(include_url=False)
            ]
        ) from None
    return tuple(sorted(found.incidents, key=lambda incident: incident.start))
