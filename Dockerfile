# The server of one gallery on a machine without a GPU:
#   docker build -t cies .
#   docker run -p 8008:8008 -e CIES_TOKEN=... -v /srv/shop.cies:/gallery:ro cies
FROM python:3.11-slim

WORKDIR /opt/cies
COPY pyproject.toml constraints.txt README.md CHANGELOG.md LICENSE ./
COPY cies cies
COPY indexes indexes
COPY ingest ingest
COPY query query
COPY eval eval
COPY configs configs
# The CPU build of torch first: the one on PyPI brings CUDA.
RUN pip install --no-cache-dir -c constraints.txt torch \
      --index-url https://download.pytorch.org/whl/cpu \
      --extra-index-url https://pypi.org/simple \
 && pip install --no-cache-dir -c constraints.txt '.[cpu,serve]'

RUN useradd --create-home cies
USER cies
EXPOSE 8008
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD \
  python -c "import urllib.request as u; u.urlopen('http://127.0.0.1:8008/api/v1/health', timeout=4)"
ENTRYPOINT ["cies", "serve", "-g", "/gallery", "--host", "0.0.0.0"]
