"""Makes requests one after the other from one source, and prints what came to each as JSON.

Usage: aiocoap_client.py '[{"method": …, "uri": …}, …]', as integration::coap::aiocoap::Request makes it.
"""

import asyncio
import json
import sys

import aiocoap
from aiocoap import Code, Message
from aiocoap.options import OptionNumber

PATIENCE = 40


def pattern(length):
    """The same bytes as integration::coap::pattern."""
    state, out = 0x9E3779B9, bytearray()
    for _ in range(length):
        state = (state * 1_664_525 + 1_013_904_223) & 0xFFFFFFFF
        out.append(state >> 24)
    return bytes(out)


def shown(response):
    payload = response.payload
    seen = {
        "code": response.code.dotted,
        "length": len(payload),
        "pattern": payload == pattern(len(payload)),
        "options": [[int(o.number), o.encode().hex()] for o in response.opt.option_list()],
    }
    if len(payload) <= 4096:
        seen["text"] = payload.decode("utf-8", "replace")
    return seen


async def make(context, step):
    payload = pattern(step["pattern"]) if "pattern" in step else step.get("payload", "").encode()
    request = Message(code=getattr(Code, step["method"]), uri=step["uri"], payload=payload)
    if step.get("non"):
        request.mtype = aiocoap.NON
    for number, value in step.get("options", []):
        option = OptionNumber(number).create_option()
        option.decode(bytes.fromhex(value))
        request.opt.add_option(option)
    if "observe" in step:
        request.opt.observe = 0
    running = context.request(request, handle_blockwise=not step.get("one_block"))
    try:
        seen = [shown(await running.response)]
        if step.get("observe"):
            async for notification in running.observation:
                seen.append(shown(notification))
                if len(seen) > step["observe"]:
                    running.observation.cancel()
                    break
        return seen
    except aiocoap.error.Error as error:
        return [{"code": type(error).__name__}]


async def main(steps):
    context = await aiocoap.Context.create_client_context(transports=["udp6", "tcpclient"])
    print(json.dumps([await asyncio.wait_for(make(context, step), PATIENCE) for step in steps]))
    await context.shutdown()


asyncio.run(main(json.loads(sys.argv[1])))
