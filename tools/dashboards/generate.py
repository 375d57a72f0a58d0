#!/usr/bin/env python3
"""Writes deploy/grafana/dashboards from the modules beside it; with --check it only says whether they are what it would write.

Needs Grafana's SDK on PYTHONPATH: `make dashboards`.
"""

import json
import pathlib
import sys

import coap
import dns
import mqtt
import overview

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "deploy" / "grafana" / "dashboards"


def main():
    different = []
    for module in (overview, mqtt, coap, dns):
        name = f"{module.__name__}.json"
        file = FOLDER / name
        text = json.dumps(module.DASHBOARD, indent=1, ensure_ascii=False) + "\n"
        if file.exists() and file.read_text() == text:
            continue
        different.append(name)
        if "--check" not in sys.argv:
            file.write_text(text)
            print(f"deploy/grafana/dashboards/{name}")
    if different and "--check" in sys.argv:
        sys.exit(f"not what `make dashboards` writes: {', '.join(different)}")


if __name__ == "__main__":
    main()
