"""Who calls: a bearer token against the digests of the keys that the records hold."""

from collections.abc import Mapping

from infra.records import ApiKey, key_digest


def caller(authorization: str, keys: Mapping[str, ApiKey]) -> ApiKey | None:
    """The caller whose bearer token this is. Only digests are compared, so timing tells nothing about a key."""
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        return None
    return keys.get(key_digest(token.strip()))
