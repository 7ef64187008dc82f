"""Evaluates an expression: the nodes of the graph, one node's function in ``NODES``."""

from tests.stand_in_ee.errors import Answer
from tests.stand_in_ee.rasters import Earth
from tests.stand_in_ee.signatures import complete
from tests.stand_in_ee.values import Function

NODES = {}


def node(*names: str):
    """Register the function that evaluates some nodes; it takes the Earth, then the arguments."""

    def keep(function):
        for name in names:
            NODES[name] = function
        return function

    return keep


class Evaluation:
    """One expression over one Earth. A node outside of functions is evaluated once."""

    def __init__(self, expression: dict, earth: Earth):
        if not isinstance(expression, dict) or "result" not in expression:
            raise Answer("Invalid expression: it has no result.")
        self.earth = earth
        self.values = expression.get("values", {})
        self.root = expression["result"]
        self.known: dict[int, object] = {}
        self.open: dict[int, frozenset] = {}

    def result(self):
        """The value of the whole expression."""
        return self.reference(self.root, {})

    def reference(self, name: str, scope: dict):
        if name not in self.values:
            raise Answer(f"Invalid expression: ValueNode reference {name!r} is not defined.")
        return self.evaluate(self.values[name], scope)

    def open_arguments(self, entry) -> frozenset:
        """The arguments of functions around it that an entry holds."""
        if not isinstance(entry, dict | list):
            return frozenset()
        key = id(entry)  # entries live as long as the evaluation
        if key not in self.open:
            self.open[key] = frozenset()  # an expression that refers to itself ends here
            self.open[key] = self._open_arguments(entry)
        return self.open[key]

    def _open_arguments(self, entry) -> frozenset:
        if isinstance(entry, list):
            return frozenset().union(*map(self.open_arguments, entry))
        if "constantValue" in entry:
            return frozenset()
        if "argumentReference" in entry:
            return frozenset([entry["argumentReference"]])
        if "valueReference" in entry:
            return self.open_arguments(self.values.get(entry["valueReference"]))
        if "functionDefinitionValue" in entry:
            function = entry["functionDefinitionValue"]
            body = self.open_arguments(self.values.get(function["body"]))
            return body - set(function.get("argumentNames", ()))
        return frozenset().union(*map(self.open_arguments, entry.values()))

    def evaluate(self, entry: dict, scope: dict):
        """The value of one node; ``scope`` holds the arguments of the functions around it."""
        if self.open_arguments(entry):
            return self._evaluate(entry, scope)
        if id(entry) not in self.known:
            self.known[id(entry)] = self._evaluate(entry, {})
        return self.known[id(entry)]

    def _evaluate(self, entry: dict, scope: dict):
        kind, content = next(iter(entry.items()))
        method = getattr(self, f"on_{kind}", None)
        if len(entry) != 1 or method is None:
            raise Answer(f"The stand-in knows no expression node {sorted(entry)}.")
        return method(content, scope)

    def on_constantValue(self, content, scope):
        return content

    def on_integerValue(self, content, scope):
        return int(content)

    def on_valueReference(self, content, scope):
        return self.reference(content, scope)

    def on_argumentReference(self, content, scope):
        if content not in scope:
            raise Answer(f"Invalid expression: argument {content!r} is not defined.")
        return scope[content]

    def on_arrayValue(self, content, scope):
        return [self.evaluate(entry, scope) for entry in content.get("values", ())]

    def on_dictionaryValue(self, content, scope):
        entries = content.get("values", {})
        return {key: self.evaluate(entry, scope) for key, entry in entries.items()}

    def on_functionDefinitionValue(self, content, scope):
        names = content.get("argumentNames", [])

        def call(*values):
            inner = {**scope, **dict(zip(names, values, strict=True))}
            return self.reference(content["body"], inner)

        return Function(call, len(names))

    def on_functionInvocationValue(self, content, scope):
        if "functionName" not in content:
            raise Answer("The stand-in calls functions by name only.")
        name = content["functionName"]
        given = {
            key: self.evaluate(entry, scope) for key, entry in content.get("arguments", {}).items()
        }
        arguments = complete(name, given)
        if name not in NODES:
            raise Answer(f"The stand-in Earth Engine does not evaluate {name}.")
        return NODES[name](self.earth, **arguments)
