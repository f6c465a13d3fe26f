"""The order of the site's pages; what is generated follows its generators, and what is linked to elsewhere is reached by its links."""

from collections.abc import Mapping, Sequence

from kp.config.toml import toml_value

Tree = str | Sequence["Tree"] | Mapping[str, "Tree"]

GUIDES = (
    "facts",
    "models",
    "categorising",
    "searching-and-training",
    "evaluating",
    "packing",
    "gating",
    "planning",
    "explaining",
    "using-adapters",
    "paper",
    "cluster",
    "speed",
    "faults",
    "gpu-check",
    "install",
    "adding-things",
)
"""The pages at the top of docs/, in reading order; one that is not there is left out, and one that is missing here comes last."""
TUTORIALS = ("teach-100-facts", "gate-in-ci", "paper-on-8-gpus")
CONCEPTS = ("categories", "effects", "verdicts", "capacity", "drift", "search", "questions")


def navigation(pages: Mapping[str, str], generated: Mapping[str, Sequence[str]]) -> list[Tree]:
    """The navigation of a site with these pages (title by path) and these generated sections (paths by name)."""
    guides = [path for path in pages if "/" not in path and path != "index.md"]
    known = [f"{name}.md" for name in GUIDES]
    guides.sort(key=lambda path: (known.index(path) if path in known else len(known), path))
    chosen = {
        "Tutorials": [f"tutorials/{name}.md" for name in TUTORIALS],
        "Concepts": [f"concepts/{name}.md" for name in CONCEPTS],
        "Guides": guides,
    }
    trees: list[Tree] = [{"Start here": "index.md"}]
    trees += [{name: _entries(paths, pages)} for name, paths in chosen.items()]
    trees.append({"Reference": [{name: _entries(paths, pages)} for name, paths in generated.items()]})
    working = ["repository/readme.md", "repository/CONTRIBUTING.md", "repository/results/readme.md"]
    trees.append({"The repository": _entries(working, pages)})
    return trees


def _entries(paths: Sequence[str], pages: Mapping[str, str]) -> list[Tree]:
    return [{pages[path]: path} for path in paths if path in pages]


def as_toml(tree: Tree) -> str:
    """A tree as an inline value of TOML."""
    if isinstance(tree, str):
        return toml_value(tree)
    if isinstance(tree, Mapping):
        return "{ " + ", ".join(f"{as_toml(name)} = {as_toml(part)}" for name, part in tree.items()) + " }"
    return "[" + ", ".join(map(as_toml, tree)) + "]"
