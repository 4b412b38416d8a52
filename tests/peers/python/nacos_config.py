"""A client of Nacos' configuration by PyPI's nacos-sdk-python: `nacos_config.py ADDRESS NAMESPACE DIRECTORY`.

Obeys lines: `get GROUP DOC`, `publish GROUP DOC CONTENT`, `remove GROUP DOC`, `watch GROUP DOC`; answers each with a line `> ANSWER`, as JSON.
What a watch is told is printed as `> told CONTENT` when it comes. Lines without the sign are the library's own.
"""

import json
import sys
import types

import nacos

# It would start a process for a list that only its own threads share, and that process would outlive a client that is killed.
nacos.client.Manager = lambda: types.SimpleNamespace(list=list)


def say(answer, before=""):
    # In one piece that begins a line: threads of the library print beside.
    sys.stdout.write(f"\n> {before}{json.dumps(answer, ensure_ascii=False)}\n")
    sys.stdout.flush()


address, namespace, directory = sys.argv[1:]
client = nacos.NacosClient(address, namespace=namespace, logDir=directory, log_level="ERROR")
client.set_options(
    no_snapshot=True,
    snapshot_base=directory + "/snapshot",
    failover_base=directory + "/failover",
    pulling_timeout=20,
)


def told(params):
    say(params["content"], "told ")


for line in sys.stdin:
    verb, group, doc, *content = line.rstrip("\n").split(" ", 3)
    if verb == "get":
        say(client.get_config(doc, group))
    elif verb == "publish":
        say(client.publish_config(doc, group, content[0]))
    elif verb == "remove":
        say(client.remove_config(doc, group))
    elif verb == "watch":
        client.add_config_watcher(doc, group, told)
        say("watching")
