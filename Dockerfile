# One image for every part: `mesh api`, `mesh worker`, `mesh beat`, `mesh migrate`. See docker-compose.yml.
ARG PYTHON=python:3.11.14-slim-trixie

FROM ghcr.io/astral-sh/uv:0.13.6 AS uv

FROM ${PYTHON} AS build
COPY --from=uv /uv /usr/local/bin/uv
ENV UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy
WORKDIR /app
COPY pyproject.toml uv.lock ./
RUN uv sync --frozen --no-dev --no-install-project
COPY README.md ./
COPY api api
COPY workers workers
COPY mesh mesh
COPY migrations migrations
# A .pth file can run code whenever Python starts; nothing installed here brings one (scripts/bootstrap tells more).
RUN uv sync --frozen --no-dev --no-editable \
    && test -z "$(find .venv -name '*.pth' ! -name _virtualenv.pth)" \
    && python -m compileall -q .venv/lib

FROM ${PYTHON}
RUN useradd --system --uid 10001 --create-home mesh
COPY --from=build /app/.venv /app/.venv
ENV PATH=/app/.venv/bin:$PATH PYTHONUNBUFFERED=1
USER mesh
WORKDIR /home/mesh
EXPOSE 8080
ENTRYPOINT ["mesh"]
CMD ["--help"]
