"""From a pydantic model to a structural OpenAPI v3 schema that the Kubernetes API server accepts.

Guarantees: no ``$ref``, ``title``, ``anyOf`` with null or ``additionalProperties: false`` is left; every string, list
and map has an upper bound, or generation fails with the path of the one that lacks it, because the API server prices
CEL rules by those bounds and refuses what it cannot bound. Not a general converter: it knows what our models use.
"""

from typing import Any, Final

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

_KEEP: Final = frozenset(
    {
        "type", "properties", "required", "items", "enum", "default", "description", "format", "pattern", "maxLength",
        "minLength", "maxItems", "minItems", "maxProperties", "minProperties", "maximum", "minimum",
        "additionalProperties",
    }
)  # fmt: skip


class SchemaError(ValueError):
    """Raise when a model cannot become a structural schema; the message starts with the field's path."""


class Model(BaseModel):
    """Base of all parts of a custom resource: camelCase on the wire, unknown fields ignored (as pruning does)."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)


def with_rules(*rules: dict[str, Any]) -> ConfigDict:
    """``model_config`` of a part whose schema has CEL rules that span its fields."""
    extra: dict[str, Any] = {"x-kubernetes-validations": list(rules)}
    return ConfigDict({**Model.model_config, "json_schema_extra": extra})


def rule(expression: str, message: str, *, field: str | None = None, reason: str | None = None) -> dict[str, Any]:
    """One CEL validation rule. ``field`` is the JSON path that the API server names in its error."""
    out: dict[str, Any] = {"rule": expression, "message": message}
    if field is not None:
        out["fieldPath"] = field
    if reason is not None:
        out["reason"] = reason
    return out


def list_map(*keys: str) -> dict[str, Any]:
    """Schema extra for a list of named things: server-side apply merges by key, duplicates are refused."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


def list_set() -> dict[str, Any]:
    """Schema extra for a list of scalars without duplicates."""
    return {"x-kubernetes-list-type": "set"}


def structural(model: type[BaseModel]) -> dict[str, Any]:
    """The structural schema of a model, with descriptions, bounds, defaults and ``x-kubernetes-*`` extensions."""
    raw = model.model_json_schema(by_alias=True, mode="validation")
    definitions = raw.pop("$defs", {})
    return _convert(raw, definitions, model.__name__)


def _convert(node: dict[str, Any], definitions: dict[str, Any], path: str) -> dict[str, Any]:
    node = dict(node)
    if "$ref" in node:
        target = definitions[node.pop("$ref").rpartition("/")[2]]
        node = {**target, **node}
    if "anyOf" in node:
        # Optional[X] is X here: absent and null mean the same to the API server after pruning of nulls.
        variants = [v for v in node.pop("anyOf") if v.get("type") != "null"]
        if len(variants) != 1:
            raise SchemaError(f"{path}: a union cannot be a structural schema")
        return _convert({**variants[0], **node}, definitions, path)
    if "const" in node:
        node["enum"] = [node.pop("const")]
    out = {key: value for key, value in node.items() if key in _KEEP or key.startswith("x-kubernetes-")}
    if out.get("default", ...) is None or out.get("default") in ([], {}, ""):
        # A default that only says "nothing" would be written into every object that GitOps compares.
        del out["default"]
    if out.get("x-kubernetes-int-or-string"):
        # `cpu: 4` and `cpu: "4"` are the same quantity; the pattern speaks of strings, the minimum of integers.
        del out["type"]
        return {**out, "anyOf": [{"type": "integer"}, {"type": "string"}], "minimum": 0}
    kind = out.get("type")
    if kind == "object":
        _convert_object(out, definitions, path)
    elif kind == "array":
        if "maxItems" not in out:
            raise SchemaError(f"{path}: a list needs maxItems")
        out["items"] = _convert(out["items"], definitions, f"{path}[]")
        out["items"].pop("description", None)
    elif kind == "string" and "enum" not in out and "maxLength" not in out:
        if out.get("format") != "date-time":
            raise SchemaError(f"{path}: a string needs maxLength")
        out["maxLength"] = 64
    elif kind == "integer":
        out["format"] = "int64"
        if "maximum" not in out:
            raise SchemaError(f"{path}: an integer needs a maximum")
    return out


def _convert_object(out: dict[str, Any], definitions: dict[str, Any], path: str) -> None:
    properties = out.pop("properties", None)
    additional = out.pop("additionalProperties", None)
    if properties:
        out["properties"] = {name: _convert(value, definitions, f"{path}.{name}") for name, value in properties.items()}
        for name, value in out["properties"].items():
            if "description" not in value:
                raise SchemaError(f"{path}.{name}: a field needs a description")
    elif isinstance(additional, dict):
        if "maxProperties" not in out:
            raise SchemaError(f"{path}: a map needs maxProperties")
        out["additionalProperties"] = _convert(additional, definitions, f"{path}.*")
    elif not out.get("x-kubernetes-preserve-unknown-fields"):
        raise SchemaError(f"{path}: an object needs properties")
