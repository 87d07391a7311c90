"""Tests: unit (mirrors the code, no sockets), integration (real services), e2e (from outside), load, chaos."""
