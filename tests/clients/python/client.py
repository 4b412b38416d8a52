"""Python's aetcd as one of the clients that tests/clients runs: it says its lines of the conversation."""

import asyncio
import sys
from urllib.parse import urlparse

import aetcd

LEASE_TTL_SECONDS = 3


def say(line):
    print(line, flush=True)


def connect():
    url = urlparse(sys.argv[1])
    return aetcd.Client(host=url.hostname, port=url.port)


async def keep_alive(lease):
    """aetcd renews once for each call and leaves outages to its user."""
    while True:
        try:
            await lease.refresh()
            say("renewed")
        except aetcd.ClientError:
            pass
        await asyncio.sleep(LEASE_TTL_SECONDS / 6)


async def watch(revision):
    """aetcd ends a watch, and all later ones of its client, with the connection; its user goes on where it stood."""
    said = False
    while True:
        try:
            async with connect() as client:
                events = await client.watch(b"c/watched", start_revision=revision)
                if not said:
                    say("watching")
                    said = True
                async for event in events:
                    if event.kind == aetcd.EventKind.DELETE:
                        say("event delete")
                        return
                    say("event put " + event.kv.value.decode())
                    revision = event.kv.mod_revision + 1
        except aetcd.ClientError:
            await asyncio.sleep(0.1)


async def main():
    async with connect() as client:
        await client.put(b"c/key", b"one")
        say("put")
        got = await client.get(b"c/key")
        say("get " + got.value.decode())

        txn = client.transactions
        for _ in range(2):
            succeeded, answers = await client.transaction(
                compare=[txn.value(b"c/key") == b"one"],
                success=[txn.put(b"c/key", b"two")],
                failure=[txn.get(b"c/key")],
            )
            say("txn then" if succeeded else "txn else " + answers[0][0][0].decode())

        lease = await client.lease(LEASE_TTL_SECONDS)
        await client.put(b"c/leased", b"", lease=lease)
        renewing = asyncio.create_task(keep_alive(lease))
        say("lease")

        await watch(got.header.revision + 1)
        renewing.cancel()
        await lease.revoke()
        say("done")


asyncio.run(main())
