"""DNS: queries, answers, the cache, limits."""

from board import (
    COUNT,
    MICROSECONDS,
    OCTETS,
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
    share,
    total,
)
from overview import WRONG, dns_failed
from shared import datagrams, policy, servers, statuses, streams, talkers

hits = rate("dns_cache_hits_total")
asked = f"({rate('dns_cache_hits_total')} + {rate('dns_cache_misses_total')})"

DASHBOARD = board(
    "beyond-http-dns",
    "Beyond HTTP: DNS",
    "Queries and answers, the cache, limits and blocks; docs/dns.md has every metric",
    {
        "Now": [
            number("Queries each second", "Of clients.", rate("dns_queries_total"), REQUESTS),
            number("SERVFAIL", "Of all answers to clients.", dns_failed, SHARE, WRONG),
            number("From the cache", "Of what was looked up there.", share(hits, asked), SHARE),
            number(
                "Given up",
                "Of all queries those that no server answered in time.",
                share(rate("dns_timeouts_total"), rate("dns_queries_total")),
                SHARE,
                WRONG,
            ),
            number("Wait for servers", "Queries under way now.", total("dns_outstanding")),
            number(
                "Limited",
                "Of all queries those above a limit.",
                share(rate("dns_limited_total"), rate("dns_queries_total")),
                SHARE,
            ),
        ],
        "Queries and answers": [
            lines(
                "What is answered?",
                "Answers to clients by response code. A wave of `nxdomain` is a client that guesses names "
                "or a zone that is gone; `servfail` a server; `refused` a policy, a limit, or the server.",
                {"{{rcode}}": rate("dns_answers_total", "rcode")},
                REQUESTS,
                stacked=True,
            ),
            lines(
                "What is asked?",
                "Queries by type.",
                {"{{type}}": rate("dns_queries_total", "type")},
                REQUESTS,
                stacked=True,
            ),
            lines(
                "How long do servers take?",
                "From the query to the server's answer, `check` to Envoy's. What the cache answers is not here.",
                quantiles("dns_answer_microseconds", "carry", "{{carry}}, "),
                MICROSECONDS,
            ),
            heat(
                "How does that time spread?",
                "Answers of servers to flows, in each of Envoy's buckets. A band above "
                "`retry_after` is one of several servers that does not answer.",
                "dns_answer_microseconds",
                'carry="flow"',
            ),
            lines(
                "Over what do queries come?",
                "By transport.",
                {"{{transport}}": rate("dns_queries_total", "transport")},
                REQUESTS,
                width=8,
            ),
            lines(
                "Which zones?",
                "By zone of the configuration, with `_` for dots; `other` is in none.",
                {"{{zone}}": rate("dns_queries_total", "zone")},
                REQUESTS,
                width=8,
            ),
            lines(
                "How many octets?",
                "Of DNS, without UDP, TLS or HTTP. Many more to clients than from them may be an "
                "amplification attack: see limits.",
                {"{{direction}}": rate("dns_bytes_total", "direction")},
                OCTETS_PER_SECOND,
                width=8,
            ),
        ],
        "Servers that do not answer": [
            lines(
                "Do the servers answer?",
                "Queries sent again after `retry_after`, given up after `response_timeout`, and "
                "answers to nothing that waits: late, twice, or forged.",
                {
                    "sent again": rate("dns_retried_total"),
                    "given up": rate("dns_timeouts_total"),
                    "unmatched answers": rate("dns_unmatched_total"),
                    "stale answers instead": rate("dns_cache_stale_total"),
                },
            ),
            lines(
                "How much is under way?",
                "Queries that wait for a server, and flows: streams with a socket each.",
                {"queries": total("dns_outstanding"), "flows": total("dns_flows_active")},
                COUNT,
            ),
        ],
        "Cache": [
            lines(
                "Does the cache help?",
                "Share of what was looked up that was there. Each worker has its own.",
                {"hits": share(hits, asked)},
                SHARE,
                most=1,
                width=8,
            ),
            lines(
                "What does the cache do?",
                "`stale` are answers that had expired, given because no server answered; evictions "
                "make room: above 0 for long, `max_size` is too small.",
                {
                    "hits": hits,
                    "misses": rate("dns_cache_misses_total"),
                    "stale": rate("dns_cache_stale_total"),
                    "evictions": rate("dns_cache_evictions_total"),
                },
                width=8,
            ),
            lines(
                "How large is it?",
                "Octets of all workers' caches; `max_size` is for each.",
                {"{{instance}}": total("dns_cache_bytes", "instance")},
                OCTETS,
                width=8,
            ),
        ],
        "Limits and policy": [
            lines(
                "What is above a limit?",
                "By limit and what happened. `unsent` is datagrams for which a flow had no room.",
                {
                    "{{limit}}: {{action}}": rate("dns_limited_total", "limit, action"),
                    "clients blocked: {{limit}}": rate("dns_blocks_total", "limit"),
                },
            ),
            lines(
                "What do rules and checks do?",
                "Checks by verdict, and queries that a rule has answered.",
                {
                    "{{verdict}}, {{source}}": rate("dns_verdicts_total", "verdict, source"),
                    "rule: {{answer}}": rate("dns_ruled_total", "answer"),
                },
            ),
            policy(),
            lines(
                "Do clients prove their address?",
                "DNS cookies, where the filter answers for them; `invalid` in numbers is "
                "somebody who forges addresses.",
                {"{{verdict}}": rate("dns_cookies_total", "verdict")},
                width=8,
            ),
            bars(
                "What was not DNS?",
                "By offence, in the whole range; the last ones are HTTP requests without a query.",
                {
                    "{{direction}}: {{kind}}": in_range("dns_decode_errors_total", "direction, kind"),
                    "DoH: {{kind}}": in_range("dns_doh_errors_total", "kind"),
                },
            ),
        ],
        "UDP": [
            *datagrams(),
            lines(
                "How many answers are truncated?",
                "With TC, of servers and of the filter: the client comes again over TCP.",
                {"truncated": rate("dns_truncated_total")},
                width=24,
                height=5,
            ),
        ],
        "Servers": servers(),
        "The connection manager": [
            statuses("flows as they begin, checks, requests"),
            streams(""),
            talkers(
                "Queries in flows and from the cache are in no access log, as they are no requests: `query_log` samples them. Its "
                "lines are in Envoy's own log, with client, name and type.",
                {
                    "loki": 'topk(10, sum by (client) (count_over_time({app="envoy"} '
                    '| regexp `"client":"(?P<client>[^"]+)","transport"` [5m])))',
                    "jq": "grep -o '{\"client\".*}' envoy.log | jq -r .client | sort | uniq -c | sort -rn | head",
                },
            ),
        ],
    },
    prefix="dns",
)
