"""Reads a question's body and headers. FastAPI's resolving of dependencies took a seventh of a request's time."""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any, get_type_hints

from fastapi import Header, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field, ValidationError


class WishHeaders(BaseModel):
    """What the headers of a question may ask for."""

    model_config = ConfigDict(frozen=True, alias_generator=lambda field: field.replace("_", "-"))

    x_sluice_release: str = Field("", pattern="^[0-9a-f]{64}$|^$")
    x_sluice_request_key: str = Field("", max_length=128)
    x_sluice_deadline_ms: int | None = Field(None, ge=1, le=86_400_000)
    idempotency_key: str = Field("", max_length=255)


Wishes = Annotated[WishHeaders, Header()]
NO_WISHES = WishHeaders()
NAMES = {str(field.alias).encode() for field in WishHeaders.model_fields.values()}


class QuestionRoute(APIRoute):
    """A path whose endpoint takes `(body, request, wishes)`; OpenAPI reads them from its signature as ever.

    Raises: RequestValidationError as FastAPI does, for a body or a header that does not fit.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See APIRoute."""
        endpoint, model = self.endpoint, get_type_hints(self.endpoint)["body"]

        async def handle(request: Request) -> Response:
            response: Response = await endpoint(await read_body(request, model), request, read_wishes(request))
            return response

        return handle


async def read_body(request: Request, model: type[BaseModel]) -> BaseModel:
    """The body, which has to be JSON and to say so."""
    if not _is_json(request.headers.get("content-type", "")):
        raise RequestValidationError([{"loc": ("body",), "msg": "send JSON, with Content-Type: application/json"}])
    try:
        return model.model_validate_json(await request.body())
    except ValidationError as error:
        raise _refused(error, "body") from error


def read_wishes(request: Request) -> WishHeaders:
    """What the headers ask for; of a header that is sent twice the last."""
    sent = {name.decode(): value.decode("latin-1") for name, value in request.scope["headers"] if name in NAMES}
    try:
        return WishHeaders.model_validate(sent) if sent else NO_WISHES
    except ValidationError as error:
        raise _refused(error, "header") from error


def _is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def _refused(error: ValidationError, place: str) -> RequestValidationError:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return RequestValidationError([{**one, "loc": (place, *one["loc"])} for one in found])
