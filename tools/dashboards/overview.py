"""The first look: is anything wrong, and with which protocol."""

from board import (
    COUNT,
    MICROSECONDS,
    OCTETS,
    PER_SECOND,
    REQUESTS,
    SHARE,
    board,
    lines,
    number,
    quantile,
    rate,
    rows,
    selected,
    share,
    total,
)
from shared import servers

ACCEPTED = 'reason=~"success|accepted"'
COAP_5XX = (
    'code=~"internal_server_error|not_implemented|bad_gateway|service_unavailable|gateway_timeout|proxying_not_supported'
    '|hop_limit_reached"'
)

mqtt_refused = share(rate("mqtt_connack_total", labels='reason!~"success|accepted"'), rate("mqtt_connack_total"))
coap_failed = share(rate("coap_responses_total", labels=COAP_5XX), rate("coap_responses_total"))
dns_failed = share(rate("dns_answers_total", labels='rcode="servfail"'), rate("dns_answers_total"))

# The names of metrics differ, so what is changed by a function loses what told them apart: hence the labels first.
RELOADS = (
    'sum by (filter, outcome) (increase(label_replace(label_replace({__name__=~"envoy_wasm_.+_vm_reload_(success|failure|backoff)",'
    f"{selected()[1:]}"
    ', "filter", "$1", "__name__", "envoy_wasm_(.+)_vm_reload_.+"), "outcome", "$1", "__name__", ".+_vm_reload_(.+)")'
    "[$__range:1m])) > 0"
)

WRONG = {0.01: "orange", 0.05: "red"}

DASHBOARD = board(
    "beyond-http-overview",
    "Beyond HTTP: overview",
    "MQTT, CoAP and DNS through Envoy: is anything wrong, and where to look next",
    {
        "Now": [
            number(
                "Envoys that answer",
                "Envoys that Prometheus could scrape last time.",
                'sum (up{job=~"$job",instance=~"$instance"} and on (job, instance) envoy_server_live) or vector(0)',
                steps=None,
            ),
            number(
                "Alerts firing",
                "Rules of deploy/prometheus/alerts.yml that fire; the table below has them.",
                'count (ALERTS{alertstate="firing"}) or vector(0)',
                steps={1: "red"},
            ),
            number(
                "MQTT CONNECTs refused",
                "Of all CONNACKs those that refuse, by broker or filter.",
                mqtt_refused,
                SHARE,
                WRONG,
            ),
            number(
                "CoAP responses of 5.xx",
                "Of all responses. A server over UDP that is down gives none at all: compare "
                "requests and responses on the CoAP dashboard.",
                coap_failed,
                SHARE,
                WRONG,
            ),
            number("DNS answers of SERVFAIL", "Of all answers to clients.", dns_failed, SHARE, WRONG),
            number(
                "Filters' VMs started again",
                "A VM starts again after a trap in the module: its connections were closed. "
                "Envoy's log has the backtrace.",
                f"sum ({RELOADS}) or vector(0)",
                steps={1: "red"},
            ),
        ],
        "Alerts": [
            rows(
                "Which alerts fire?",
                "docs/observability.md has a runbook for each.",
                'ALERTS{alertstate="firing"}',
                ["alertname", "severity", "instance", "envoy_cluster_name"],
                height=6,
            ),
            lines(
                "When did alerts fire?",
                "How many of each fired.",
                {"{{alertname}}": 'count by (alertname) (ALERTS{alertstate="firing"})'},
                COUNT,
                stacked=True,
                height=6,
            ),
        ],
        "Work": [
            lines(
                "How much is there to do?",
                "MQTT messages that clients published, CoAP requests, DNS queries.",
                {
                    "MQTT PUBLISH": rate("mqtt_packets_total", labels='direction="from_client",type="publish"'),
                    "CoAP requests": rate("coap_requests_total"),
                    "HTTP to CoAP": rate("coap_egress_requests_total"),
                    "DNS queries": rate("dns_queries_total"),
                },
                REQUESTS,
            ),
            lines(
                "Who is connected?",
                "Sessions now. Over UDP a session is a client's address and port that was heard of lately.",
                {
                    "MQTT sessions": total("mqtt_sessions_active"),
                    "UDP sessions (CoAP, DNS)": total("udp_sessions_active"),
                    "DTLS associations": total("dtls_associations_active"),
                    "CoAP flows": total("coap_flows_active"),
                    "DNS flows": total("dns_flows_active"),
                },
                COUNT,
            ),
        ],
        "Wrong": [
            lines(
                "What share fails?",
                "As in the numbers above.",
                {
                    "MQTT CONNECTs refused": mqtt_refused,
                    "CoAP 5.xx": coap_failed,
                    "DNS SERVFAIL": dns_failed,
                },
                SHARE,
                steps={0.05: "red"},
            ),
            lines(
                "How long do clients wait?",
                "95 of 100 are faster: from the request to its answer, the server's time "
                "included. MQTT: checks and requests of messages, as sessions have no answer.",
                {
                    "MQTT check": quantile(0.95, "mqtt_check_microseconds"),
                    "MQTT request": quantile(0.95, "mqtt_request_microseconds"),
                    "CoAP {{carry}}": quantile(0.95, "coap_response_microseconds", "carry"),
                    "HTTP to CoAP": quantile(0.95, "coap_egress_request_microseconds"),
                    "DNS {{carry}}": quantile(0.95, "dns_answer_microseconds", "carry"),
                },
                MICROSECONDS,
            ),
            lines(
                "What do limits turn away?",
                "What was above a limit of a filter, or a local rate limit of Envoy's.",
                {
                    "MQTT {{limit}}": rate("mqtt_limited_total", "limit"),
                    "CoAP {{limit}}": rate("coap_limited_total", "limit"),
                    "DNS {{limit}}": rate("dns_limited_total", "limit"),
                    "Envoy {{envoy_local_http_ratelimit_prefix}}": rate(
                        "envoy_http_local_rate_limit_rate_limited", "envoy_local_http_ratelimit_prefix"
                    ),
                },
                width=8,
            ),
            lines(
                "What does policy refuse?",
                "Checks that Envoy answered with something other than 2xx, and what RBAC denied: "
                "an attack, or a policy that is wrong.",
                {
                    "MQTT {{packet}}": rate("mqtt_verdicts_total", "packet", 'verdict="refused"'),
                    "CoAP": rate("coap_verdicts_total", labels='verdict="refused"'),
                    "DNS": rate("dns_verdicts_total", labels='verdict!="pass"'),
                    "RBAC, {{envoy_http_conn_manager_prefix}}": rate(
                        "envoy_http_rbac_denied", "envoy_http_conn_manager_prefix"
                    ),
                },
                width=8,
            ),
            lines(
                "Who speaks something else?",
                "What could not be decoded, by direction: scanners, wrong ports, broken devices; "
                "from a server it is worse.",
                {
                    "MQTT {{direction}}": rate("mqtt_decode_errors_total", "direction"),
                    "CoAP {{direction}}": rate("coap_decode_errors_total", "direction"),
                    "DNS {{direction}}": rate("dns_decode_errors_total", "direction"),
                    "DTLS {{reason}}": rate(
                        "dtls_records_dropped_total", "reason", 'reason=~"malformed|rejected|plaintext"'
                    ),
                    "WebSocket {{reason}}": rate("websocket_handshakes_total", "reason", 'reason!="accepted"'),
                },
                width=8,
            ),
        ],
        "Servers behind Envoy": servers(),
        "Envoy itself": [
            lines(
                "How much memory?",
                "Of each Envoy: in use, taken from the system, resident. The modules' linear memory is in "
                "the last two alone.",
                {
                    "allocated, {{instance}}": f"envoy_server_memory_allocated{selected()}",
                    "heap, {{instance}}": f"envoy_server_memory_heap_size{selected()}",
                    "resident, {{instance}}": f"envoy_server_memory_physical_size{selected()}",
                },
                OCTETS,
            ),
            lines(
                "Are the workers responsive?",
                "Times that the watchdog found a thread busy: `miss` for longer than 0.2 s, "
                "`mega miss` for longer than 1 s, unless configured otherwise. A filter that takes long blocks its worker.",
                {
                    "worker miss, {{instance}}": rate("envoy_server_worker_watchdog_miss", "instance"),
                    "worker mega miss, {{instance}}": rate("envoy_server_worker_watchdog_mega_miss", "instance"),
                    "main thread miss, {{instance}}": rate("envoy_server_main_thread_watchdog_miss", "instance"),
                },
                PER_SECOND,
            ),
            lines(
                "Do the filters' VMs live?",
                "VMs of all modules; each worker, and the main thread, has one of each `vm_id`. "
                "A line that is lower than it was is a module that could not start again.",
                {"{{instance}}": f"envoy_wasm_envoy_wasm_runtime_v8_active{selected()}"},
                COUNT,
                width=8,
            ),
            lines(
                "Is Envoy full?",
                "TCP connections now, and those that were closed at once: by the overload manager, or the "
                "listener's limit.",
                {
                    "connections, {{instance}}": f"envoy_server_total_connections{selected()}",
                    "rejected each second: overload": rate("envoy_listener_downstream_cx_overload_reject"),
                    "rejected each second: listener": rate("envoy_listener_downstream_cx_overflow"),
                    "rejected each second: global": rate("envoy_listener_downstream_global_cx_overflow"),
                },
                COUNT,
                width=8,
            ),
            lines(
                "When did Envoy start?",
                "Time since the start; a line that falls to 0 is a restart, which ends all sessions.",
                {"{{instance}}": f"envoy_server_uptime{selected()}"},
                "s",
                width=8,
            ),
        ],
    },
)
