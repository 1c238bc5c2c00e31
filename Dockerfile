# One image for every process of Perennial: `serve`, `worker` and `migrate` are verbs of the same command.

FROM python:3.11-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/perennial
WORKDIR /source
COPY . .
# The versions that were tested together; neither the embedded stack's packages nor the tests' are installed.
RUN /opt/perennial/bin/pip install -c constraints.txt . \
 && /opt/perennial/bin/pip uninstall -y pip

FROM python:3.11-slim
RUN groupadd --gid 10001 perennial \
 && useradd --uid 10001 --gid perennial --create-home --home-dir /var/lib/perennial --shell /usr/sbin/nologin perennial \
 && install -d -o perennial -g perennial /var/lib/perennial/erp
COPY --from=build /opt/perennial /opt/perennial
ENV PATH=/opt/perennial/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    API_HOST=0.0.0.0 \
    ERP_FOLDER=/var/lib/perennial/erp
USER 10001:10001
WORKDIR /var/lib/perennial
EXPOSE 8080
# For `serve`; docker-compose.yml gives the worker its own and the one-shot verbs none.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/readyz', timeout=4)"]
ENTRYPOINT ["perennial"]
CMD ["serve"]
