"""A description that does not obey the schema, as kiwi tells it (kiwi/xml_description.py).

    python3 description_like.py PATCH

Prints what is said of it: by kiwi's own code, and in its log.
"""
import json
import os
import runpy
import sys
import types

said = []


class Node:
    def __init__(self, line, tag, **attrib):
        self.sourceline, self.tag, self.attrib = line, tag, attrib


class Tree:
    def __init__(self, nodes):
        self.nodes = nodes

    def xpath(self, path):
        return self.nodes[int(path) : int(path) + 1]


FILES = {
    "/description/config.xml": [Node(7, "type", image="oem"), Node(8, "type", image="tbz")],
    "/var/tmp/whole": [Node(1, "type", image="oem"), Node(2, "type", image="iso")],
}
etree = types.SimpleNamespace(Error=ValueError, parse=lambda name: Tree(FILES[name]))
sys.modules["lxml"] = types.SimpleNamespace(etree=etree)
sys.modules["lxml.etree"] = etree


class XMLDescription:
    description_origin = "/description/config.xml"

    def load(self):
        errors = [types.SimpleNamespace(path=at, message="bad " + at) for at in ("0", "1", "2")]
        self._get_relaxng_validation_details("/k/kiwi.rng", "/var/tmp/whole", errors)
        self._get_relaxng_validation_details("/k/own.rng", "/var/tmp/extension", [])

    @staticmethod
    def _get_relaxng_validation_details(schema, file, errors):
        said.append("jing %s %s" % (schema, file))


module = types.SimpleNamespace(XMLDescription=XMLDescription)
module.log = types.SimpleNamespace(error=lambda text, *words: said.append(text % words))
runpy.run_path(sys.argv[1])["patch_description"](module)
XMLDescription().load()
print(json.dumps(said))
