"""The API is what its own description says: schemathesis tries what chance comes up with."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from promad.config import WebSettings
from promad.data.shards import Share
from promad.exposition import PeerMetrics
from promad.http_server import WebServer, listen
from promad.shards import OtherShards, SilentError, Timing
from promad.web.app import build_app
from tests.support.served import NOW, close_logs, create_detector, create_running_detectors
from tests.support.served_shards import Network

HERE = Path(__file__).parent
SCHEMATHESIS = Path(sys.executable).parent / "schemathesis"


class Counted:
    """An application, and how often it gave which answer to what."""

    def __init__(self, app):
        self.app = app
        self.answers = Counter()

    async def __call__(self, scope, receive, send):
        async def seen(message):
            if message["type"] == "http.response.start":
                self.answers[scope["method"], scope["path"], message["status"]] += 1
            await send(message)

        await self.app(scope, receive, seen)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_no_request_is_answered_otherwise_than_described(tmp_path):
    narrow = create_detector(["cpu"], length=1)  # so that some of what chance sends can be scored
    running = create_running_detectors(tmp_path, features=["cpu"], detector=narrow)
    only = OtherShards(
        Share(0, 1),
        lambda: WebSettings(peers=("http://promad-0:8001",)),
        PeerMetrics(CollectorRegistry()),
        Timing(lambda: NOW, lambda: NOW),
        Network({}, silent={"http://promad-0:8001": SilentError("not asked")}).connect,
    )
    registry = CollectorRegistry()
    app = Counted(build_app(registry, lambda: running, lambda: True, now=lambda: NOW, shards=only))
    server = WebServer(app, listen("127.0.0.1", 0))
    server.start()
    address = f"http://127.0.0.1:{server.port}/openapi.json"
    settings = ("--config-file", HERE / "schemathesis.toml")
    done = subprocess.run(
        [SCHEMATHESIS, *settings, "run", address],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    server.stop()
    close_logs(running)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "24 selected / 24 total" in done.stdout
    statuses = {status for _, _, status in app.answers}
    assert {200, 400, 404, 405, 415, 422} <= statuses
    assert max(statuses) < 500
    for path in ("/health", "/models", "/config", "/api/v1/groups", "/api/v1/history"):
        assert app.answers["GET", path, 200]
    for path in ("", "/groups", "/incidents", "/0/history"):
        assert app.answers["GET", f"/api/v1/shards{path}", 200]
    assert app.answers["POST", "/score", 200]
