"""MQTT: sessions, packets, messages as requests."""

from board import (
    COUNT,
    MICROSECONDS,
    OCTETS_PER_SECOND,
    PER_SECOND,
    SHARE,
    bars,
    board,
    in_range,
    lines,
    number,
    quantiles,
    rate,
    share,
    total,
)
from overview import WRONG, mqtt_refused
from shared import policy, servers, statuses, streams, talkers

FROM = 'direction="from_client"'
TO = 'direction="to_client"'
FAILED = 'verdict="failed"'


def messages(labels=""):
    """Messages that Envoy decided about, by either way."""
    ways = ("mqtt_requests_total", "mqtt_verdicts_total")
    return "(" + " + ".join(f"({rate(way, labels=labels)} or vector(0))" for way in ways) + ")"


DASHBOARD = board(
    "beyond-http-mqtt",
    "Beyond HTTP: MQTT",
    "Sessions, packets, and messages that Envoy decides about; docs/mqtt.md has every metric",
    {
        "Now": [
            number("Sessions", "Sessions that the next filter has accepted.", total("mqtt_sessions_active")),
            number("CONNACKs each second", "CONNECTs that were answered.", rate("mqtt_connack_total"), PER_SECOND),
            number(
                "CONNECTs refused",
                "Of all CONNACKs those that refuse, by broker or filter.",
                mqtt_refused,
                SHARE,
                WRONG,
            ),
            number(
                "PUBLISH from clients",
                "Each second.",
                rate("mqtt_packets_total", labels=f'{FROM},type="publish"'),
                PER_SECOND,
            ),
            number(
                "PUBLISH to clients",
                "Each second.",
                rate("mqtt_packets_total", labels=f'{TO},type="publish"'),
                PER_SECOND,
            ),
            number(
                "Messages that failed",
                "Of those that Envoy was to decide about: 5xx, or no answer.",
                share(messages(FAILED), messages()),
                SHARE,
                WRONG,
            ),
        ],
        "Sessions": [
            lines(
                "How many sessions are there?",
                "By mode and Envoy. Too high by the sessions of a VM that trapped.",
                {"{{mode}}, {{instance}}": total("mqtt_sessions_active", "mode, instance")},
                COUNT,
                stacked=True,
            ),
            lines(
                "How are CONNECTs answered?",
                "By who made the CONNACK and its reason. From the broker: look there. From the "
                "filter: `not_authorized`, `connection_rate_exceeded` are policies in Envoy, `server_unavailable` is a "
                "broker that cannot be reached.",
                {"{{source}}: {{reason}}": rate("mqtt_connack_total", "source, reason")},
            ),
            lines(
                "Why do connections end?",
                "`disconnect` and `client_closed` are the clients; `server_*` the brokers; "
                "`refused`, `policy` and `decode_error` the filter; `envoy_closed` a timeout or a limit of Envoy's.",
                {"{{cause}}": rate("mqtt_connections_closed_total", "cause")},
                stacked=True,
            ),
            lines(
                "What do DISCONNECTs say?",
                "By direction and reason.",
                {"{{direction}}: {{reason}}": rate("mqtt_disconnect_total", "direction, reason")},
            ),
        ],
        "Packets": [
            lines(
                "How many messages?",
                "PUBLISH by direction and QoS.",
                {"{{direction}}, QoS {{qos}}": rate("mqtt_packets_total", "direction, qos", 'type="publish"')},
            ),
            lines(
                "What else is sent?",
                "All other packets, by type. SUBSCRIBE without end is a client that does not keep its session.",
                {"{{type}}, {{direction}}": rate("mqtt_packets_total", "type, direction", 'type!="publish"')},
            ),
            lines(
                "How many octets?",
                "Of MQTT, without TCP and TLS.",
                {"{{direction}}": rate("mqtt_bytes_total", "direction")},
                OCTETS_PER_SECOND,
                width=8,
            ),
            lines(
                "Which versions do clients speak?",
                "Sessions that began, by version.",
                {"{{version}}": rate("mqtt_sessions_total", "version")},
                width=8,
            ),
            bars(
                "What was not MQTT?",
                "By offence, in the whole range.",
                {"{{direction}}: {{kind}}": in_range("mqtt_decode_errors_total", "direction, kind")},
            ),
        ],
        "Messages that Envoy decides about (`rules`)": [
            lines(
                "What was decided?",
                "Checks, by packet and verdict; `failed` is a 5xx or no answer, and for a publisher with "
                "QoS 1 no acknowledgement.",
                {"{{packet}} {{verdict}}": rate("mqtt_verdicts_total", "packet, verdict")},
            ),
            lines(
                "What became of requests?",
                "Messages that an HTTP service took or did not, and replies that went to clients.",
                {
                    "request {{verdict}}": rate("mqtt_requests_total", "verdict"),
                    "reply {{outcome}}": rate("mqtt_replies_total", "outcome"),
                },
            ),
            lines(
                "How long do they take?",
                "From the request to Envoy's answer. A check that is remembered takes no time, and is not here.",
                {
                    **quantiles("mqtt_check_microseconds", prefix="check, "),
                    **quantiles("mqtt_request_microseconds", prefix="request, "),
                },
                MICROSECONDS,
            ),
            lines(
                "How many checks are remembered?",
                "Share that `verdict_cache` answered. Low, and checks slow: make it longer.",
                {
                    "{{packet}}": rate("mqtt_verdicts_total", "packet", 'source="cached"')
                    + f" / ({rate('mqtt_verdicts_total', 'packet')} > 0)"
                },
                SHARE,
                most=1,
            ),
        ],
        "Limits and policy": [
            lines(
                "What is above a limit of the filter?",
                "By limit and what happened: `wait` slows the client down, `drop` and "
                "`reject` lose the message, `disconnect` ends the session.",
                {"{{limit}}: {{action}}": rate("mqtt_limited_total", "limit, action")},
                width=8,
            ),
            policy(),
            lines(
                "What do WebSockets suffer from?",
                "Opening handshakes that were refused, and connections closed for what the client did.",
                {
                    "handshake: {{reason}}": rate("websocket_handshakes_total", "reason", 'reason!="accepted"'),
                    "closed: {{reason}}": rate("websocket_faults_total", "reason"),
                },
                width=8,
            ),
        ],
        "Brokers and services": servers(),
        "The connection manager": [
            statuses("sessions as they begin, checks, requests"),
            streams(""),
            talkers(
                "`bytes_from_client` of a session is written when it ends: with QoS 0 floods look at `mqtt_limited_total` and at "
                "the broker.",
                {
                    "loki": 'topk(10, sum by (client_id) (count_over_time({app="envoy"} | json | carry != "" [5m])))',
                    "jq": "jq -rR 'fromjson? | .client_id // empty' access.log | sort | uniq -c | sort -rn | head",
                },
            ),
        ],
    },
    prefix="mqtt",
)
