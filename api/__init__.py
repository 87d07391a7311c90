"""The REST interface: parse, authenticate, call one mesh service, answer."""
