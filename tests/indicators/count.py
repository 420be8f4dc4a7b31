"""Counts what an import must make of a file: read, loaded, merged, held, refused. Shares nothing with the product.

usage: count.py stix|misp FILE WARNING_LIST...
Every entry is given the condition "destination port 443" beside its own, where it names no destination port.
"""
import ipaddress
import json
import re
import sys

kind, path, *lists = sys.argv[1:]
warned = []
for name in lists:
    warned += [ipaddress.ip_network(text, strict=False) for text in json.load(open(name))["list"]]


def special(network):
    first, last = network[0], network[-1]
    return any(a.is_private or a.is_multicast or a.is_reserved or a.is_loopback or a.is_link_local for a in (first, last))


def held(network):
    wide = network.prefixlen < (16 if network.version == 4 else 33)
    return wide or special(network) or any(w.version == network.version and w.overlaps(network) for w in warned)


def entries():
    """Each as its alternatives, or nothing if it cannot be a rule: (addresses, what else it says)."""
    data = json.load(open(path))
    if kind == "stix":
        for thing in data["objects"]:
            if thing["type"] == "indicator":
                pattern = thing["pattern"]
                found = re.fullmatch(r"\s*\[\s*(.*?)\s*\]\s*", pattern)
                parts = re.split(r"\s+OR\s+", found.group(1)) if found else []
                made = [re.fullmatch(r"ipv[46]-addr:value\s*=\s*'([^']*)'", part) for part in parts]
                yield [(m.group(1), "") for m in made] if made and all(made) else None
    else:
        events = data if isinstance(data, list) else data.get("response", data)
        for event in events if isinstance(events, list) else [events]:
            event = event["Event"] if "Event" in event else event
            attributes = list(event.get("Attribute", []))
            for thing in event.get("Object", []):
                attributes += thing["Attribute"]
            for attribute in attributes:
                if attribute.get("to_ids") in (True, "1", 1):
                    if attribute["type"] in ("ip-src", "ip-dst"):
                        yield [(attribute["value"], attribute["type"] + ("|port443" if attribute["type"] == "ip-dst" else ""))]
                    elif attribute["type"] in ("ip-src|port", "ip-dst|port"):
                        address, port = attribute["value"].split("|")
                        yield [(address, attribute["type"] + port)]
                    else:
                        yield None


counts = dict(read=0, loaded=0, merged=0, held=0, refused=0)
seen = set()
for entry in entries():
    counts["read"] += 1
    try:
        networks = entry and [(ipaddress.ip_network(text, strict=False), rest) for text, rest in entry]
    except ValueError:
        networks = None
    if not networks:
        counts["refused"] += 1
    elif any(held(network) for network, _ in networks):
        counts["held"] += 1
    elif all(pair in seen for pair in networks):
        counts["merged"] += 1
    else:
        counts["loaded"] += 1
        seen.update(networks)
print(json.dumps(counts))
