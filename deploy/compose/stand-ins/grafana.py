"""Stands in for Grafana where its image cannot be had: it reads the provisioning files and dashboards that Grafana would
read, ends with status 1 and a list of all mistakes if there are any, and else answers from what it read.

It draws nothing, and is more severe than Grafana, which starts with dashboards that it cannot use.

    GET /api/health               as Grafana answers
    GET /api/search               the dashboards: uid, title, url, type
    GET /api/dashboards/uid/<uid> one of them, whole
"""

import json
import os
import pathlib
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import yaml

PROVISIONING = pathlib.Path(os.environ.get("GF_PATHS_PROVISIONING", "/etc/grafana/provisioning"))


class Provisioned:
    """What was read, and what is wrong with it."""

    def __init__(self, folder):
        self.mistakes = []
        self.datasources = {}
        self.dashboards = {}
        for path, entry in self._entries(folder / "datasources", "datasources"):
            self._datasource(path, entry)
        for path, entry in self._entries(folder / "dashboards", "providers"):
            self._provider(path, entry)
        defaults = [uid for uid, source in self.datasources.items() if source.get("isDefault")]
        if len(defaults) > 1:
            self._wrong(folder, f"more than one default data source: {defaults}")

    def _wrong(self, path, what):
        self.mistakes.append(f"{path}: {what}")

    def _has(self, path, entry, fields):
        """Whether all these fields are texts; what is not is a mistake."""
        absent = [name for name in fields if not isinstance(entry.get(name), str) or not entry[name]]
        if absent:
            self._wrong(path, f"{entry.get('name', 'an entry')} has no {', '.join(absent)}")
        return not absent

    def _entries(self, folder, key):
        files = sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")])
        if not files:
            self._wrong(folder, "no files")
        for path in files:
            try:
                content = yaml.safe_load(path.read_text())
            except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
                self._wrong(path, error)
                continue
            if not isinstance(content, dict) or content.get("apiVersion") != 1:
                self._wrong(path, "apiVersion is not 1")
                continue
            entries = content.get(key)
            if not isinstance(entries, list) or not entries:
                self._wrong(path, f"no {key}")
                continue
            for entry in entries:
                if isinstance(entry, dict):
                    yield path, entry
                else:
                    self._wrong(path, f"{entry!r} in {key} is not a mapping")

    def _datasource(self, path, source):
        if not self._has(path, source, ["name", "type", "uid", "url"]):
            return
        if source.get("access", "proxy") not in ("proxy", "direct"):
            self._wrong(path, f"access of {source['name']} is {source['access']!r}")
        if source["uid"] in self.datasources:
            self._wrong(path, f"two data sources have the uid {source['uid']}")
        self.datasources[source["uid"]] = source

    def _provider(self, path, provider):
        if provider.get("type", "file") != "file":
            self._wrong(path, f"type of {provider.get('name')} is {provider['type']!r}")
            return
        folder = (provider.get("options") or {}).get("path")
        if not isinstance(folder, str) or not pathlib.Path(folder).is_dir():
            self._wrong(path, f"options.path {folder!r} is not a folder")
            return
        files = sorted(pathlib.Path(folder).rglob("*.json"))
        if not files:
            self._wrong(path, f"no dashboards in {folder}")
        for file in files:
            self._dashboard(file)

    def _dashboard(self, path):
        try:
            dashboard = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            self._wrong(path, error)
            return
        if not isinstance(dashboard, dict):
            self._wrong(path, "not an object")
            return
        if not self._has(path, dashboard, ["uid", "title"]):
            return
        uid = dashboard["uid"]
        if len(uid) > 40:
            self._wrong(path, f"the uid {uid} is longer than 40 characters")
        for other in self.dashboards.values():
            for field in ("uid", "title"):
                if other[field] == dashboard[field]:
                    self._wrong(path, f"two dashboards have the {field} {dashboard[field]!r}")
        if not isinstance(dashboard.get("schemaVersion"), int):
            self._wrong(path, "no schemaVersion")
        panels = dashboard.get("panels")
        if not isinstance(panels, list) or not all(isinstance(panel, dict) for panel in panels):
            self._wrong(path, "panels is not a list of objects")
            return
        for panel in panels:
            self._panel(path, panel)
        self.dashboards[uid] = dashboard

    def _panel(self, path, panel):
        if not isinstance(panel.get("type"), str):
            self._wrong(path, f"the panel {panel.get('title')!r} has no type")
        for used in [panel, *panel.get("targets", [])]:
            source = used.get("datasource")
            uid = source.get("uid") if isinstance(source, dict) else source
            # What begins with $ is a variable of the dashboard, and what begins with - is Grafana's own.
            if uid and not uid.startswith(("$", "-")) and uid not in self.datasources:
                self._wrong(path, f"the panel {panel.get('title')!r} uses the data source {uid}, which there is not")
        for inner in panel.get("panels", []):
            self._panel(path, inner)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        provisioned = self.server.provisioned
        path = self.path.split("?")[0]
        uid = path.removeprefix("/api/dashboards/uid/")
        if path == "/api/health":
            self._answer(200, {"database": "ok", "version": "stand-in", "commit": ""})
        elif path == "/api/search":
            dashboards = provisioned.dashboards.items()
            found = [{"uid": uid, "title": d["title"], "url": f"/d/{uid}", "type": "dash-db"} for uid, d in dashboards]
            self._answer(200, found)
        elif uid in provisioned.dashboards:
            self._answer(200, {"meta": {"provisioned": True}, "dashboard": provisioned.dashboards[uid]})
        elif path == "/":
            self._answer(200, {"message": "This stands in for Grafana and draws nothing: see docs/compose.md"})
        else:
            self._answer(404, {"message": "Not found"})

    def _answer(self, status, content):
        content = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        """Nobody reads them."""


def main():
    provisioned = Provisioned(PROVISIONING)
    if provisioned.mistakes:
        sys.exit("\n".join(provisioned.mistakes))
    for uid, dashboard in provisioned.dashboards.items():
        print(f"dashboard {uid}: {dashboard['title']}")
    server = ThreadingHTTPServer(("0.0.0.0", 3000), Handler)
    server.daemon_threads = True
    server.provisioned = provisioned
    # The first process of a container gets no signal that it has not asked for.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    server.serve_forever()


if __name__ == "__main__":
    main()
