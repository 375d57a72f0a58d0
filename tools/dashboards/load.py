#!/usr/bin/env python3
"""Servers, Envoys, a Prometheus and clients on 127.0.0.1, so that the dashboards have something to show.

Usage: tools/dashboards/load.py ENVOY MINUTES      (from the repository's root, after `make wasm certs`)

Besides ordinary traffic there is, in each sixth of the time, some trouble: who is refused, servers that are down, more
than the limits allow. Prometheus listens on 127.0.0.1:19090; what everything writes is in .build/dashboards.
"""

import http.server
import json
import math
import os
import pathlib
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
RUN = ROOT / ".build" / "dashboards"
PROMETHEUS = 19090
ADMIN = {"mqtt": 19901, "coap": 19902, "dns": 19903}


def port(number):
    """Where a port of the example configurations is here."""
    return number + 10000


class Processes:
    """What was started; ends with the `with` block."""

    def __init__(self):
        self.running = []
        self.lock, self.ended = threading.Lock(), False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # From now on nothing is started any more, by whatever thread.
        with self.lock:
            self.ended = True
        for process in reversed(self.running):
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()

    def start(self, name, *command, **options):
        log = open(RUN / f"{name}.log", "ab")
        options = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, "cwd": ROOT} | options
        with self.lock:
            if self.ended:
                raise OSError("the load is over")
            process = subprocess.Popen([str(part) for part in command], **options)
            self.running.append(process)
        return process

    def forget_the_ended(self):
        with self.lock:
            self.running = [process for process in self.running if process.poll() is None]


MQTT_FILTER = """max_buffered_size: 65536
                rules:
                - {topic_filters: [telemetry/#], packets: [publish], carry: request}
                - {topic_filters: [commands/#], packets: [publish, subscribe], carry: check, verdict_cache: 10s}
                rate_limits: [{per: client_id, messages: {per_second: 30, burst: 60}, exceeded: reject}]
"""
MQTT_ROUTES = """              routes:
              - {name: secret, match: {prefix: /commands/secret}, direct_response: {status: 403}}
              - name: check
                match: {prefix: /, headers: [{name: x-carry, string_match: {exact: check}}]}
                direct_response: {status: 200}
              - {name: telemetry, match: {prefix: /telemetry/}, route: {cluster: telemetry, timeout: 2s}}
"""
MQTT_CLUSTERS = """  clusters:
  - name: telemetry
    type: STATIC
    load_assignment:
      cluster_name: telemetry
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 28080}}}}]}]
"""
# Messages that are requests count in Envoy's limit per address, too, and here all come from one.
MQTT_LIMIT = (
    "token_bucket: {max_tokens: 50, tokens_per_fill: 10, fill_interval: 1s}",
    "token_bucket: {max_tokens: 120, tokens_per_fill: 60, fill_interval: 1s}",
)


def replaced(text, before, after):
    assert text.count(before) >= 1, before
    return text.replace(before, after, 1)


def envoy_config(protocol):
    """The example configuration on other ports, for MQTT with rules as well."""
    text = (ROOT / "envoy-configs" / f"{protocol}.yaml").read_text()
    if protocol == "mqtt":
        text = replaced(text, "max_buffered_size: 65536\n", MQTT_FILTER)
        text = replaced(text, "              routes:\n", MQTT_ROUTES)
        text = replaced(text, "  clusters:\n", MQTT_CLUSTERS)
        text = replaced(text, *MQTT_LIMIT)
    if protocol == "dns":
        text = replaced(text, "{per_second: 1000, burst: 5000}", "{per_second: 300, burst: 600}")
        text = replaced(text, "transport: udp\n", "transport: udp\n                query_log: {one_in: 100}\n")
    out = []
    for index, part in enumerate(text.split("port_value: ")):
        if index:
            digits = part[: len(part) - len(part.lstrip("0123456789"))]
            number = int(digits)
            number = ADMIN[protocol] if number == 9901 else port(number) if number else 0
            part = f"{number}{part[len(digits) :]}"
        out.append(part)
    return "port_value: ".join(out)


class Service(http.server.BaseHTTPRequestHandler):
    """Takes telemetry, most of it quickly."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        time.sleep(random.lognormvariate(-4.5, 0.8))
        self.send_response(503 if random.random() < 0.01 else 204)
        self.send_header("content-length", "0")
        self.end_headers()

    do_GET = do_PUT = do_POST

    def log_message(self, *_):
        pass


def wait_for(number):
    """For the Envoy, or Prometheus, that is there."""
    path = "-/ready" if number == PROMETHEUS else "ready"
    for _ in range(600):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{number}/{path}", timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    sys.exit(f"nothing is ready on {number}: see {RUN}")


def unbound(processes, name, number, records):
    config = RUN / f"{name}.conf"
    config.write_text(
        f'server:\n  chroot: ""\n  username: ""\n  pidfile: ""\n  directory: /\n  use-syslog: no\n  do-daemonize: no\n'
        f"  num-threads: 1\n  module-config: iterator\n  interface: 127.0.0.1@{number}\n{records}"
    )
    return processes.start(name, shutil.which("unbound") or "/usr/sbin/unbound", "-d", "-p", "-c", config)


class Brokers:
    def __init__(self, processes):
        self.processes = processes
        self.start()

    def start(self):
        self.running = [self.broker(port(number)) for number in (21883, 21884, 21885)]

    def broker(self, number):
        config = RUN / f"broker-{number}.conf"
        config.write_text(f"listener {number} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 100000\n")
        program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        return self.processes.start(f"broker-{number}", program, "-c", config)

    def stop(self):
        for process in self.running:
            process.kill()
            process.wait()


class Phase:
    """Which sixth of the time it is: 0 to 5."""

    def __init__(self, seconds):
        self.began, self.seconds = time.monotonic(), seconds

    def elapsed(self):
        return time.monotonic() - self.began

    def over(self):
        return self.elapsed() >= self.seconds

    @property
    def refusals(self):
        return 1 / 6 <= self.share() < 2 / 6

    @property
    def outage(self):
        return 2.7 / 6 <= self.share() < 3.3 / 6

    @property
    def burst(self):
        return 4 / 6 <= self.share() < 5 / 6

    def share(self):
        return self.elapsed() / self.seconds

    def wave(self):
        """Between 0.4 and 1.6, up and down about every five minutes."""
        return 1 + 0.6 * math.sin(self.elapsed() / 48)


def every(seconds, phase, work):
    """Calls `work` again and again in a thread of its own."""

    def run():
        while not phase.over():
            began = time.monotonic()
            try:
                work()
            except OSError as error:
                print(f"{work.__name__}: {error}", flush=True)
            time.sleep(max(0.005, seconds() - (time.monotonic() - began)))

    threading.Thread(target=run, daemon=True).start()


def mqtt(processes, phase):
    mqtt_port = str(port(1883))
    clients = {}

    def publisher(number):
        qos = str(number % 3)
        topic = "telemetry/room" if number == 3 else "commands/lamp" if number == 4 else f"free/{number}"
        version = "mqttv5" if number % 2 else "mqttv311"
        return processes.start(
            "publishers",
            "mosquitto_pub",
            "-V",
            version,
            "-p",
            mqtt_port,
            "-i",
            f"publisher-{number}",
            "-q",
            qos,
            "-t",
            topic,
            "-l",
            stdin=subprocess.PIPE,
        )

    def publish():
        for number in range(8):
            process = clients.get(number)
            if process is None or process.poll() is not None:
                clients[number] = process = publisher(number)
            try:
                process.stdin.write(b"21.5 degrees\n" * (6 if phase.burst and number < 3 else 1))
                process.stdin.flush()
            except BrokenPipeError:
                pass

    def subscribe():
        processes.forget_the_ended()
        for number in range(5):
            name = f"subscriber-{number}"
            if clients.get(name) is None or clients[name].poll() is not None:
                clients[name] = processes.start(
                    "subscribers",
                    "mosquitto_sub",
                    "-V",
                    "mqttv5",
                    "-p",
                    mqtt_port,
                    "-i",
                    name,
                    "-q",
                    "1",
                    "-t",
                    "free/#" if number % 2 else "commands/lamp",
                    stdout=subprocess.DEVNULL,
                )

    def one_shot():
        user = "blocked" if phase.refusals and random.random() < 0.7 else "anna"
        topic = "commands/secret" if phase.refusals else "commands/lamp"
        processes.start(
            "one-shot", "mosquitto_pub", "-V", "mqttv5", "-p", mqtt_port, "-u", user, "-q", "1", "-t", topic, "-m", "on"
        )

    def garbage():
        if not phase.refusals:
            return
        for octets in (b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", b"\x10\xff\xff\xff\xff\xff", b"\x00" * 20):
            with socket.create_connection(("127.0.0.1", port(1883))) as stream:
                stream.sendall(octets)
                stream.settimeout(2)
                stream.recv(100)

    every(lambda: 0.1 / phase.wave(), phase, publish)
    every(lambda: 2, phase, subscribe)
    every(lambda: 0.15 if phase.burst else 1, phase, one_shot)
    every(lambda: 1, phase, garbage)


def coap_message(method, path, payload=b"", con=True):
    out = bytearray([0x44 if con else 0x54, method]) + random.randbytes(2) + random.randbytes(4)
    last = 0
    for segment in path.split("/"):
        out.append(((11 - last) << 4) | len(segment))
        out += segment.encode()
        last = 11
    return bytes(out + (b"\xff" + payload if payload else b""))


def coap(processes, phase):
    address = ("127.0.0.1", port(5683))
    clients = {}

    def ask():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            # Each device has an address of its own, as limits are by address; in the burst one has most of the load.
            client.bind((f"127.0.1.{random.randrange(1, 40)}", 0))
            client.settimeout(0.3)
            for _ in range(6):
                what = random.random()
                message = (
                    coap_message(1, "time")
                    if what < 0.5
                    else coap_message(1, "fw/image", con=False)
                    if what < 0.6
                    else coap_message(2, "telemetry/room", b"21.5")
                    if what < 0.8
                    else coap_message(1, "config/led")
                    if what < 0.9 and not phase.refusals
                    else coap_message(3, "config/led", b"on")
                    if what < 0.97
                    else coap_message(1, "missing")
                )
                if phase.refusals and random.random() < 0.2:
                    message = random.choice(
                        [b"\x40", b"\xc0" + message[1:], message[:6], b"\x44\x01" + message[2:8] + b"\xf0"]
                    )
                client.sendto(message, address)
                try:
                    client.recv(2048)
                except TimeoutError:
                    # Sent again, as RFC 7252 has it.
                    client.sendto(message, address)

    def burst():
        if phase.burst:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.bind(("127.0.1.99", 0))
                for _ in range(450):
                    client.sendto(coap_message(1, "time"), address)
                    time.sleep(0.001)

    def keep_observing():
        for number in range(3):
            if clients.get(number) is None or clients[number].poll() is not None:
                clients[number] = processes.start(
                    "observers",
                    "coap-client-notls",
                    "-s",
                    "120",
                    f"coap://127.0.0.1:{address[1]}/time",
                    stdout=subprocess.DEVNULL,
                )

    def secure():
        key = "wrong-key" if phase.refusals else "key-of-device-1!"
        uri = f"coaps://127.0.0.1:{port(5684)}/time"
        processes.start(
            "secure", "coap-client-openssl", "-B", "3", "-u", "device-1", "-k", key, uri, stdout=subprocess.DEVNULL
        )

    def over_tcp():
        uri = f"coap+tcp://127.0.0.1:{address[1]}/time"
        processes.start("tcp", "coap-client-notls", "-B", "3", uri, stdout=subprocess.DEVNULL)

    def in_blocks():
        uri = f"coap://127.0.0.1:{address[1]}/telemetry/attic"
        body = "21.5 degrees " * 40
        processes.start(
            "blocks",
            "coap-client-notls",
            "-B",
            "5",
            "-m",
            "post",
            "-b",
            "64",
            "-e",
            body,
            uri,
            stdout=subprocess.DEVNULL,
        )

    def over_http():
        path = "missing" if phase.refusals else "time"
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port(8080)}/{path}", timeout=20).read()
        except urllib.error.HTTPError:
            pass

    for _ in range(3):
        every(lambda: 0.15 / phase.wave(), phase, ask)
    every(lambda: 1, phase, burst)
    every(lambda: 5, phase, keep_observing)
    every(lambda: 2, phase, secure)
    every(lambda: 2, phase, over_tcp)
    every(lambda: 3, phase, in_blocks)
    every(lambda: 0.5, phase, over_http)


def dns(processes, phase):
    server = str(port(1053))
    queries = {"ordinary": [], "refused": []}
    for number in range(4000):
        name = min(int(random.paretovariate(0.6)), 100000)
        queries["ordinary"].append(f"n{name}.example {random.choice(['A', 'A', 'A', 'AAAA', 'MX'])}")
        if number % 8 == 0:
            queries["ordinary"].append("www.corp.example A")
        if number % 25 == 0:
            queries["ordinary"] += ["www.blocked.example A", f"n{number}.missing AAAA"]
    queries["refused"] = [
        random.choice(["x.ads.example A", "y.blocked.example A", "www.example ANY", "z.missing A"]) for _ in range(400)
    ]
    for name, lines in queries.items():
        (RUN / f"queries-{name}").write_text("\n".join(lines) + "\n")

    def perf(name, rate, address="127.0.0.1", seconds=15):
        processes.start(
            "dnsperf",
            "dnsperf",
            "-s",
            "127.0.0.1",
            "-p",
            server,
            "-a",
            address,
            "-d",
            RUN / f"queries-{name}",
            "-c",
            "20",
            "-Q",
            rate,
            "-l",
            seconds,
            "-n",
            "100000",
            "-t",
            "3",
            stdout=subprocess.DEVNULL,
        )

    def ordinary():
        perf("ordinary", int(300 * phase.wave()))

    def trouble():
        if phase.refusals:
            perf("refused", 60, "127.0.2.1")
        if phase.burst:
            perf("ordinary", 1200, "127.0.2.2")

    def over_tls():
        ca = f"+tls-ca={ROOT}/.build/certs/ca.crt"
        for args in (
            ["-p", server, "+tcp"],
            ["-p", str(port(1853)), ca, "+tls-hostname=localhost"],
            ["-p", str(port(8053)), "+https", ca, "+tls-hostname=localhost"],
        ):
            processes.start(
                "kdig", "kdig", "@127.0.0.1", *args, f"n{random.randrange(50)}.example", stdout=subprocess.DEVNULL
            )

    def garbage():
        if phase.refusals:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                for octets in (b"\x00" * 5, struct.pack(">6H", 1, 0, 2, 0, 0, 0), random.randbytes(30)):
                    client.sendto(octets, ("127.0.0.1", port(1053)))

    every(lambda: 15, phase, ordinary)
    every(lambda: 15, phase, trouble)
    every(lambda: 1, phase, over_tls)
    every(lambda: 0.5, phase, garbage)


def start_servers(processes, envoy):
    brokers = Brokers(processes)
    coap_servers = [
        processes.start(f"coap-{number}", "coap-server-notls", "-A", "127.0.0.1", "-p", port(number), "-d", "100")
        for number in (25683, 25783)
    ]
    example = '  local-zone: example. redirect\n  local-data: "example. 20 IN A 192.0.2.1"\n  local-zone: . static\n'
    corp = '  local-zone: . refuse\n  local-data: "www.corp.example. 5 IN A 10.0.0.80"\n'
    resolvers = [
        unbound(processes, "resolver", port(25353), example + '  local-data: ". 30 IN SOA a. b. 1 30 30 30 30"\n'),
        unbound(processes, "corp", port(25453), corp),
    ]
    service = http.server.ThreadingHTTPServer(("127.0.0.1", port(28080)), Service)
    service.daemon_threads = True
    threading.Thread(target=service.serve_forever, daemon=True).start()
    for protocol, admin in ADMIN.items():
        config = RUN / f"{protocol}.yaml"
        config.write_text(envoy_config(protocol))
        processes.start(
            f"envoy-{protocol}",
            envoy,
            "-c",
            config,
            "--disable-hot-restart",
            "--concurrency",
            "2",
            "--component-log-level",
            "main:warning",
            "--file-flush-interval-msec",
            "500",
        )
        wait_for(admin)
    return brokers, coap_servers, resolvers


def start_prometheus(processes):
    config = (ROOT / "deploy/prometheus/prometheus.yml").read_text()
    targets = ", ".join(f"127.0.0.1:{admin}" for admin in ADMIN.values())
    config = replaced(config, "[envoy:9901]", f"[{targets}]").replace("localhost:9090", f"localhost:{PROMETHEUS}")
    config = config.replace(
        "[alerts.yml]", json.dumps([str(path) for path in (ROOT / "deploy/prometheus").glob("alerts.yml")])
    )
    (RUN / "prometheus.yml").write_text(config)
    shutil.rmtree(RUN / "data", ignore_errors=True)
    processes.start(
        "prometheus",
        os.environ.get("PROMETHEUS", "prometheus"),
        f"--config.file={RUN}/prometheus.yml",
        f"--storage.tsdb.path={RUN}/data",
        f"--web.listen-address=127.0.0.1:{PROMETHEUS}",
    )
    wait_for(PROMETHEUS)


def stop(*_):
    raise KeyboardInterrupt


def main():
    # Also where a shell in the background has both ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    envoy, minutes = sys.argv[1], float(sys.argv[2])
    RUN.mkdir(parents=True, exist_ok=True)
    with Processes() as processes:
        brokers, coap_servers, resolvers = start_servers(processes, envoy)
        start_prometheus(processes)
        phase = Phase(minutes * 60)
        for protocol in (mqtt, coap, dns):
            protocol(processes, phase)
        print(f"Prometheus: http://127.0.0.1:{PROMETHEUS}", flush=True)
        down = False
        while not phase.over():
            time.sleep(1)
            if phase.outage == down:
                continue
            down = phase.outage
            print("servers go down" if down else "servers come back", flush=True)
            if down:
                brokers.stop()
            else:
                brokers.start()
            for process in (*coap_servers[:1], *resolvers[:1]):
                process.send_signal(signal.SIGSTOP if down else signal.SIGCONT)
        # What was measured stays to be looked at until somebody ends this.
        print("the load is over; Ctrl-C ends it", flush=True)
        while True:
            time.sleep(3600)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
