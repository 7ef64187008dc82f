"""``python -m tests.house``: how large the house is, and what stands where it should not."""

import ast
import io
import sys
import tokenize
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "soilkit"
SMALL_LINES = 150  # below it a module whose only importer is a sibling belongs into that sibling
NOT_TOKENS_OF_CODE = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT,
    tokenize.ENDMARKER,
}  # fmt: skip
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@cache
def modules() -> list[Path]:
    """Every Python file of the package."""
    return sorted(PACKAGE.rglob("*.py"))


def dotted(path: Path) -> str:
    """The name under which a file is imported."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def parsed(path: Path) -> ast.Module:
    """A file's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"))


def docstring(node: ast.AST) -> ast.Expr | None:
    """The statement that is a module's, class's or function's docstring."""
    first = node.body[0] if isinstance(node, DOCUMENTED) and node.body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        return first if isinstance(first.value.value, str) else None
    return None


@cache
def code_lines(path: Path) -> int:
    """Lines that hold a token of code: no blank line, comment or docstring."""
    tokens = tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline)
    held = {
        line
        for token in tokens
        if token.type not in NOT_TOKENS_OF_CODE
        for line in range(token.start[0], token.end[0] + 1)
    }
    for node in ast.walk(parsed(path)):
        if (text := docstring(node)) is not None:
            held -= set(range(text.lineno, text.end_lineno + 1))
    return len(held)


@cache
def imports(path: Path, known: frozenset[str] = frozenset()) -> frozenset[str]:
    """What a file imports, from anywhere in it: modules of the house by their whole name."""
    names = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {w if w in known else node.module for w in whole}
    return frozenset(names)


@cache
def importers() -> dict[str, set[str]]:
    """Each module of the house, and the modules that import it."""
    known = frozenset(map(dotted, modules()))
    found = defaultdict(set)
    for path in modules():
        for name in imports(path, known) & known:
            found[name].add(dotted(path))
    return found


def small_modules_of_one_sibling() -> list[str]:
    """Modules that belong into the one neighbour that imports them."""
    folder = {dotted(path): path.parent for path in modules()}
    by = importers()
    return [
        dotted(path)
        for path in modules()
        if path.name not in ("__init__.py", "__main__.py")
        and len(path.read_text(encoding="utf-8").splitlines()) < SMALL_LINES
        and len(by[dotted(path)]) == 1
        and folder[next(iter(by[dotted(path)]))] == path.parent
    ]


def duplicate_names() -> list[str]:
    """File names that occur in more than one folder; ``__init__`` and ``__main__`` are Python's."""
    names = Counter(p.name for p in modules() if p.name not in ("__init__.py", "__main__.py"))
    return sorted(name for name, n in names.items() if n > 1)


def fullest_folder() -> tuple[str, int]:
    """The folder with most modules, its ``__init__`` left out."""
    counts = Counter(p.parent for p in modules() if p.name != "__init__.py")
    folder, n = counts.most_common(1)[0]
    return str(folder.relative_to(ROOT)), n


def top_entries() -> list[str]:
    """What lies at the top of the package."""
    return sorted(p.name for p in PACKAGE.iterdir() if p.name != "__pycache__")


def figures() -> dict[str, int]:
    """The house in numbers."""
    return {
        "modules": len(modules()),
        "lines": sum(len(p.read_text(encoding="utf-8").splitlines()) for p in modules()),
        "lines of code": sum(map(code_lines, modules())),
        "modules with one importer": sum(len(by) == 1 for by in importers().values()),
        "entries at the top": len(top_entries()),
        "modules in the fullest folder": fullest_folder()[1],
    }


def main() -> None:
    """Print the figures, then what a test would refuse."""
    rows = [f"{name:32} {number:7,}" for name, number in figures().items()]
    rows += [
        f"fullest folder                   {fullest_folder()[0]}",
        f"names that occur twice           {', '.join(duplicate_names()) or 'none'}",
        f"small modules of one sibling     {', '.join(small_modules_of_one_sibling()) or 'none'}",
    ]
    sys.stdout.write("\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
