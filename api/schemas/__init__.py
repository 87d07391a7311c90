"""Requests and answers as pydantic models, compiled once; they are also the document of the interface."""
