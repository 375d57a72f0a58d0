"""CoAP: clients over UDP, DTLS, TCP and TLS, and HTTP clients of CoAP servers."""

from board import (
    COUNT,
    MICROSECONDS,
    OCTETS_PER_SECOND,
    REQUESTS,
    SHARE,
    bars,
    board,
    heat,
    in_range,
    lines,
    number,
    quantiles,
    rate,
    total,
)
from overview import WRONG, coap_failed
from shared import datagrams, policy, servers, statuses, streams, talkers

DASHBOARD = board(
    "beyond-http-coap",
    "Beyond HTTP: CoAP",
    "Requests and responses, sessions over UDP, DTLS, blocks, HTTP to CoAP; docs/coap.md has every metric",
    {
        "Now": [
            number("Requests each second", "Of clients and of servers.", rate("coap_requests_total"), REQUESTS),
            number("Responses of 5.xx", "Of all responses.", coap_failed, SHARE, WRONG),
            number("UDP sessions", "Those of DNS as well, where one Envoy has both.", total("udp_sessions_active")),
            number("Flows", "A client and what routes its messages: streams, sockets.", total("coap_flows_active")),
            number("Observed resources", "In flows and by requests.", total("coap_observations_active")),
            number("DTLS associations", "Now.", total("dtls_associations_active")),
        ],
        "Requests and responses": [
            lines(
                "Is everything answered?",
                "Requests and responses. Where responses fall behind and retransmissions rise, a "
                "server over UDP is down: nothing else shows it. Each notification of an observed resource is a response, too.",
                {
                    "requests": rate("coap_requests_total"),
                    "responses": rate("coap_responses_total"),
                    "sent again by clients": rate("coap_retransmissions_total"),
                    "of those answered from memory": rate("coap_deduplicated_total"),
                },
                REQUESTS,
            ),
            lines(
                "What is answered?",
                "Responses by code, those of servers and those of the filter.",
                {"{{code}}": rate("coap_responses_total", "code")},
                REQUESTS,
                stacked=True,
            ),
            lines(
                "How long do clients wait?",
                "From the request to its response; `check`: to Envoy's answer, before the request goes on.",
                quantiles("coap_response_microseconds", "carry", "{{carry}}, "),
                MICROSECONDS,
            ),
            heat(
                "How does the time to the response spread?",
                "Requests in each of Envoy's buckets. Two bands are two kinds of servers, or retransmissions.",
                "coap_response_microseconds",
            ),
            lines(
                "What do clients ask?",
                "Requests by method.",
                {"{{method}}": rate("coap_requests_total", "method")},
                REQUESTS,
                width=8,
            ),
            lines(
                "Which messages?",
                "By direction and type; `tcp` has none.",
                {"{{direction}} {{type}}": rate("coap_messages_total", "direction, type")},
                width=8,
            ),
            lines(
                "How many octets?",
                "Of CoAP, without UDP, DTLS or TCP.",
                {"{{direction}}": rate("coap_bytes_total", "direction")},
                OCTETS_PER_SECOND,
                width=8,
            ),
        ],
        "Limits and policy": [
            lines(
                "What is above a limit?",
                "By limit and what happened. `amplification_factor: challenge` is a client that "
                "shall prove its address.",
                {"{{limit}}: {{action}}": rate("coap_limited_total", "limit, action")},
                width=8,
            ),
            lines(
                "What was decided?",
                "Checks, by verdict, and whether Envoy was asked or an answer remembered.",
                {"{{verdict}}, {{source}}": rate("coap_verdicts_total", "verdict, source")},
                width=8,
            ),
            policy(),
        ],
        "UDP": datagrams(),
        "DTLS": [
            lines(
                "How do handshakes end?",
                "`completed`, or why not: docs/coap.md says what each means. Cookies without results "
                "are clients that do not answer, or forged addresses.",
                {
                    "{{result}}": rate("dtls_handshakes_total", "result"),
                    "cookies sent": rate("dtls_cookies_sent_total"),
                },
                width=8,
            ),
            lines(
                "What becomes of associations?",
                "How many there are, handshakes under way, and why they end.",
                {
                    "associations": total("dtls_associations_active"),
                    "handshakes": total("dtls_handshakes_active"),
                    "ended each second: {{reason}}": rate("dtls_associations_closed_total", "reason"),
                },
                COUNT,
                width=8,
            ),
            lines(
                "How long do handshakes take?",
                "From the cookie's return.",
                quantiles("dtls_handshake_duration_microseconds", of=(0.5, 0.95)),
                MICROSECONDS,
                width=8,
            ),
            bars(
                "What was dropped?",
                "Records that were not protected, too old, or no DTLS; in the whole range.",
                {"{{reason}}": in_range("dtls_records_dropped_total", "reason")},
                width=8,
                height=6,
            ),
            bars(
                "Which cipher suites are used?",
                "Handshakes in the whole range.",
                {"{{version}} {{cipher_suite}}": in_range("dtls_negotiated_total", "version, cipher_suite")},
                width=8,
                height=6,
            ),
            bars(
                "What was not CoAP?",
                "By offence, in the whole range.",
                {"{{direction}}: {{kind}}": in_range("coap_decode_errors_total", "direction, kind")},
                height=6,
            ),
        ],
        "Requests to HTTP services": [
            lines(
                "How do block-wise transfers end?",
                "Anything but `complete` is a client that gave up, lost blocks, or a body that is too large.",
                {"{{direction}}: {{outcome}}": rate("coap_block_transfers_total", "direction, outcome")},
            ),
            lines(
                "Do clients get our confirmable messages?",
                "Separate responses and notifications. `given_up` are clients that vanished: their observation ends.",
                {"{{outcome}}": rate("coap_confirmable_total", "outcome")},
            ),
        ],
        "HTTP to CoAP (`egress`)": [
            lines(
                "What do CoAP servers answer to HTTP clients?",
                "By the server's code, or why there was none.",
                {"{{code}}": rate("coap_egress_requests_total", "code")},
                REQUESTS,
                width=8,
            ),
            lines(
                "How long does it take?",
                "From the HTTP request to the whole response.",
                quantiles("coap_egress_request_microseconds"),
                MICROSECONDS,
                width=8,
            ),
            lines(
                "Do CoAP servers listen?",
                "Messages sent again, requests given up, datagrams that had no room or could not be "
                "used, events that slow HTTP clients missed.",
                {
                    "sent again": rate("coap_egress_retransmissions_total"),
                    "timeouts": rate("coap_egress_timeouts_total"),
                    "dropped": rate("coap_egress_datagrams_dropped_total"),
                    "ignored: {{reason}}": rate("coap_egress_datagrams_ignored_total", "reason"),
                    "events missed": rate("coap_egress_events_skipped_total"),
                    "flows open": total("coap_egress_flows_active"),
                    "resources observed": total("coap_egress_observations_active"),
                },
                COUNT,
                width=8,
            ),
        ],
        "Servers and services": servers(),
        "The connection manager": [
            statuses("flows as they begin, checks, requests"),
            streams("A flow over UDP stays for its route's timeout after its end."),
            talkers(
                "A flow is one line, at its end; a check or request one each.",
                {
                    "loki": 'topk(10, sum by (client) (count_over_time({app="envoy"} | json | transport != "" [5m])))',
                    "jq": "jq -rR 'fromjson? | .client // empty' access.log | sort | uniq -c | sort -rn | head",
                },
            ),
        ],
    },
    prefix="coap",
)
