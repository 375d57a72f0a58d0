"""A CoAP server over UDP and TCP with what the tests need; it prints each request as a line of JSON.

Usage: aiocoap_server.py <port>
"""

import asyncio
import json
import sys

import aiocoap
from aiocoap import Code, Message, resource


def pattern(length):
    """The same bytes as integration::coap::pattern."""
    state, out = 0x9E3779B9, bytearray()
    for _ in range(length):
        state = (state * 1_664_525 + 1_013_904_223) & 0xFFFFFFFF
        out.append(state >> 24)
    return bytes(out)


def options(message):
    return [[int(option.number), option.encode().hex()] for option in message.opt.option_list()]


def text(content):
    return Message(code=Code.CONTENT, payload=content.encode(), content_format=0)


class Any(resource.Resource):
    """Takes every method, and what is below its path."""

    async def render(self, request):
        response = await self.answer(request, list(request.opt.uri_path))
        if response.opt.no_response is None:
            response.opt.no_response = request.opt.no_response
        return response


class Below(Any, resource.PathCapable):
    pass


class Small(Any):
    async def answer(self, request, path):
        return text("small")


class Large(Below):
    kept = {}

    async def answer(self, request, path):
        length = int(path[0])
        # Each block may be another request.
        if length not in self.kept:
            self.kept[length] = pattern(length)
        return Message(code=Code.CONTENT, payload=self.kept[length])


class Same(Any):
    async def answer(self, request, path):
        code = Code.CONTENT if request.code is Code.FETCH else Code.CHANGED
        return Message(
            code=code, payload=request.payload, content_format=request.opt.content_format
        )


class Methods(Any):
    codes = {
        Code.GET: Code.CONTENT,
        Code.FETCH: Code.CONTENT,
        Code.POST: Code.CREATED,
        Code.PUT: Code.CHANGED,
        Code.PATCH: Code.CHANGED,
        Code.iPATCH: Code.CHANGED,
        Code.DELETE: Code.DELETED,
    }

    async def answer(self, request, path):
        response = Message(code=self.codes[request.code], payload=str(request.code).encode())
        if request.code is Code.POST:
            response.opt.location_path = ("methods", "1")
        return response


class Slow(Below):
    async def answer(self, request, path):
        await asyncio.sleep(int(path[0]) / 1000)
        return Message(code=Code.CONTENT, payload=b"slow")


class Ticks(resource.ObservableResource, resource.PathCapable):
    """Each observer has its own count."""

    async def add_observation(self, request, observation):
        count, period = map(int, request.opt.uri_path)

        async def tick():
            for number in range(1, count + 1):
                await asyncio.sleep(period / 1000)
                observation.trigger(text(str(number)))

        task = asyncio.create_task(tick())
        observation.accept(task.cancel)

    async def render_get(self, request):
        return text("0")


class Options(Any):
    async def answer(self, request, path):
        text = json.dumps({"options": options(request), "length": len(request.payload)})
        return Message(code=Code.CONTENT, payload=text.encode(), content_format=50)


class Strict(Any):
    """aiocoap itself lets pass what it does not know."""

    known = {1, 3, 5, 7, 11, 15, 17, 23, 27, 35, 39}

    async def answer(self, request, path):
        unknown = [n for n, _ in options(request) if n % 2 and n not in self.known]
        if unknown:
            return Message(code=Code.BAD_OPTION, payload=json.dumps(unknown).encode())
        return Message(code=Code.CONTENT, payload=b"strict")


class Status(Below):
    async def answer(self, request, path):
        return Message(code=Code(int(path[0])), payload=b"status")


class Cached(Any):
    async def answer(self, request, path):
        response = Message(code=Code.CONTENT, payload=b"cached", max_age=30)
        resource.hashing_etag(request, response)
        return response


class Logged(resource.Site):
    """Prints requests before they are answered."""

    async def render_to_pipe(self, pipe):
        request = pipe.request
        entry = {
            "method": str(request.code),
            "path": "/" + "/".join(request.opt.uri_path),
            "query": list(request.opt.uri_query),
            "length": len(request.payload),
            "options": options(request),
            "type": str(request.mtype),
            "remote": request.remote.hostinfo,
        }
        print(json.dumps(entry), flush=True)
        await super().render_to_pipe(pipe)


async def main(port):
    site = Logged()
    site.add_resource([".well-known", "core"], resource.WKCResource(site.get_resources_as_linkheader))
    for name, served in {
        "small": Small,
        "large": Large,
        "same": Same,
        "methods": Methods,
        "slow": Slow,
        "ticks": Ticks,
        "options": Options,
        "strict": Strict,
        "status": Status,
        "cached": Cached,
    }.items():
        # Whatever stands between may treat these prefixes differently.
        for prefix in [], ["config"], ["fw"]:
            site.add_resource([*prefix, name], served())
    await aiocoap.Context.create_server_context(
        site, bind=("127.0.0.1", port), transports=["udp6", "tcpserver"]
    )
    await asyncio.get_running_loop().create_future()


asyncio.run(main(int(sys.argv[1])))
