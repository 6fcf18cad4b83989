"""Writes roles/*/README.md and docs/reference.md from the sources' own documentation: python docs/generate.py."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent


def text(value: Any) -> str:
    """Ansible's markup (O(), V(), M(), C()) as Markdown, on one line."""
    parts = value if isinstance(value, list) else [value or ""]
    line = " ".join(" ".join(str(part).split()) for part in parts)
    return re.sub(r"\b(?:[OVMCEIBP]|RV)\(([^()]*(?:\([^()]*\)[^()]*)*)\)", r"`\1`", line)


def cell(value: Any) -> str:
    return text(value).replace("|", "\\|")


def default(option: dict[str, Any]) -> str:
    if "default" not in option:
        return "required" if option.get("required") else ""
    return f"`{json.dumps(option['default'])}`".replace("|", "\\|")


def rows(options: dict[str, Any], prefix: str = "") -> list[str]:
    """A table row for each option, and for each of its own options."""
    found = []
    for name, option in options.items():
        kind = option.get("type", "str") + (f" of {option['elements']}" if "elements" in option else "")
        choices = f" One of {', '.join(f'`{choice}`' for choice in option['choices'])}." if "choices" in option else ""
        found.append(f"| `{prefix}{name}` | {kind} | {default(option)} | {cell(option.get('description'))}{choices} |")
        found += rows(option.get("options") or option.get("suboptions") or {}, f"{prefix}{name}.")
    return found


def table(options: dict[str, Any]) -> list[str]:
    return ["| name | type | default | meaning |", "|---|---|---|---|", *rows(options)]


def role(folder: Path) -> str:
    spec = yaml.safe_load((folder / "meta/argument_specs.yml").read_text())["argument_specs"]["main"]
    lines = [f"# {folder.name}", "", f"{text(spec['short_description'])}.", ""]
    lines += [text(part) for part in spec["description"]] + [""]
    return "\n".join(
        [*lines, *table(spec["options"]), "", "Written by `docs/generate.py` from `meta/argument_specs.yml`.", ""]
    )


def strings(body: list[ast.stmt]) -> dict[str, str]:
    """The names that a module or a class gives literal strings."""
    return {
        node.targets[0].id: str(node.value.value)
        for node in body
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.targets[0], ast.Name)
    }


def fragment(name: str) -> dict[str, Any]:
    """Options of one of the collection's own documentation fragments; others are only named."""
    if not name.startswith("deepmlhub.inference."):
        return {}
    base, _dot, part = name.removeprefix("deepmlhub.inference.").partition(".")
    body = ast.parse((ROOT / f"plugins/doc_fragments/{base}.py").read_text()).body
    texts = strings(next(item for item in body if isinstance(item, ast.ClassDef)).body)
    options: dict[str, Any] = yaml.safe_load(texts[part.upper() or "DOCUMENTATION"]).get("options") or {}
    return options


def reference() -> str:
    lines = ["# Reference of the modules", "", "Written by `docs/generate.py` from the modules' own documentation.", ""]
    for module in sorted((ROOT / "plugins/modules").glob("*.py")):
        found = strings(ast.parse(module.read_text()).body)
        doc = yaml.safe_load(found["DOCUMENTATION"])
        fragments = doc.get("extends_documentation_fragment") or []
        fragments = [fragments] if isinstance(fragments, str) else fragments
        options = {**(doc.get("options") or {})}
        for name in fragments:
            options.update(fragment(name))
        lines += [f"## deepmlhub.inference.{doc['module']}", "", f"{text(doc['short_description'])}.", ""]
        description = doc["description"]
        lines += [f"- {text(part)}" for part in ([description] if isinstance(description, str) else description)] + [""]
        lines += [*table(options), ""]
        if "kubernetes.core.k8s_auth_options" in fragments:
            lines += ["And the options that log in to a cluster, as in `kubernetes.core`.", ""]
        lines += ["```yaml", found["EXAMPLES"].strip(), "```", ""]
        lines += ["| returned | type | meaning |", "|---|---|---|"]
        for key, value in (yaml.safe_load(found.get("RETURN") or "") or {}).items():
            lines.append(f"| `{key}` | {value['type']} | {cell(value['description'])} |")
        lines.append("")
    return "\n".join(lines)


def troubleshooting() -> str:
    """One entry per rule of the verdict, in the words that a user sees."""
    tree = ast.parse((ROOT / "plugins/module_utils/verdict.py").read_text()).body
    rules = next(
        node.value
        for node in tree
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "RULES"
    )
    assert isinstance(rules, ast.Tuple)
    lines = [
        "# Troubleshooting",
        "",
        "Written by `docs/generate.py` from the rules of the verdict: what a failed run says, and",
    ]
    lines += [
        "what to do. The same line names the pod, and brings the exit code and the last log lines where there are any."
    ]
    seen = ""
    for rule in rules.elts:
        assert isinstance(rule, ast.Call)
        cause, summary, hint = (ast.literal_eval(rule.args[index]) for index in (0, 4, 5))
        if cause != seen:
            lines += ["", f"## {cause}", ""]
            seen = cause
        lines.append(f"- **{summary[:1].upper()}{summary[1:]}.** {hint.rstrip('.')}.")
    return "\n".join([*lines, ""])


def pages() -> dict[Path, str]:
    """Every generated page and what it should hold."""
    roles = sorted(path for path in (ROOT / "roles").iterdir() if (path / "meta/argument_specs.yml").exists())
    return {
        **{path / "README.md": role(path) for path in roles},
        ROOT / "docs/reference.md": reference(),
        ROOT / "docs/troubleshooting.md": troubleshooting(),
    }


if __name__ == "__main__":
    for path, wanted in pages().items():
        path.write_text(wanted)
