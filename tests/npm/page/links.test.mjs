import assert from "node:assert/strict";
import { test } from "node:test";

import {
  linkToDashboard, linkToExplore, linkToPrometheus,
} from "../../../promad/web/static/links.js";

const RANGE = { start: 1_750_000_000.5, end: 1_750_000_900 };

test("a link to Prometheus has one graph for each expression", () => {
  const url = new URL(linkToPrometheus("http://p.example:9090/prom/", ["up", 'a{b="&"}'], RANGE));
  assert.equal(url.origin + url.pathname, "http://p.example:9090/prom/graph");
  assert.deepEqual(Object.fromEntries(url.searchParams), {
    "g0.expr": "up", "g0.tab": "0", "g0.range_input": "900s", "g0.end_input": "2025-06-15 15:21:40",
    "g1.expr": 'a{b="&"}', "g1.tab": "0", "g1.range_input": "900s",
    "g1.end_input": "2025-06-15 15:21:40",
  });
});

test("a range is at least a minute", () => {
  assert.match(linkToPrometheus("http://p", ["up"], { start: 0, end: 5 }), /range_input=60s/);
});

test("a link to the dashboard is in milliseconds", () => {
  const url = linkToDashboard("https://g.example", RANGE);
  assert.equal(url, "https://g.example/d/promad?from=1750000000500&to=1750000900000");
});

test("a link to Explore has the expression", () => {
  const url = new URL(linkToExplore("https://g.example/sub", "rate(a[5m])", RANGE));
  const { promad } = JSON.parse(url.searchParams.get("panes"));
  assert.equal(url.pathname, "/sub/explore");
  assert.equal(promad.queries[0].expr, "rate(a[5m])");
  assert.deepEqual(promad.range, { from: "1750000000500", to: "1750000900000" });
});

test("only HTTP addresses are linked", () => {
  for (const base of ["javascript:alert(1)//", "file:///etc/passwd", "data:text/html,x", "none", ""]) {
    assert.equal(linkToPrometheus(base, ["up"], RANGE), null);
    assert.equal(linkToDashboard(base, RANGE), null);
    assert.equal(linkToExplore(base, "up", RANGE), null);
  }
});

test("credentials and the query of the base are not in the link", () => {
  const url = linkToDashboard("http://user:secret@g.example/?token=x", RANGE);
  assert.equal(url, "http://g.example/d/promad?from=1750000000500&to=1750000900000");
});
