"""Holds answers against what rest-api.yml promises."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

import clawdspace_ext

SPEC: dict[str, Any] = yaml.safe_load((Path(clawdspace_ext.__file__).parent / "rest-api.yml").read_text())


def operations() -> set[tuple[str, str]]:
    """Every (method, path) of the document."""
    verbs = {"get", "post", "put", "patch", "delete", "head"}
    return {(verb.upper(), path) for path, item in SPEC["paths"].items() for verb in item.keys() & verbs}


def check_answer(method: str, url: str, status: int, body: object) -> None:
    """Fail unless the document promises such an answer; what it does not know must be an Error."""
    found = _operation(method, url.partition("?")[0])
    if found is None:
        assert status >= 400, f"{method} {url} works and is not in rest-api.yml"
        schema: dict[str, Any] = {"$ref": "#/components/schemas/Error"}
    else:
        answers = found["responses"]
        assert str(status) in answers or status >= 400, f"{method} {url} answers {status}, which is not in rest-api.yml"
        schema = _schema(answers.get(str(status), answers["default"]))
    _validator().evolve(schema=_absolute(schema)).validate(body)


def check_part(pointer: str, body: object) -> None:
    """Fail unless ``body`` is what the document has at a schema's name."""
    _validator().evolve(schema={"$ref": f"urn:spec#/components/schemas/{pointer}"}).validate(body)


def _operation(method: str, url: str) -> dict[str, Any] | None:
    for path, item in SPEC["paths"].items():
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", path) + "/?", url) and method.lower() in item:
            found: dict[str, Any] = item[method.lower()]
            return found
    return None


def _schema(response: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in response:
        response = SPEC["components"]["responses"][response["$ref"].rpartition("/")[2]]
    schema: dict[str, Any] = response["content"]["application/json"]["schema"]
    return schema


def _absolute(value: Any) -> Any:
    """Point references at the document, from wherever the schema was taken out of it."""
    if isinstance(value, dict):
        return {
            key: f"urn:spec{part}" if key == "$ref" and part.startswith("#") else _absolute(part)
            for key, part in value.items()
        }
    return [_absolute(part) for part in value] if isinstance(value, list) else value


@cache
def _validator() -> Draft202012Validator:
    document = Resource(contents=SPEC, specification=DRAFT202012)
    return Draft202012Validator({}, registry=Registry().with_resource("urn:spec", document))
