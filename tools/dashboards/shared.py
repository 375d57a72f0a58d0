"""Panels of several dashboards: what Envoy itself counts, by the variables `prefix` and `cluster`."""

from board import COUNT, PER_SECOND, REQUESTS, lines, rate, selected, total, words

MANAGERS = 'envoy_http_conn_manager_prefix=~"$prefix"'
CLUSTERS = 'envoy_cluster_name=~"$cluster"'


def statuses(what):
    return lines(
        "What did Envoy answer?",
        f"Responses of the HTTP connection manager by status class, each second: {what}. 4xx is a policy or a missing "
        "route, 5xx a server that cannot be reached. The access log has the single ones, with response flags.",
        {"{{envoy_response_code_class}}xx": rate("envoy_http_downstream_rq_xx", "envoy_response_code_class", MANAGERS)},
        REQUESTS,
        width=8,
    )


def streams(flows):
    return lines(
        "How many streams are open?",
        "Streams of the HTTP connection manager now: sessions or flows, checks, requests. Where this grows and the "
        f"filter's own count does not, a route over UDP has `timeout: 0s`. {flows}",
        {"{{instance}}": total("envoy_http_downstream_rq_active", "instance", MANAGERS)},
        COUNT,
        width=8,
    )


def policy():
    return lines(
        "What did Envoy's own policy refuse?",
        "Requests that RBAC denied, and that a local rate limit was against; by prefix.",
        {
            "RBAC, {{envoy_http_conn_manager_prefix}}": rate(
                "envoy_http_rbac_denied", "envoy_http_conn_manager_prefix", MANAGERS
            ),
            "local rate limit, {{envoy_local_http_ratelimit_prefix}}": rate(
                "envoy_http_local_rate_limit_rate_limited", "envoy_local_http_ratelimit_prefix"
            ),
        },
        width=8,
    )


def servers():
    """Three panels: are the servers there, can they be reached, is Envoy's own limit in the way."""
    by_cluster = "envoy_cluster_name"
    ratio = (
        f"sum by ({by_cluster}) (envoy_cluster_membership_healthy{selected(CLUSTERS)}) / "
        f"(sum by ({by_cluster}) (envoy_cluster_membership_total{selected(CLUSTERS)}) > 0)"
    )
    open_breakers = (
        f'{{__name__=~"envoy_cluster_circuit_breakers_default_(cx|rq|rq_pending)_open",{selected(CLUSTERS)[1:]}'
    )
    return [
        lines(
            "Are the servers healthy?",
            "Share of a cluster's endpoints that are healthy, by health checks and outlier detection. Without either it is "
            "always 100 %, whoever is there; and over UDP a server that is down is not noticed otherwise.",
            {"{{envoy_cluster_name}}": ratio},
            "percentunit",
            most=1,
            width=8,
        ),
        lines(
            "Can the servers be reached?",
            "TCP connections that failed, requests for which no endpoint was healthy, health checks that failed. A flow over "
            "UDP that ends with a timeout is as it should be, so timeouts are not here.",
            {
                f"{what}, {{{{envoy_cluster_name}}}}": f"{rate(metric, by_cluster, CLUSTERS)} > 0"
                for what, metric in (
                    ("connect failed", "envoy_cluster_upstream_cx_connect_fail"),
                    ("none healthy", "envoy_cluster_upstream_cx_none_healthy"),
                    ("health check", "envoy_cluster_health_check_failure"),
                )
            },
            width=8,
        ),
        lines(
            "Do circuit breakers stand in the way?",
            "1 while a circuit breaker is open, and what was turned away by it each second. A tunnel of udp_proxy counts as "
            "a connection, a pending request and a request: Envoy's default of 1024 is soon reached.",
            {
                "open, {{envoy_cluster_name}}": f"max by ({by_cluster}) ({open_breakers}) > 0",
                "turned away, {{envoy_cluster_name}}": rate(
                    "envoy_cluster_upstream_rq_pending_overflow", by_cluster, CLUSTERS
                )
                + " > 0",
            },
            COUNT,
            width=8,
        ),
    ]


def datagrams():
    """Panels on the way of UDP into the filter. The sessions are those of CoAP and DNS together where one Envoy has both."""
    # `coap` and `coaps`, as in the example configurations.
    proxies = 'envoy_udp_prefix=~"$prefix.*"'
    return [
        lines(
            "How many clients are there over UDP?",
            "Sessions: a client's address and port each. `udp_proxy` is before the filter, `tunnels` is what reached it; that "
            "one has no label for the listener, so where one Envoy has CoAP and DNS it is both together.",
            {
                "udp_proxy, {{envoy_udp_prefix}}": total(
                    "envoy_udp_downstream_sess_active", "envoy_udp_prefix", proxies
                ),
                "tunnels": total("udp_sessions_active"),
            },
            COUNT,
        ),
        lines(
            "Do datagrams get lost on the way?",
            "What Envoy received and could not hand on: the kernel's buffer was too small, no tunnel to the filter, more "
            "datagrams than wait for a new tunnel, no room in a client's tunnel, no room to send. Only zeros are good.",
            {
                "new clients each second": rate("udp_sessions_total", labels='result="opened"'),
                "refused: too many sessions": rate("udp_sessions_total", labels='result="refused"'),
                "not received: kernel buffer": rate("envoy_listener_udp_downstream_rx_datagram_dropped"),
                "no tunnel": rate("envoy_cluster_udp_sess_tunnel_failure"),
                "waiting for a tunnel: too many": rate("envoy_cluster_udp_sess_tunnel_buffer_overflow"),
                "no room in a tunnel": rate("udp_dropped_total", labels='reason="no_room"'),
                "to clients: send failed": rate("envoy_udp_downstream_sess_tx_errors", labels=proxies),
            },
            PER_SECOND,
        ),
    ]


def talkers(protocol, fields):
    return words(
        "Who talks most?",
        "No metric has a label for a single client: there may be a million of them, and each would be a series for ever. "
        f"The access log says who. In Loki, the ten that cause most lines, as a query for Explore:\n\n"
        f"```\n{fields['loki']}\n```\n\nWithout Loki, from Envoy's standard output:\n\n```sh\n{fields['jq']}\n```\n\n"
        f"More of these are in docs/observability.md, under *Top talkers*. {protocol}",
        width=8,
        height=11,
    )
