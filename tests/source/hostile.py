"""Source that no person writes, but that a fuzzer, a generator of code or an accident does: by name, small programs
that would take forever, all memory or the stack if they were run, or read, without a bound."""

from __future__ import annotations

from hypothesis import strategies as st

__all__ = ["PROGRAMS", "programs"]

_CALL = "FLModel(model=TorchModel(model_fn=Net), backend='torch', skip_bn=flag)\n"
_NET = """\
import torch.nn as nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.bn = nn.BatchNorm2d(8)
"""


def _lines(template: str, count: int) -> str:
    return "".join(template.format(n=number, next=number + 1) for number in range(count))


def _of_value(setup: str) -> str:
    """A program in which the value of ``flag`` takes the work."""
    return _NET + setup + "\n" + _CALL


def _of_model(body: str) -> str:
    """A program in which the model takes the work."""
    lines = body.strip("\n").split("\n")
    inner = "\n".join("        " + line for line in lines)
    return f"import torch.nn as nn\nflag = True\nclass Net(nn.Module):\n    def __init__(self):\n{inner}\n{_CALL}"


_DOUBLE = "for _ in range(60):\n    x = x + x\nflag = x"

PROGRAMS: dict[str, str] = {
    "text doubled": _of_value("x = 'a'\n" + _DOUBLE),
    "list doubled": _of_value("x = [1]\n" + _DOUBLE),
    "tuple doubled": _of_value("x = (1,)\n" + _DOUBLE),
    "list extended by itself": _of_value("x = [1]\nfor _ in range(60):\n    x.extend(x)\nflag = x"),
    "list += itself": _of_value("x = [1]\nfor _ in range(60):\n    x += x\nflag = x"),
    "list of lists": _of_value("x = [1]\nfor _ in range(60):\n    x = [*x, *x]\nflag = x"),
    "list times": _of_value("x = [1] * 4000\nfor _ in range(60):\n    x = x * 1000\nflag = x"),
    "list of lists, shared": _of_value("x = [1]\nfor _ in range(60):\n    x = [x, x]\nflag = x"),
    "shared lists compared": _of_value("x = y = [1]\nfor _ in range(60):\n    x, y = [x, x], [y, y]\nflag = x == y"),
    "shared lists copied": _of_value(
        "import copy\nx = [1]\nfor _ in range(60):\n    x = [x, x]\nflag = copy.deepcopy(x)"
    ),
    "a list in itself": _of_value("import copy\nx = []\nx.append(x)\nflag = copy.deepcopy(x) == x"),
    "a dict in itself": _of_value("x = {}\nx['x'] = x\nx.update(x)\nflag = x['x']['x']"),
    "dict doubled": _of_value("x = {}\nfor n in range(60):\n    x = {**x, **{(n, k): 1 for k in x}, n: 1}\nflag = x"),
    "dict of dicts": _of_value("x = {}\nfor n in range(900):\n    x = {'a': x}\nflag = x"),
    "set doubled": _of_value("x = {1}\nfor n in range(60):\n    x = x | {(a, n) for a in x}\nflag = x"),
    "zip and map": _of_value("x = [1, 2]\nfor _ in range(60):\n    x = list(map(lambda a: a, x + x))\nflag = x"),
    "itertools": _of_value(
        "import itertools\nx = [1, 2]\nfor _ in range(60):\n    x = list(itertools.chain(x, x))\nflag = x"
    ),
    "chain of a list many times": _of_value(
        "import itertools\nx = [1] * 4000\nfor _ in range(9):\n    x = list(itertools.chain(*([x] * 1000)))\nflag = x"
    ),
    "sum of lists": _of_value("x = [[1] * 4000] * 4000\nflag = sum(x, [])"),
    "power": _of_value("flag = 10 ** 10 ** 10"),
    "power of powers": _of_value("x = 7\nfor _ in range(60):\n    x = x ** x\nflag = x"),
    "squares": _of_value("x = 10 ** 9\nfor _ in range(900):\n    x = x * x\nflag = x"),
    "shifts": _of_value("x = 1\nfor _ in range(900):\n    x = x << 500\nflag = x"),
    "shift by much": _of_value("flag = 1 << 10 ** 12"),
    "sums of large numbers": _of_value("x = 2 ** 500\nfor _ in range(900):\n    x = x + x\nflag = str(x)"),
    "format width": _of_value("flag = f'{1:>999999999}'"),
    "format width, nested": _of_value("n = 999999999\nflag = f'{1:>{n}}'"),
    "str.format width": _of_value("flag = '{:>999999999}'.format(1)"),
    "str.format width, nested": _of_value("flag = '{:>{}}'.format(1, 999999999)"),
    "percent width": _of_value("flag = '%999999999d' % 1"),
    "percent width, star": _of_value("flag = '%*d' % (999999999, 1)"),
    "precision": _of_value("flag = f'{1:.999999999f}'"),
    "zfill": _of_value("flag = 'a'.zfill(999999999)"),
    "ljust": _of_value("flag = 'a'.ljust(999999999).center(999999999).rjust(9 ** 9)"),
    "expandtabs": _of_value("flag = '\\t'.expandtabs(999999999)"),
    "replace": _of_value("x = 'a'\nfor _ in range(60):\n    x = x.replace('a', 'aaaaaaaaaa')\nflag = x"),
    "replace the empty text": _of_value("x = 'a' * 9000\nflag = x.replace('', 'b' * 9000)"),
    "join": _of_value("x = 'a' * 9000\nfor _ in range(60):\n    x = x.join(x)\nflag = x"),
    "join by joins": _of_value("x = 'ab'\nfor _ in range(60):\n    x = x.join(['c', x, x])\nflag = x"),
    "f-string doubled": _of_value("x = 'a'\nfor _ in range(60):\n    x = f'{x}{x}'\nflag = x"),
    "format doubled": _of_value("x = 'a'\nfor _ in range(60):\n    x = '{0}{0}'.format(x)\nflag = x"),
    "percent doubled": _of_value("x = 'a'\nfor _ in range(60):\n    x = '%s%s' % (x, x)\nflag = x"),
    "repr doubled": _of_value("x = '\\\\'\nfor _ in range(60):\n    x = repr(x)\nflag = x"),
    "split of much": _of_value("x = 'a ' * 40000\nflag = [x.split(' ') for _ in range(1000)]"),
    "int of digits": _of_value("flag = int('9' * 9000)"),
    "range": _of_value("flag = list(range(10 ** 12))"),
    "a loop over much": _of_value("flag = 0\nfor n in range(10 ** 12):\n    flag += n"),
    "loops in loops": _of_value(
        "flag = 0\n" + "".join("    " * n + f"for v{n} in range(900):\n" for n in range(8)) + "    " * 8 + "flag += 1"
    ),
    "comprehensions in comprehensions": _of_value(
        "flag = [1 " + "".join(f"for v{n} in range(900) " for n in range(8)) + "]"
    ),
    "nested comprehensions": _of_value("flag = " + "[" * 8 + "1" + " for _ in range(900)]" * 8),
    "while True": _of_value("flag = 0\nwhile True:\n    flag += 1"),
    "while True, nested": _of_value(
        "flag = 0\nwhile True:\n    while True:\n        while True:\n            flag += 1"
    ),
    "a list that grows in a loop": _of_value("flag = [1]\nfor a in flag:\n    flag.append(a)"),
    "while a list grows": _of_value("flag = [1]\nwhile flag:\n    flag.append(list(flag))"),
    "recursion": _of_value("def f(n):\n    return f(n + 1)\nflag = f(0)"),
    "recursion, twice": _of_value("def f(n):\n    return f(n + 1) + f(n + 2)\nflag = f(0)"),
    "recursion, ten times": _of_value(
        "def f(n):\n    return " + " + ".join("f(n)" for _ in range(10)) + "\nflag = f(0)"
    ),
    "mutual recursion": _of_value(
        _lines("def f{n}(x):\n    return f{next}(x) or f{next}(x)\n", 40) + "f40 = f0\nflag = f0(1)"
    ),
    "a ladder of calls": _of_value(
        _lines("def f{n}(x):\n    return f{next}(x), f{next}(x)\n", 40) + "f40 = abs\nflag = f0(1)"
    ),
    "Ackermann": _of_value(
        "def a(m, n):\n    if m == 0:\n        return n + 1\n    if n == 0:\n        return a(m - 1, 1)\n"
        "    return a(m - 1, a(m, n - 1))\nflag = a(4, 4)"
    ),
    "a lambda of itself": _of_value("f = lambda x: x(x)\nflag = f(f)"),
    "a lambda of lambdas": _of_value("f = lambda x: x(x)(x(x))\nflag = f(f)"),
    "recursive lambda": _of_value("g = lambda n: g(n + 1) + g(n + 2)\nflag = g(0)"),
    "__call__ of itself": _of_value("class C:\n    def __call__(self):\n        return self() + self()\nflag = C()()"),
    "a property of itself": _of_value(
        "class C:\n    @property\n    def x(self):\n        return self.x + self.x\nflag = C().x"
    ),
    "__init__ of itself": _of_value("class C:\n    def __init__(self):\n        self.a, self.b = C(), C()\nflag = C()"),
    "a generator of itself": _of_value(
        "def g():\n    yield 1\n    yield from g()\n    yield from g()\nflag = list(g())"
    ),
    "partials of partials": _of_value(
        "from functools import partial\nf = abs\nfor _ in range(900):\n    f = partial(f)\nflag = f(1)"
    ),
    "a partial of itself": _of_value(
        "from functools import partial\ndef f(g):\n    return partial(g, g)()\nflag = f(f)"
    ),
    "decorators": _of_value("def d(f):\n    return f\n" + "@d\n" * 900 + "def f():\n    pass\nflag = f()"),
    "a decorator that calls": _of_value("def d(f):\n    return d(f)\n@d\ndef f():\n    pass\nflag = f()"),
    "a class of itself": _of_value("class C(C):\n    x = 1\nflag = C().x"),
    "classes in a circle": _of_value("class A(B):\n    pass\nclass B(A):\n    pass\nflag = A().x"),
    "inheritance, deep": _of_value(
        "class C0:\n    x = 1\n" + _lines("class C{next}(C{n}):\n    pass\n", 1000) + "flag = C1000().x"
    ),
    "inheritance, wide": _of_value(
        _lines("class C{n}:\n    pass\n", 200)
        + "class D("
        + ", ".join(f"C{n}" for n in range(200))
        + "):\n    pass\nflag = D().x"
    ),
    "diamonds": _of_value(
        "class A0: pass\nclass B0: pass\n"
        + _lines("class A{next}(A{n}, B{n}): pass\nclass B{next}(A{n}, B{n}): pass\n", 40)
        + "class D(A40, B40): pass\nflag = D().x"
    ),
    "methods": _of_value(
        "class C:\n" + _lines("    def m{n}(self):\n        return self.m{next}()\n", 5000) + "flag = C().m0()"
    ),
    "assignments": _of_value("x0 = 1\n" + _lines("x{next} = x{n}\n", 3000) + "flag = x3000"),
    "assignments, doubled": _of_value("x0 = [1]\n" + _lines("x{next} = x{n} + x{n}\n", 300) + "flag = x300"),
    "one name again and again": _of_value("flag = 1\n" + "flag = flag + flag\n" * 3000),
    "a long sum": _of_value("flag = " + " + ".join(["1"] * 2900)),
    "a long text": _of_value("flag = '" + "a" * 500_000 + "'"),
    "a long list": _of_value("flag = [" + "1, " * 30_000 + "]"),
    "a long dict": _of_value("flag = {" + "".join(f"{n}: [{n}], " for n in range(10_000)) + "}"),
    "brackets": _of_value("flag = " + "[" * 190 + "]" * 190),
    "lambdas in lambdas": _of_value("flag = " + "lambda: " * 300 + "1"),
    "conditions in conditions": _of_value("import sys\nflag = " + "(1 if sys.a else " * 150 + "0" + ")" * 150),
    "boolean conditions": _of_value("import sys\nflag = " + " and ".join(f"sys.a{n}" for n in range(500))),
    "comparisons": _of_value("import sys\nflag = " + " < ".join(f"sys.a{n}" for n in range(500))),
    "unknown conditions": _of_value(
        "import sys\nflag = 0\n" + _lines("if sys.a{n}:\n    flag += {n}\nelse:\n    flag -= 1\n", 300)
    ),
    "unknown conditions, nested": _of_value(
        "import sys\nflag = 0\n" + "".join("    " * n + f"if sys.a{n}:\n" for n in range(80)) + "    " * 80 + "flag = 1"
    ),
    "unknown choices": _of_value(
        "import sys\nx = {1: 2, 3: 4, 5: 6}\nflag = [" + ", ".join(f"x[sys.a{n}]" for n in range(60)) + "]"
    ),
    "elif": _of_value("import sys\nflag = 0\nif sys.a:\n    pass\n" + _lines("elif sys.a{n}:\n    flag = {n}\n", 1000)),
    "try in try": _of_value(
        "flag = 0\n"
        + "".join("    " * n + "try:\n" for n in range(80))
        + "    " * 80
        + "flag = 1\n"
        + "".join("    " * n + "except Exception:\n" + "    " * (n + 1) + "flag = 2\n" for n in reversed(range(80)))
    ),
    "match": _of_value("import sys\nmatch sys.a:\n" + _lines("    case {n}:\n        flag = {n}\n", 500)),
    "with": _of_value("with " + ", ".join(f"open('{n}') as f{n}" for n in range(500)) + ":\n    flag = 1"),
    "FLModel calls": _of_value("flag = 1\n" + _CALL * 1000),
    "FLModel calls under conditions": _of_value(
        "import sys\nflag = 1\n" + _lines("if sys.a{n}:\n    " + _CALL.replace("{", "{{"), 600)
    ),
    "FLModel in a loop": _of_value("flag = 1\nfor a in range(900):\n    for b in range(900):\n        " + _CALL),
    "FLModel in FLModel": _of_value("flag = 1\n" + "FLModel(model=" * 150 + "Net" + ")" * 150),
    "functions with an FLModel": _of_value(_lines("def f{n}(flag):\n    " + _CALL, 600) + _lines("f{n}({n})\n", 600)),
    "callers": _of_value("def make(flag):\n    " + _CALL + "make(1)\n" * 10_000),
    "callers of callers": _of_value(
        "def f0(flag):\n    " + _CALL + _lines("def f{next}(flag):\n" + "    f{n}(flag)\n" * 8, 8) + "f8(1)\n" * 8
    ),
    "callers in a circle": _of_value(
        "def f(flag):\n    "
        + _CALL
        + "    g(flag)\ndef g(flag):\n    f(flag)\n    h(flag)\ndef h(flag):\n    g(flag)\n"
    ),
    "subclasses of FLModel": _of_value(
        "flag = 1\nclass F0(FLModel):\n    pass\n"
        + _lines("class F{next}(F{n}):\n    pass\n", 300)
        + "F300(model=Net)\n"
    ),
    "aliases of FLModel": _of_value("flag = 1\nF0 = FLModel\n" + _lines("F{next} = F{n}\n", 500) + "F500(model=Net)\n"),
    "layers in a loop": _of_model(
        "super().__init__()\nfor n in range(10 ** 9):\n    setattr(self, f'bn{n}', nn.BatchNorm2d(n))"
    ),
    "layers in loops": _of_model(
        "super().__init__()\nself.x = nn.Sequential(*[nn.Sequential(*[nn.BatchNorm2d(a) for a in range(900)])"
        " for b in range(900)])"
    ),
    "a module in itself": _of_model("super().__init__()\nself.me = self\nself.bn = nn.BatchNorm2d(3)"),
    "modules in a circle": _of_model(
        "super().__init__()\na = nn.Sequential()\nb = nn.Sequential(a)\na.add_module('b', b)\nself.a = a"
    ),
    "modules shared": _of_model(
        "super().__init__()\nx = nn.BatchNorm2d(3)\nfor _ in range(60):\n    x = nn.Sequential(x, x)\nself.x = x"
    ),
    "modules copied": _of_model(
        "super().__init__()\nimport copy\nx = nn.BatchNorm2d(3)\nfor _ in range(60):\n"
        "    x = nn.Sequential(x, copy.deepcopy(x))\nself.x = x"
    ),
    "modules nested": _of_model(
        "super().__init__()\nx = nn.BatchNorm2d(3)\nfor _ in range(900):\n    x = nn.Sequential(x)\nself.x = x"
    ),
    "lists of modules doubled": _of_model(
        "super().__init__()\nx = [nn.BatchNorm2d(3)]\nfor _ in range(60):\n    x = x + x\nself.x = nn.Sequential(*x)"
    ),
    "a module list extended by itself": _of_model(
        "super().__init__()\nself.x = nn.ModuleList([nn.BatchNorm2d(3)])\n"
        "for _ in range(60):\n    self.x.extend(self.x)"
    ),
    "a builder of itself": _of_model("super().__init__()\nself.a = Net()\nself.b = Net()"),
    "a model of large layers": _of_model("super().__init__()\nself.x = nn.Linear(10 ** 30, 10 ** 30)"),
    "a transformer of many layers": _of_model(
        "super().__init__()\nself.x = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2), 10 ** 9)"
    ),
    "an LSTM of many layers": _of_model("super().__init__()\nself.x = nn.LSTM(8, 8, num_layers=10 ** 9)"),
    "parameters of many": _of_model(
        "super().__init__()\nimport torch\nself.x = nn.Parameter(torch.zeros(10 ** 9, 10 ** 9))"
    ),
    "apply in apply": _of_model(
        "super().__init__()\nself.x = nn.Sequential(*[nn.BatchNorm2d(n) for n in range(900)])\n"
        "for m in self.modules():\n    for n in self.modules():\n        for o in self.modules():\n            o.x = n"
    ),
}
"""Each is a file that imports FLModel and TorchModel by the two lines that go before it."""


_NAMES = st.sampled_from(["a", "b", "c", "f", "g", "C", "D", "x", "self", "Net", "flag", "nn", "FLModel", "missing"])
_TEXTS = st.sampled_from(["a", "{}", "%s", "bn", "", "%d %(x)s", "{0[a]!r:>9}", "\\n"])
_ATTRIBUTES = st.sampled_from(
    [
        "x",
        "append",
        "items",
        "get",
        "pop",
        "update",
        "format",
        "join",
        "BatchNorm2d",
        "Sequential",
        "children",
        "weight",
        "register_buffer",
        "add_module",
        "fit",
        "evaluate",
        "__class__",
        "__dict__",
        "__init__",
        "modules",
        "to",
        "apply",
    ]
)
_BUILTINS = st.sampled_from(
    [
        "len",
        "list",
        "dict",
        "set",
        "tuple",
        "zip",
        "map",
        "range",
        "getattr",
        "setattr",
        "isinstance",
        "type",
        "super",
        "sorted",
        "enumerate",
        "next",
        "iter",
        "sum",
        "max",
        "int",
        "str",
        "globals",
        "vars",
        "hasattr",
        "filter",
        "any",
    ]
)
_OPERATORS = st.sampled_from(
    [
        "+",
        "-",
        "*",
        "/",
        "//",
        "%",
        "**",
        "<<",
        ">>",
        "|",
        "&",
        "^",
        "@",
        "and",
        "or",
        "==",
        "!=",
        "<",
        "is",
        "in",
        "not in",
    ]
)


def _expressions() -> st.SearchStrategy[str]:
    atoms = st.one_of(
        _NAMES,
        _BUILTINS,
        st.integers(-3, 10**6).map(lambda number: f"({number})"),
        _TEXTS.map(lambda text: f"'{text}'"),
        st.sampled_from(["None", "True", "...", "1.5", "2j", "b'x'", "[]", "{}", "()", "super()", "nn.BatchNorm2d(8)"]),
    )

    def larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        several = st.lists(inner, max_size=3)
        return st.one_of(
            st.tuples(inner, _OPERATORS, inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
            st.tuples(st.sampled_from(["not ", "-", "~", "+"]), inner).map(lambda t: f"({t[0]}{t[1]})"),
            st.tuples(inner, _ATTRIBUTES).map(".".join),
            st.tuples(inner, inner).map(lambda t: f"{t[0]}[{t[1]}]"),
            st.tuples(inner, inner, inner).map(lambda t: f"{t[0]}[{t[1]}:{t[2]}]"),
            st.tuples(inner, several).map(lambda t: f"{t[0]}({', '.join(t[1])})"),
            st.tuples(inner, inner, inner).map(lambda t: f"{t[0]}(*{t[1]}, **{t[2]})"),
            st.tuples(inner, _NAMES, inner).map(lambda t: f"{t[0]}({t[1]}={t[2]})"),
            st.tuples(inner, inner, inner).map(lambda t: f"({t[0]} if {t[1]} else {t[2]})"),
            several.map(lambda items: f"[{', '.join(items)}]"),
            several.map(lambda items: "(" + "".join(f"{item}, " for item in items) + ")"),
            st.tuples(inner, inner, inner).map(lambda t: f"{{{t[0]}: {t[1]}, **{t[2]}}}"),
            st.tuples(inner, inner, inner).map(lambda t: f"[{t[0]} for a, *b in {t[1]} if {t[2]}]"),
            st.tuples(inner, inner, inner).map(lambda t: f"{{{t[0]}: {t[1]} for c in {t[2]}}}"),
            inner.map(lambda body: f"(lambda a=1, *b, **c: {body})"),
            inner.map(lambda value: f"(x := {value})"),
            _NAMES.map(lambda name: f"f'{{{name}!r:>{{{name}}}}} {{{name}}}'"),
        )

    return st.recursive(atoms, larger, max_leaves=8)


def _statements() -> st.SearchStrategy[list[str]]:
    value = _expressions()
    target = st.one_of(
        _NAMES,
        st.tuples(_NAMES, _ATTRIBUTES).map(".".join),
        st.tuples(_NAMES, value).map(lambda t: f"{t[0]}[{t[1]}]"),
        st.sampled_from(["a, b", "a, *b", "(a, (b, c)), x", "a = b"]),
    )
    simple = st.one_of(
        st.tuples(target, value).map(lambda t: [f"{t[0]} = {t[1]}"]),
        st.tuples(_NAMES, st.sampled_from(["+=", "*=", "|=", "**="]), value).map(lambda t: [" ".join(t)]),
        value.map(lambda text: [text]),
        st.tuples(_NAMES, value).map(lambda t: [f"{t[0]}.x: int = {t[1]}"]),
        _NAMES.map(lambda name: [f"del {name}"]),
        st.sampled_from([["pass"], ["raise ValueError"], ["import sys as x"], ["from missing import *"], ["assert x"]]),
        value.map(lambda text: [f"FLModel(model=TorchModel(Net), skip_bn={text})"]),
    )

    def larger(inner: st.SearchStrategy[list[str]]) -> st.SearchStrategy[list[str]]:
        block = st.lists(inner, min_size=1, max_size=3).map(
            lambda rows: ["    " + line for row in rows for line in row]
        )
        return st.one_of(
            st.tuples(value, block, block).map(lambda t: [f"if {t[0]}:", *t[1], "else:", *t[2]]),
            st.tuples(target.filter(lambda t: "=" not in t), value, block).map(
                lambda t: [f"for {t[0]} in {t[1]}:", *t[2]]
            ),
            st.tuples(value, block).map(lambda t: [f"while {t[0]}:", *t[1]]),
            st.tuples(value, block).map(lambda t: [f"with {t[0]} as x:", *t[1]]),
            st.tuples(block, block).map(lambda t: ["try:", *t[0], "except Exception as x:", *t[1]]),
            st.tuples(_NAMES, value, block, value).map(
                lambda t: [f"def {t[0]}(a, b={t[1]}, *x, **c):", *t[2], f"    return {t[3]}"]
            ),
            st.tuples(_NAMES, _NAMES, block).map(lambda t: [f"class {t[0]}({t[1]}):", *t[2]]),
            st.tuples(_NAMES, block).map(
                lambda t: [f"class {t[0]}(nn.Module):", "    def __init__(self):", *["    " + line for line in t[1]]]
            ),
            st.tuples(value, value, block).map(
                lambda t: [f"match {t[0]}:", f"    case {{'a': a, **b}} if {t[1]}:"] + ["    " + line for line in t[2]]
            ),
        )

    return st.recursive(simple, larger, max_leaves=8)


def programs() -> st.SearchStrategy[str]:
    """Programs without sense, of all the statements and expressions that the interpreter follows."""
    head = "import torch.nn as nn\n"
    tail = "FLModel(model=TorchModel(Net), backend='torch', skip_bn=flag)\n"
    return st.lists(_statements(), min_size=1, max_size=8).map(
        lambda rows: head + "".join(f"{line}\n" for row in rows for line in row) + tail
    )
