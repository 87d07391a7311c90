"""Errors: what every refusal looks like, as RFC 9457 has it; made in api.errors."""

from pydantic import BaseModel, Field


class Fault(BaseModel):
    """One fault of a request."""

    pointer: str = Field(description="JSON Pointer (RFC 6901) into the body, or to a query parameter")
    code: str
    detail: str


class Problem(BaseModel):
    """Why a request was refused; never repeats what was refused."""

    type: str = Field(description="always about:blank: `status` and `code` say what it is")
    title: str
    status: int
    detail: str
    instance: str = Field(description="the path that was asked for; empty if that could not be read")
    code: str = Field(description="stable, for programs")
    request_id: str = Field(description="stands in the header X-Request-ID as well, and in the log")
    errors: list[Fault] = Field([], description="each fault, where that is known")
