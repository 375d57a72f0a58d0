"""Asks queries one after the other, and prints what came to each as JSON.

Usage: dnspython_client.py '[{"server": …, "port": …, "name": …, "type": …}, …]', as integration::dns::clients::PythonQuery
makes it.
"""

import json
import ssl
import sys
import urllib.request

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode

PATIENCE = 10


def ask_over_https(query, port):
    """With Python's own HTTP/1.1: dnspython's needs a library for HTTP/2."""
    trust = ssl.create_default_context(cafile=".build/certs/ca.crt")
    media_type = {"content-type": "application/dns-message"}
    request = urllib.request.Request(f"https://localhost:{port}/dns-query", query.to_wire(), media_type)
    with urllib.request.urlopen(request, context=trust, timeout=PATIENCE) as response:
        answer = dns.message.from_wire(response.read())
    if not query.is_response(answer):
        raise dns.query.BadResponse
    return answer


def ask(step):
    edns = step.get("edns")
    options = {"payload": edns["payload"], "want_dnssec": edns["do"]} if edns else {"use_edns": False}
    query = dns.message.make_query(step["name"], step["type"], **options)
    where = {"where": step["server"], "port": step["port"], "timeout": PATIENCE}
    transport = step.get("transport", "udp")
    if transport == "https":
        return ask_over_https(query, step["port"])
    if transport == "tls":
        trust = ssl.create_default_context(cafile=".build/certs/ca.crt")
        return dns.query.tls(query, ssl_context=trust, server_hostname="localhost", **where)
    return {"udp": dns.query.udp, "tcp": dns.query.tcp}[transport](query, **where)


def shown(step):
    try:
        answer = ask(step)
    except (dns.exception.DNSException, OSError, EOFError) as error:
        return {"rcode": type(error).__name__, "error": str(error)}
    return {
        "rcode": dns.rcode.to_text(answer.rcode()),
        "flags": dns.flags.to_text(answer.flags),
        "answers": [line for rrset in answer.answer for line in rrset.to_text().splitlines()],
        "extended_errors": [o.to_text() for o in answer.options if isinstance(o, dns.edns.EDEOption)],
    }


print(json.dumps([shown(step) for step in json.loads(sys.argv[1])]))
