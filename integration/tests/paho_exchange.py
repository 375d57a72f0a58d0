"""Exchanges messages of many sizes at every QoS with paho-mqtt over WebSocket; fails at the first surprise.

Usage: paho_exchange.py <port> <3.1.1|5.0> [<CA certificate for TLS>]
"""

import queue
import random
import sys

import paho.mqtt.client as mqtt

PATIENCE = 20
# Not more: of a frame that the socket does not take at once, this client forgets the rest
# (eclipse-paho/paho.mqtt.python#887).
SIZES = [0, 1, 100, 125, 126, 16_384, 40_000, 65_535, 65_536, 1 << 20]


def main(port, version, ca=None):
    client = mqtt.Client(
        mqtt.CallbackAPIVersion.VERSION2,
        client_id=f"paho-{version}",
        transport="websockets",
        protocol=mqtt.MQTTv5 if version == "5.0" else mqtt.MQTTv311,
    )
    if ca:
        client.tls_set(ca_certs=ca)
    events = queue.Queue()
    client.on_connect = lambda _, __, ___, reason, ____: events.put(("connected", reason.is_failure))
    client.on_subscribe = lambda *_: events.put(("subscribed",))
    client.on_message = lambda _, __, message: events.put((message.topic, message.qos, message.payload))
    client.on_disconnect = lambda _, __, ___, reason, ____: events.put(("disconnected", reason.is_failure))

    def expect(expected):
        event = events.get(timeout=PATIENCE)
        if event != expected:
            sys.exit(f"expected {str(expected)[:80]}, got {str(event)[:80]}")

    client.connect("localhost", port)
    client.loop_start()
    expect(("connected", False))
    client.subscribe("paho/#", qos=2)
    expect(("subscribed",))
    for qos in range(3):
        for size in SIZES:
            payload = random.Random(size).randbytes(size)
            topic = f"paho/{qos}/{size}"
            client.publish(topic, payload, qos=qos).wait_for_publish(PATIENCE)
            expect((topic, qos, payload))
    client.disconnect()
    expect(("disconnected", False))
    client.loop_stop()


main(int(sys.argv[1]), *sys.argv[2:])
